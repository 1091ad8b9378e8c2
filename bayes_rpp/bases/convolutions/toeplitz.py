"""Convolutions as maps between flattened images: a subspace with one orthonormal basis map for each tap."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.bases.dense import StructuredBasis

PaddingMode = Literal["zeros", "circular"]
Pair = tuple[int, int]


class ToeplitzBasis(StructuredBasis):
    """The maps of convolutions from images (c_in, height, width) to (c_out, height', width'), both flattened.

    A tap of the kernel is a map whose entries are 1 at the k pairs of positions that it connects, so that the basis map
    is the tap divided by sqrt(k): the kernel of coordinates beta is beta / sqrt(k). Taps that connect none, as those
    beside an image of one row, have no coordinate.

    Parameters
    ----------
    in_channels, out_channels : c_in and c_out.
    image : (height, width) of the inputs.
    kernel : (height, width) of the kernel.
    stride, padding : see ``torch.nn.Conv2d``, along both axes.
    padding_mode : "zeros", or "circular" for images on a torus.

    Attributes
    ----------
    image_out : (height', width').
    taps : (count, 2), the places in the kernel of the taps that have coordinates; the coordinates are ordered as
        (c_out, c_in, tap).

    Raises
    ------
    ValueError
        If a number is not positive (or the padding negative), the kernel does not fit on the padded image, lands on
        padding alone, or is larger than a circular image.

    Examples
    --------
    >>> basis = ToeplitzBasis(3, 8, image=(16, 16), kernel=(3, 3), padding=1)
    >>> basis.rank, basis.size == (8 * 256) * (3 * 256)
    (216, True)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        image: Pair,
        kernel: Pair,
        stride: int = 1,
        padding: int = 0,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        _check(in_channels, out_channels, image, kernel, stride, padding, padding_mode)
        self.in_channels, self.out_channels, self.image, self.kernel = in_channels, out_channels, image, kernel
        self.stride, self.padding, self.padding_mode = stride, padding, padding_mode
        self.image_out = tuple((n + 2 * padding - k) // stride + 1 for n, k in zip(image, kernel, strict=True))
        sources = [
            _sources(n, out, k, stride, padding, padding_mode)
            for n, out, k in zip(image, self.image_out, kernel, strict=True)
        ]
        # (tap row, tap column, output row, output column): the input position, or -1
        rows, columns = sources[0][:, None, :, None], sources[1][None, :, None, :]
        source = np.where((rows >= 0) & (columns >= 0), rows * image[1] + columns, -1).reshape(np.prod(kernel), -1)
        tap, output = np.nonzero(source >= 0)
        counts = np.bincount(tap, minlength=len(source))
        self._counts = counts[counts > 0].tolist()
        if not self._counts:
            raise ValueError(
                f"no tap of a kernel of {kernel} with stride {stride} lands on an image of {image} padded by {padding}."
            )
        self.taps = torch.from_numpy(np.stack(np.unravel_index(np.flatnonzero(counts), kernel), axis=1))
        number = np.cumsum(counts > 0) - 1
        pairs = in_channels * out_channels
        tables = [number[tap], output, source[tap, output]]
        super().__init__(
            pairs * int(np.prod(self.image_out)) * int(np.prod(image)),
            pairs * len(self._counts),
            [*map(torch.from_numpy, tables), torch.tensor(self._counts, dtype=torch.float64).rsqrt()],
        )

    def kernels(self, beta: Float[Tensor, "*batch rank"]) -> Float[Tensor, "*batch c_out c_in kernel_h kernel_w"]:
        """The kernels of coordinates, as ``torch.nn.functional.conv2d`` takes them."""
        scaled = self._by_channels(beta) * self._like(beta)[3]
        result = beta.new_zeros(*scaled.shape[:-1], self.kernel[0] * self.kernel[1])
        places = self.taps[:, 0] * self.kernel[1] + self.taps[:, 1]
        return result.index_copy(-1, places.to(beta.device), scaled).unflatten(-1, self.kernel)

    def _by_channels(self, beta: Tensor) -> Tensor:
        return beta.unflatten(-1, (self.out_channels, self.in_channels, len(self._counts)))

    def _by_positions(self, vector: Tensor) -> Tensor:
        """(*batch, c_out, output position, c_in, input position)."""
        positions = (self.image_out[0] * self.image_out[1], self.image[0] * self.image[1])
        return vector.unflatten(-1, (self.out_channels, positions[0], self.in_channels, positions[1]))

    def _entries(self, beta: Tensor) -> Tensor:
        """The entries that taps connect, (entry, *batch, c_out, c_in)."""
        tap, _, _, scale = self._like(beta)
        return (self._by_channels(beta) * scale).movedim(-1, 0).index_select(0, tap)

    def _expand(self, beta: Tensor) -> Tensor:
        _, output, source, _ = self._like(beta)
        result = self._by_positions(beta.new_zeros(*beta.shape[:-1], self.size))
        result[..., output, :, source] = self._entries(beta)
        return result.flatten(-4)

    def _expand_onto(self, beta: Tensor, vector: Tensor) -> Tensor:
        _, output, source, _ = self._like(beta)
        result = self._by_positions(vector.clone())
        result[..., output, :, source] += self._entries(beta)
        return result.flatten(-4)

    def _coordinates(self, vector: Tensor) -> Tensor:
        _, output, source, scale = self._like(vector)
        entries = self._by_positions(vector)[..., output, :, source]
        sums = torch.stack([part.sum(0) for part in entries.split(self._counts)], dim=-1)
        return (sums * scale).flatten(-3)


def _sources(size: int, out: int, kernel: int, stride: int, padding: int, mode: PaddingMode) -> np.ndarray:
    """Along one axis, (tap, output): the input position that a tap takes to an output, -1 outside the image."""
    source = np.arange(out)[None, :] * stride + np.arange(kernel)[:, None] - padding
    if mode == "circular":
        return source % size
    return np.where((source >= 0) & (source < size), source, -1)


def _check(
    in_channels: int, out_channels: int, image: Pair, kernel: Pair, stride: int, padding: int, mode: PaddingMode
) -> None:
    numbers = {"in_channels": in_channels, "out_channels": out_channels, "stride": stride}
    numbers |= {
        f"{name}[{k}]": size for name, pair in (("image", image), ("kernel", kernel)) for k, size in enumerate(pair)
    }
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be positive, got {number}.")
    if padding < 0:
        raise ValueError(f"padding must not be negative, got {padding}.")
    if mode not in get_args(PaddingMode):
        raise ValueError(f"padding_mode must be 'zeros' or 'circular', got {mode!r}.")
    for size, width in zip(image, kernel, strict=True):
        if width > size + 2 * padding:
            raise ValueError(f"a kernel of {kernel} does not fit on an image of {image} padded by {padding}.")
        if mode == "circular" and max(width, padding) > size:
            raise ValueError(f"a kernel of {kernel} with padding {padding} winds around a circular image of {image}.")
