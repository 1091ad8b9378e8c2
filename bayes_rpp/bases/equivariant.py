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

from bayes_rpp.bases.block import assembled_maps
from bayes_rpp.bases.orbit import OrbitBasis
from bayes_rpp.bases.signed_orbits import Orbits
from bayes_rpp.bases.solver import invariant_orbits, invariant_vectors
from bayes_rpp.groups.group import Group
from bayes_rpp.representations.rep import Rep, Run, Scalar
from bayes_rpp.representations.tensor_products import dual_piece


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
    rep_in, rep_out : bound representations of one group, of sizes n and m; one may be of some factors of a direct
        product of which the other is.

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
    group = _common_group(rep_in.bound_group, rep_out.bound_group)
    return _cached_maps(rep_in(group), rep_out(group))


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
    pairs = [
        (rows, columns, rows.piece + dual_piece(columns.piece)) for rows in rep_out.runs for columns in rep_in.runs
    ]
    orbits = [(r, c, found) for r, c, piece in pairs if (found := invariant_orbits(group, piece)) is not None]
    if len(orbits) == len(pairs):
        return _orbit_basis(shape, orbits)
    return assembled_maps(shape, [(r, c, invariant_vectors(group, piece)) for r, c, piece in pairs])


def _common_group(first: Group, second: Group) -> Group:
    """The larger of two groups of which one is the other, or a direct product with all of its factors."""
    smaller, larger = sorted((first, second), key=lambda group: len(group.factors))
    if any(part not in larger.factors for part in smaller.factors):
        raise ValueError(f"rep_in belongs to {first}, rep_out to {second}; they must share a group.")
    return larger


def _orbit_basis(shape: tuple[int, int], solved: list[tuple[Run, Run, Orbits]]) -> OrbitBasis:
    labels, signs, offset = np.full(shape, -1, dtype=np.int64), np.ones(shape, dtype=np.int64), 0
    for rows, columns, orbits in solved:
        copies = np.arange(rows.multiplicity * columns.multiplicity).reshape(rows.multiplicity, columns.multiplicity)
        sizes = rows.piece_size, columns.piece_size
        of_piece = orbits.labels.reshape(1, sizes[0], 1, sizes[1])
        block = np.where(of_piece >= 0, offset + orbits.rank * copies[:, None, :, None] + of_piece, -1)
        entries = np.s_[rows.start : rows.stop, columns.start : columns.stop]
        labels[entries] = block.reshape(rows.size, columns.size)
        signs[entries] = np.tile(orbits.signs.reshape(sizes), copies.shape)
        offset += orbits.rank * copies.size
    return OrbitBasis(labels.reshape(-1), signs.reshape(-1))
