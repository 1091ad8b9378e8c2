"""Orthonormal bases of equivariant maps and invariant vectors, as structured linear operators.

``equivariant_maps(rep_in, rep_out)`` spans {W : rho_out(g) W = W rho_in(g) for all g}; ``equivariant_basis(rep)`` the
invariant vectors. Each pair of distinct pieces is solved once and repeated by multiplicity; the matrix Q itself is
never built.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.groups import Group
from bayes_rpp.invariants import invariant_orbits, invariant_vectors
from bayes_rpp.representations import Rep, Run, Scalar, dual_piece
from bayes_rpp.structured_bases import BlockBasis, DenseBasis, OrbitBasis

_SMALL_MATRIX = 100_000


@runtime_checkable
class EquivariantBasis(Protocol):
    """An orthonormal basis Q of a subspace of R^size; leading dimensions of every argument are batch dimensions.

    A map W of shape (m, n) is the vector W.reshape(-1).
    """

    rank: int
    size: int

    def expand(self, beta: Float[Tensor, "*batch rank"]) -> Float[Tensor, "*batch size"]:
        """Q beta."""

    def coordinates(self, vector: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch rank"]:
        """Q^T v."""

    def project(self, vector: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Q Q^T v."""

    def dense(self) -> Float[Tensor, "size rank"]:
        """Q itself, in float64: for tests and small cases."""


def equivariant_maps(rep_in: Rep, rep_out: Rep) -> EquivariantBasis:
    """An orthonormal basis of the equivariant maps between two bound representations.

    Parameters
    ----------
    rep_in, rep_out : bound representations of one group, of sizes n and m.

    Returns
    -------
    EquivariantBasis with ``size`` = m n; a map W (m, n) is the vector ``W.reshape(-1)``.

    Raises
    ------
    ValueError
        If a representation is unbound, the groups differ, or a pair of pieces is too large to solve.

    Examples
    --------
    >>> equivariant_maps(Vector(SO(3)), Vector(SO(3))).rank
    1
    """
    if rep_in.bound_group != rep_out.bound_group:
        raise ValueError(f"rep_in belongs to {rep_in.group}, rep_out to {rep_out.group}; they must share a group.")
    return _cached_maps(rep_in, rep_out)


def equivariant_basis(rep: Rep) -> EquivariantBasis:
    """An orthonormal basis of the invariant vectors {v : rho(g) v = v for all g} of a bound representation.

    Examples
    --------
    >>> equivariant_basis(T(2)(SO(3))).rank
    1
    """
    return _cached_maps(Scalar(rep.bound_group), rep)


@lru_cache(maxsize=256)
def _cached_maps(rep_in: Rep, rep_out: Rep) -> EquivariantBasis:
    group, shape = rep_out.bound_group, (rep_out.size, rep_in.size)
    pairs = [(rows, columns) for rows in rep_out.runs for columns in rep_in.runs]
    signed = any("sign" in run.piece for run in (*rep_out.runs, *rep_in.runs))
    if group.is_permutation and not signed:
        return OrbitBasis(_orbit_labels(group, shape, pairs))
    solved = [(r, c, invariant_vectors(group, r.piece + dual_piece(c.piece))) for r, c in pairs]
    blocks = BlockBasis(shape, [(r, c, basis) for r, c, basis in solved if basis.shape[1]])
    return DenseBasis(blocks.dense()) if blocks.size * blocks.rank <= _SMALL_MATRIX else blocks


def _orbit_labels(group: Group, shape: tuple[int, int], pairs: list[tuple[Run, Run]]) -> np.ndarray:
    labels, offset = np.zeros(shape, dtype=np.int64), 0
    for rows, columns in pairs:
        orbits = invariant_orbits(group, rows.piece + dual_piece(columns.piece))
        copies = np.arange(rows.multiplicity * columns.multiplicity).reshape(rows.multiplicity, columns.multiplicity)
        rank = int(orbits.max()) + 1
        piece = orbits.reshape(1, rows.piece_size, 1, columns.piece_size)
        block = offset + rank * copies[:, None, :, None] + piece
        labels[rows.start : rows.stop, columns.start : columns.stop] = block.reshape(rows.size, columns.size)
        offset += rank * copies.size
    return labels.reshape(-1)
