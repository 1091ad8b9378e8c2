"""What a data set of labelled images consists of."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Int, UInt8
from torch import Tensor


class LabelledImages(NamedTuple):
    """Images and their classes: itself a pair (x, y) that every engine takes."""

    x: UInt8[Tensor, "batch channels height width"]
    y: Int[Tensor, " batch"]


class ImageData(NamedTuple):
    """Images to train on and to test on.

    Examples
    --------
    >>> data = digits()
    >>> data.train.x.shape, data.image, data.classes
    (torch.Size([1437, 1, 8, 8]), (1, 8, 8), ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9'))
    """

    train: LabelledImages
    test: LabelledImages
    classes: tuple[str, ...]

    @property
    def image(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.train.x.shape[1:]
        return channels, height, width
