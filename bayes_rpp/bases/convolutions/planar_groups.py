"""Quarter turns and reflections of kernels: the convolutions that are equivariant under p4 and p4m.

A turn g of a square image about its centre takes a convolution to the one with the turned kernel, and zero padding to
itself. Channels are either the same in every orientation ("scalar"), or come in fields of one channel for each element
h of the point group, which g takes to the channel g h ("regular"; Cohen & Welling, ICML 2016). Hence a convolution
commutes with the group if K[g o, g i, g t] = K[o, i, t] for output channels o, input channels i and taps t: the kernel
is constant on orbits, and what is left of all convolutions is spanned by contrasts within orbits.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Int

from bayes_rpp.bases.convolutions.composed import ComposedBasis, ContrastBasis
from bayes_rpp.bases.convolutions.toeplitz import ToeplitzBasis
from bayes_rpp.bases.orbit import OrbitBasis
from bayes_rpp.bases.signed_orbits import signed_orbits

PlanarGroup = Literal["p4", "p4m"]
Field = Literal["scalar", "regular"]

ORDERS: dict[PlanarGroup, int] = {"p4": 4, "p4m": 8}


def planar_maps(
    basis: ToeplitzBasis, group: PlanarGroup, field_in: Field, field_out: Field
) -> tuple[ComposedBasis, ComposedBasis]:
    """The convolutions that are equivariant under a planar group, and the other convolutions, orthogonal to them.

    Raises
    ------
    ValueError
        If the images, the kernel or the places of the outputs are not symmetric under quarter turns, or the channels
        are no whole number of fields.
    """
    _check(basis)
    taps = _turned_taps(basis)
    generators = []
    for element, tap_images in enumerate(taps[: len(_generators(group))]):
        images = [
            channel_images(count, field, group, element)
            for count, field in ((basis.out_channels, field_out), (basis.in_channels, field_in))
        ]
        generators.append([(image, np.ones_like(image)) for image in (*images, tap_images)])
    sizes = basis.out_channels, basis.in_channels, len(basis.taps)
    labels = signed_orbits(sizes, generators).labels
    return ComposedBasis(basis, OrbitBasis(labels)), ComposedBasis(basis, ContrastBasis(labels))


def channel_orbits(channels: int, field: Field, group: PlanarGroup) -> Int[np.ndarray, " channel"]:
    """The field of every channel: channels that the group exchanges."""
    return np.arange(channels) // (1 if field == "scalar" else ORDERS[group])


def channel_images(channels: int, field: Field, group: PlanarGroup, generator: int) -> Int[np.ndarray, " channel"]:
    """Where the quarter turn (0) or the reflection (1) takes every channel; raises ValueError if they are no fields."""
    if field == "scalar":
        return np.arange(channels)
    order = ORDERS[group]
    if channels % order:
        raise ValueError(f"{channels} channels are no whole number of fields of {order} channels each, as {group} has.")
    inside = _generators(group)[generator]
    return np.concatenate([order * k + inside for k in range(channels // order)])


def _generators(group: PlanarGroup) -> list[Int[np.ndarray, " element"]]:
    """h -> g h for the generators g, with the elements r^k numbered k and r^k f numbered 4 + k."""
    k = np.arange(4)
    if group == "p4":
        return [(k + 1) % 4]
    # f r^k = r^-k f and f r^k f = r^-k
    return [np.concatenate([(k + 1) % 4, 4 + (k + 1) % 4]), np.concatenate([4 + (-k) % 4, (-k) % 4])]


def _turned_taps(basis: ToeplitzBasis) -> list[Int[np.ndarray, " tap"]]:
    """Where the quarter turn (row, column) -> (width - 1 - column, row) and the reflection of columns take each tap."""
    size, places = basis.kernel[0], basis.taps.numpy()
    number = np.full(basis.kernel, -1)
    number[places[:, 0], places[:, 1]] = np.arange(len(places))
    rows, columns = places.T
    return [number[size - 1 - columns, rows], number[rows, size - 1 - columns]]


def _check(basis: ToeplitzBasis) -> None:
    for name, (height, width) in (("images", basis.image), ("kernels", basis.kernel)):
        if height != width:
            raise ValueError(f"quarter turns need square {name}, got {height} x {width}.")
    if (basis.image[0] + 2 * basis.padding - basis.kernel[0]) % basis.stride:
        raise ValueError(
            f"a stride of {basis.stride} on an image of {basis.image[0]} padded by {basis.padding} takes places that "
            f"lie not symmetrically about its centre for a kernel of {basis.kernel[0]}: the convolution has no quarter "
            "turns. Choose them so that stride divides image + 2 padding - kernel."
        )
