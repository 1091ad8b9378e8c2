"""The constraint solver for one tensor piece: an orthonormal basis of {v : rho(g) v = v for all g in G}.

Permutation groups are solved by orbits of index tuples, in linear time. Other groups by the null space of the
constraints drho(A) v = 0 and (rho(h) - 1) v = 0 over the generators (Finzi, Welling & Wilson, ICML 2021, eq. 6), in
float64.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from bayes_rpp.groups import Group
from bayes_rpp.representations import Factor, Piece, piece_drho, piece_rho, piece_size

_LARGEST_DENSE_SIZE = 4096
_LARGEST_ORBIT_SIZE = 20_000_000
_NULL_TOLERANCE = 1e-9
_AXIS_ORDER: dict[Factor, int] = {"sign": 0, "vector": 1, "dual": 2}


def invariant_vectors(group: Group, piece: Piece) -> Float[Tensor, "size rank"]:
    """An orthonormal basis of the invariant tensors of one piece, as columns in float64.

    The columns are in a canonical form that does not depend on the linear-algebra library: saved coordinates keep
    their meaning.

    Raises
    ------
    ValueError
        If the piece is too large; the message says how many bytes it would take.
    """
    if group.is_orthogonal:
        piece = tuple("vector" if factor == "dual" else factor for factor in piece)
    order = sorted(range(len(piece)), key=lambda axis: _AXIS_ORDER[piece[axis]])
    solved = _solve_null_space(group, tuple(piece[axis] for axis in order))
    axis_sizes = [piece_size((piece[axis],), group.d) for axis in order]
    inverse = np.argsort(order).tolist()
    tensors = solved.reshape(*axis_sizes, solved.shape[1]).permute(*inverse, len(order))
    return tensors.reshape(solved.shape)


def invariant_orbits(group: Group, piece: Piece) -> Int[np.ndarray, " size"]:
    """For a permutation group: the orbit of every coordinate of a piece, numbered by first appearance."""
    return _solve_orbits(group, len([factor for factor in piece if factor != "sign"]))


@lru_cache(maxsize=512)
def _solve_null_space(group: Group, piece: Piece) -> Tensor:
    size = piece_size(piece, group.d)
    if size > _LARGEST_DENSE_SIZE:
        raise ValueError(
            f"the invariants of a tensor with {len(piece)} axes of {group} need a {size} x {size} eigenproblem, "
            f"about {4 * 8 * size**2:,} bytes (the limit is {4 * 8 * _LARGEST_DENSE_SIZE**2:,}). Use pieces of lower "
            "rank: maps from T(p) to T(q) need p + q axes; pass `channels` as a representation to choose them."
        )
    normal = torch.zeros(size, size, dtype=torch.float64)
    for algebra_element in group.lie_algebra:
        constraint = piece_drho(piece, algebra_element / algebra_element.norm())
        normal += constraint.mT @ constraint
    for generator in group.generators:
        constraint = piece_rho(piece, generator) - torch.eye(size, dtype=torch.float64)
        normal += constraint.mT @ constraint
    eigenvalues, vectors = torch.linalg.eigh(normal)
    null = eigenvalues < _NULL_TOLERANCE * max(1.0, float(eigenvalues[-1]))
    basis = _canonical_columns(vectors[:, null])
    residual = float((normal @ basis).abs().max()) if basis.numel() else 0.0
    if residual > 1e-9:
        raise RuntimeError(f"the invariants of {piece} under {group} miss their constraints by {residual:.1e}.")
    return basis


def _canonical_columns(basis: Tensor) -> Tensor:
    """The orthonormal basis that Gram-Schmidt gives on the projector's columns, pivoting on the first largest one."""
    size, rank = basis.shape
    columns = torch.zeros(size, rank, dtype=torch.float64)
    remaining = basis.square().sum(1)
    for k in range(rank):
        pivot = int((remaining > remaining.max() * (1 - 1e-6)).nonzero()[0, 0])
        column = basis @ basis[pivot]
        for _ in range(2):
            column = column - columns[:, :k] @ (columns[:, :k].mT @ column)
        columns[:, k] = column / column.norm()
        remaining = remaining - columns[:, k].square()
    columns[columns.abs() < 1e-14] = 0.0
    return columns


@lru_cache(maxsize=512)
def _solve_orbits(group: Group, axes: int) -> np.ndarray:
    size = group.d**axes
    if size > _LARGEST_ORBIT_SIZE:
        raise ValueError(
            f"the orbits of {group} on {axes}-tuples need about {40 * size:,} bytes (the limit is "
            f"{40 * _LARGEST_ORBIT_SIZE:,}). Use pieces of lower rank: maps from T(p) to T(q) need p + q axes."
        )
    tuples = np.indices((group.d,) * axes).reshape(axes, size) if axes else np.zeros((0, 1), dtype=int)
    edges = [np.stack([np.arange(size), np.arange(size)])]
    for generator in group.generators.numpy():
        image = generator.argmax(axis=0)
        target = np.ravel_multi_index(tuple(image[tuples]), (group.d,) * axes) if axes else np.zeros(1, dtype=int)
        edges.append(np.stack([np.arange(size), target]))
    source, target = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones(len(source)), (source, target)), shape=(size, size))
    _, labels = connected_components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    rank_of_label = np.argsort(np.argsort(first))
    return rank_of_label[labels]
