"""Changes of images at random, on the device, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.nn import functional

from inference.settings import require_integers


class Augmentation(Protocol):
    """Changes the inputs of a batch, and not their labels. Checkpoints know it by its ``repr``, or its name."""

    def __call__(
        self, x: Shaped[Tensor, "member batch *input"], generators: Sequence[torch.Generator]
    ) -> Shaped[Tensor, "member batch *input"]:
        """The changed inputs, by random numbers from the generators, one a member, which are on the CPU."""


@dataclass(frozen=True)
class FlipsAndCrops:
    """Images are reflected left to right in one case of two, and shifted by up to ``padding`` pixels each way, with
    zeros where nothing was.

    Each epoch sees each example once, changed: an engine's loss is then -log p(theta) - sum_i E log p(y_i | t(x_i),
    theta), the expectation over changes t. N examples count as N, however many changes there are, so that no
    likelihood is claimed for images that were not observed.

    Parameters
    ----------
    padding : the largest shift, in pixels, at least 0.
    flips : whether to reflect.

    Examples
    --------
    >>> DeepEnsemble(members=5, epochs=100, augment=FlipsAndCrops(padding=4)).fit(model, data.train, seed=0)
    """

    padding: int = 4
    flips: bool = True

    def __post_init__(self) -> None:
        require_integers(self, padding=0)

    def __call__(
        self, x: Shaped[Tensor, "member batch channels height width"], generators: Sequence[torch.Generator]
    ) -> Shaped[Tensor, "member batch channels height width"]:
        """See Augmentation. Raises ValueError for inputs that are no images."""
        if x.ndim != 5:
            raise ValueError(
                f"FlipsAndCrops changes images (batch, channels, height, width), got x of shape {tuple(x.shape[1:])}."
            )
        count, (height, width) = x.shape[1], x.shape[3:]
        draws = torch.stack([torch.rand(3, count, generator=generator) for generator in generators]).to(x.device)
        flip, down, right = draws.unbind(1)  # (member, batch)
        rows = torch.arange(height, device=x.device) + self._shift(down)[..., None]
        columns = torch.arange(width, device=x.device) + self._shift(right)[..., None]
        if self.flips:
            columns = torch.where((flip < 0.5)[..., None], columns.flip(-1), columns)
        padded = functional.pad(x, (self.padding,) * 4)
        index = (rows[..., :, None] * padded.shape[-1] + columns[..., None, :]).flatten(2)
        flat = padded.flatten(3)
        return flat.gather(3, index[:, :, None].expand(*flat.shape[:3], -1)).unflatten(3, (height, width))

    def _shift(self, uniform: Tensor) -> Tensor:
        """0 to 2 padding, each as likely."""
        return (uniform * (2 * self.padding + 1)).long()
