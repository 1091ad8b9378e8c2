"""Convolutions of images of one size, and constant images as biases: the bases of both, and how they are applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from bayes_rpp.bases.convolutions.composed import ComposedBasis, ContrastBasis
from bayes_rpp.bases.convolutions.planar_groups import Field, PlanarGroup, channel_orbits, planar_maps
from bayes_rpp.bases.convolutions.toeplitz import PaddingMode, ToeplitzBasis
from bayes_rpp.bases.dense import StructuredBasis
from bayes_rpp.bases.orbit import OrbitBasis
from bayes_rpp.networks.layers.fan_in import ACTIVATED_SQUARE
from bayes_rpp.networks.layers.linear import initial_coordinates
from bayes_rpp.networks.layers.roles import StructuredPathway

Size = int | tuple[int, int]

_MATRIX_POSITIONS = 16  # up to so many, a matrix that is made anew is faster than a convolution and a matrix


@dataclass(frozen=True)
class ImageMap:
    """What a convolution is, see RPPConv2d for its arguments.

    Attributes
    ----------
    bases : of the weight's structured pathways: all convolutions, or those that are equivariant under the group, then
        the others.
    bias_bases : of the bias's, likewise.
    """

    in_channels: int
    out_channels: int
    kernel_size: Size
    image: Size
    stride: int = 1
    padding: int = 0
    padding_mode: PaddingMode = "zeros"
    group: PlanarGroup | None = None
    fields: tuple[Field, Field] = ("scalar", "scalar")

    def __str__(self) -> str:
        group = f", group {self.group}" if self.group else ""
        channels = f"{self.in_channels} -> {self.out_channels} channels"
        return f"{channels} of images {self.image}, kernel {self.kernel_size}{group}"

    @cached_property
    def taps(self) -> ToeplitzBasis:
        """All convolutions."""
        return ToeplitzBasis(
            self.in_channels,
            self.out_channels,
            image=as_pair(self.image, "image"),
            kernel=as_pair(self.kernel_size, "kernel_size"),
            stride=self.stride,
            padding=self.padding,
            padding_mode=self.padding_mode,
        )

    @cached_property
    def constants(self) -> OrbitBasis:
        """Images that are constant in each channel."""
        return OrbitBasis(np.repeat(np.arange(self.out_channels), self.positions))

    @cached_property
    def bases(self) -> tuple[StructuredBasis, ...]:
        """See above."""
        return (self.taps,) if self.group is None else planar_maps(self.taps, self.group, *self.fields)

    @cached_property
    def bias_bases(self) -> tuple[StructuredBasis, ...]:
        """See above."""
        if self.group is None:
            return (self.constants,)
        orbits = channel_orbits(self.out_channels, self.fields[1], self.group)
        return tuple(ComposedBasis(self.constants, part) for part in (OrbitBasis(orbits), ContrastBasis(orbits)))

    @property
    def names(self) -> list[str]:
        """What the structured pathways are called."""
        return ["convolution"] if self.group is None else [self.group, "convolution"]

    @property
    def shape_in(self) -> tuple[int, int, int]:
        """(c_in, height, width)."""
        return self.in_channels, *self.taps.image

    @property
    def shape_out(self) -> tuple[int, int, int]:
        """(c_out, height', width')."""
        height, width = self.taps.image_out
        return self.out_channels, height, width

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n), the sizes of flattened outputs and inputs."""
        return prod(self.shape_out), prod(self.shape_in)

    @property
    def positions(self) -> int:
        """How many each channel of the outputs has."""
        return prod(self.taps.image_out)

    @property
    def as_matrix(self) -> bool:
        """Whether images are so small that the map is better applied as one matrix: with 32 channels, 200 images and
        their gradients, 2.3 times as fast for 2 x 4 positions, 1.2 to 1.4 times for 4 x 4, and slower for 8 x 8.
        """
        return prod(self.taps.image) <= _MATRIX_POSITIONS

    def convolve(
        self,
        images: Float[Tensor, "batch c_in h w"],
        betas: Sequence[Tensor | None],
        bias_betas: Sequence[Tensor | None],
    ) -> Float[Tensor, "batch c_out h_out w_out"]:
        """Convolve with the kernels whose coordinates these are, and add a constant to each channel; None stands for
        coordinates of a pathway without any.
        """
        padding = self.padding
        if self.padding_mode == "circular" and padding:
            images, padding = functional.pad(images, (padding,) * 4, mode="circular"), 0
        taps = _inner_total(self.bases, betas)
        constants = _inner_total(self.bias_bases, bias_betas)
        bias = None if constants is None else constants * self.positions**-0.5
        assert taps is not None
        return functional.conv2d(images, self.taps.kernels(taps), bias, self.stride, padding)

    def flat(self, x: Float[Tensor, "*batch"]) -> tuple[Float[Tensor, "rows n"], tuple[int, ...]]:
        """Images as rows, and the shape of the results: flat images for flat images. Raises ValueError if they are of
        another size.
        """
        (m, n), shape = self.shape, self.shape_in
        if tuple(x.shape[-3:]) == shape:
            return x.reshape(-1, n), (*x.shape[:-3], *self.shape_out)
        if x.shape[-1:] == (n,):
            return x.reshape(-1, n), (*x.shape[:-1], m)
        raise ValueError(
            f"x has shape {tuple(x.shape)}, but images (*batch, {', '.join(map(str, shape))}) are wanted, or flattened "
            f"ones, (*batch, {n})."
        )

    def initial_beta(self) -> Float[Tensor, " rank"]:
        """Coordinates of the first pathway for which outputs have half the mean square of the inputs."""
        return initial_coordinates(self.bases[0], self.shape[0])

    def fan_ins(self, activated: bool) -> tuple[list[StructuredPathway], list[StructuredPathway]]:
        """Of a pathway of rank r, each of the m outputs sums r / m coordinates of maps of norm 1, and the input's mean
        square: one that does not depend on the size of the image.
        """

        def of(bases: Sequence[StructuredBasis], square: float) -> list[StructuredPathway]:
            each = [max(basis.rank, 1) / self.shape[0] for basis in bases]
            return [StructuredPathway(basis, fan * square, fan) for basis, fan in zip(bases, each, strict=True)]

        return of(self.bases, mean_square(activated)), of(self.bias_bases, 1.0)


def mean_square(activated: bool) -> float:
    """What a nonlinearity leaves of a mean square of 1."""
    return ACTIVATED_SQUARE if activated else 1.0


def as_pair(size: Size, name: str) -> tuple[int, int]:
    """(height, width); raises TypeError for anything but one or two integers."""
    pair = size if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2 or not all(isinstance(number, int) for number in pair):
        raise TypeError(f"{name} must be one integer or two, (height, width), got {size!r}.")
    return pair[0], pair[1]


def _inner_total(bases: Sequence[StructuredBasis], values: Sequence[Tensor | None]) -> Tensor | None:
    """The sum of what coordinates in subspaces of a space are in the space's own."""
    parts = [
        basis.inner.expand(value) if isinstance(basis, ComposedBasis) else value
        for basis, value in zip(bases, values, strict=False)
        if value is not None
    ]
    return sum(parts[1:], parts[0]) if parts else None
