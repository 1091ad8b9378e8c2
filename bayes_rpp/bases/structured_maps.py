"""Orthonormal bases of structured matrices: masks, bands, blocks and low frequencies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy
import torch
from jaxtyping import Bool
from torch import Tensor

from bayes_rpp.bases.dense import KroneckerBasis
from bayes_rpp.bases.equivariant import EquivariantBasis
from bayes_rpp.bases.orbit import OrbitBasis


def entry_maps(mask: Bool[np.ndarray | Tensor, "m n"]) -> EquivariantBasis:
    """The maps (m, n) that vanish outside a mask.

    Examples
    --------
    >>> entry_maps(torch.eye(3, dtype=torch.bool)).rank
    3
    """
    flat = np.asarray(mask, dtype=bool)
    if flat.ndim != 2:
        raise ValueError(f"mask must have shape (m, n), got {flat.shape}.")
    flat = flat.reshape(-1)
    return OrbitBasis(np.where(flat, np.cumsum(flat) - 1, -1))


def banded_maps(m: int, n: int, width: int) -> EquivariantBasis:
    """Local maps (m, n): outputs and inputs are m and n equal cells of one line, and an entry is free where the centre
    of the output's cell is at most ``width`` input cells away from that of the input's.

    For square maps these are the band matrices with |i - j| <= width.

    Examples
    --------
    >>> banded_maps(4, 4, 1).rank
    10
    """
    if width < 0:
        raise ValueError(f"width must not be negative, got {width}.")
    rows, columns = np.arange(m)[:, None], np.arange(n)[None, :]
    return entry_maps(np.abs((rows + 0.5) * n / m - (columns + 0.5)) <= width + 1e-9)


def block_diagonal_maps(row_sizes: Sequence[int], column_sizes: Sequence[int]) -> EquivariantBasis:
    """Maps from the k-th block of inputs to the k-th block of outputs alone.

    Examples
    --------
    >>> block_diagonal_maps([2, 1], [3, 4]).rank
    10
    """
    if len(row_sizes) != len(column_sizes):
        raise ValueError(f"got {len(row_sizes)} blocks of rows and {len(column_sizes)} of columns; need as many.")
    rows = np.repeat(np.arange(len(row_sizes)), row_sizes)
    columns = np.repeat(np.arange(len(column_sizes)), column_sizes)
    return entry_maps(rows[:, None] == columns[None, :])


def low_frequency_maps(m: int, n: int, frequencies: int) -> EquivariantBasis:
    """Smooth maps (m, n): those made of the lowest cosines of the discrete cosine transform, along rows and columns.

    Examples
    --------
    >>> low_frequency_maps(8, 8, 3).rank
    9
    """
    if frequencies < 1:
        raise ValueError(f"frequencies must be at least 1, got {frequencies}.")
    cosines = [
        torch.from_numpy(scipy.fft.dct(np.eye(size), norm="ortho", axis=0)[:frequencies].T.copy()) for size in (m, n)
    ]
    return KroneckerBasis(*cosines)
