"""Orthonormal bases for the pathways of a layer: chains of groups, locality, blocks, low frequencies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.fft import dct
from torch import Tensor

from bayes_rpp.bases import SMALL_MATRIX, EquivariantBasis, equivariant_maps
from bayes_rpp.block_basis import BlockBasis
from bayes_rpp.invariants import canonical_columns, invariant_orbits, invariant_vectors
from bayes_rpp.matrix_group import Group
from bayes_rpp.null_space import check_basis_bytes
from bayes_rpp.orbit_basis import OrbitBasis
from bayes_rpp.pieces import Piece, dual_piece
from bayes_rpp.representations import Rep, Run, Scalar
from bayes_rpp.restriction import restrict
from bayes_rpp.signed_orbits import orbit_increment
from bayes_rpp.structured_bases import DenseBasis, KroneckerBasis


def chain_maps(rep_in: Rep, rep_out: Rep, groups: Sequence[Group]) -> tuple[EquivariantBasis, ...]:
    """Orthogonal increments of equivariant maps along a chain of groups G > H > ...

    The first basis spans the maps that are equivariant under the whole of G, the next those under H that are
    orthogonal to them, and so on: together they span the maps equivariant under the last group.

    Parameters
    ----------
    rep_in, rep_out : representations of sizes n and m, unbound or bound to the first group.
    groups : each a subgroup of the one before, by matrices of the same size.

    Returns
    -------
    One EquivariantBasis of size m n for each group, mutually orthogonal.

    Raises
    ------
    ValueError
        If a group is no subgroup of the one before.

    Examples
    --------
    >>> [basis.rank for basis in chain_maps(Vector, Vector, [O(3), SO2eR3(), Trivial(3)])]
    [1, 2, 6]
    """
    if not groups:
        raise ValueError("a chain needs at least one group.")
    bound_in, bound_out = rep_in(groups[0]), rep_out(groups[0])
    bases: list[EquivariantBasis] = [equivariant_maps(bound_in, bound_out)]
    shape = bound_out.size, bound_in.size
    for smaller in groups[1:]:
        narrow_in, narrow_out = restrict(bound_in, smaller), restrict(bound_out, smaller)
        outer, inner = _given_pairs(bound_in, bound_out), _given_pairs(narrow_in, narrow_out)
        blocks = [
            (rows, columns, _increment(bound_out.bound_group, few, smaller, more))
            for (rows, columns, few), (_, _, more) in zip(outer, inner, strict=True)
        ]
        increment = BlockBasis(shape, [block for block in blocks if block[2].shape[1]])
        small = increment.size * increment.rank <= SMALL_MATRIX
        bases.append(DenseBasis(increment.dense()) if small else increment)
        bound_in, bound_out = narrow_in, narrow_out
    return tuple(bases)


def chain_basis(rep: Rep, groups: Sequence[Group]) -> tuple[EquivariantBasis, ...]:
    """Orthogonal increments of invariant vectors along a chain of groups, as ``chain_maps``.

    Examples
    --------
    >>> [basis.rank for basis in chain_basis(T(2), [O(3), O2eR3()])]
    [1, 1]
    """
    return chain_maps(Scalar, rep, groups)


def _given_pairs(rep_in: Rep, rep_out: Rep) -> list[tuple[Run, Run, Piece]]:
    """All pairs of runs as they were given, the same for all groups of a chain, with the piece of their maps."""
    return [
        (rows, columns, rows.piece + dual_piece(columns.piece))
        for rows in _given_runs(rep_out)
        for columns in _given_runs(rep_in)
    ]


def _given_runs(rep: Rep) -> list[Run]:
    """The runs as they were given, in the same coordinates for all groups."""
    start, runs = 0, []
    for count, piece in rep.given_terms:
        runs.append(Run(piece, count, tuple(factor.size(rep.bound_group) for factor in piece), start))
        start = runs[-1].stop
    return runs


def _increment(group: Group, piece: Piece, subgroup: Group, narrow: Piece) -> Float[Tensor, "size increment"]:
    """An orthonormal basis of the subgroup's invariants that are orthogonal to the group's."""
    whole, parts = invariant_orbits(group, piece), invariant_orbits(subgroup, narrow)
    if whole is not None and parts is not None:
        increment = orbit_increment(whole, parts)
        check_basis_bytes(*increment.shape)
        return torch.from_numpy(increment.toarray())
    outer, inner = invariant_vectors(group, piece), invariant_vectors(subgroup, narrow)
    overlap = inner.mT @ outer
    values, vectors = torch.linalg.eigh(overlap @ overlap.mT)
    return torch.from_numpy(canonical_columns((inner @ vectors[:, values < 0.5]).numpy()))


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
    cosines = [torch.from_numpy(dct(np.eye(size), norm="ortho", axis=0)[:frequencies].T.copy()) for size in (m, n)]
    return KroneckerBasis(*cosines)
