"""Orthonormal bases for the pathways of a chain of groups, from the most symmetric maps outwards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.bases.block import assembled_maps
from bayes_rpp.bases.equivariant import EquivariantBasis, equivariant_maps
from bayes_rpp.bases.null_space import check_basis_bytes
from bayes_rpp.bases.signed_orbits import orbit_increment
from bayes_rpp.bases.solver import invariant_orbits, invariant_vectors
from bayes_rpp.groups.group import Group
from bayes_rpp.representations.canonical import canonical_columns
from bayes_rpp.representations.rep import Rep, Run, Scalar
from bayes_rpp.representations.restriction import restrict
from bayes_rpp.representations.tensor_products import Piece, arrange_runs, dual_piece


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
        blocks = [
            (rows, columns, _increment(bound_out.bound_group, few, smaller, more))
            for (rows, columns, few), (_, _, more) in zip(
                _given_pairs(bound_in, bound_out), _given_pairs(narrow_in, narrow_out), strict=True
            )
        ]
        bases.append(assembled_maps(shape, blocks))
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
        for rows in arrange_runs(rep_out.given_terms, rep_out.bound_group)
        for columns in arrange_runs(rep_in.given_terms, rep_in.bound_group)
    ]


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
