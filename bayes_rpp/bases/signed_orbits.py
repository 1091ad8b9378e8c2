"""Invariants of groups that permute coordinates up to sign: one for each orbit, in linear time.

An orbit holds an invariant, constant up to sign, unless some product of generators maps a coordinate to minus itself;
the orbits are connected components of a graph with one edge for each coordinate and generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float, Int

_LARGEST = 2_000_000_000  # bytes
_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Orbits:
    """Which invariant every coordinate belongs to, numbered by first appearance, and with which sign."""

    labels: Int[np.ndarray, " size"]  # -1 for a coordinate that vanishes in every invariant
    signs: Int[np.ndarray, " size"]  # 1 or -1; the first coordinate of each orbit has 1

    @property
    def rank(self) -> int:
        """The number of invariants."""
        return int(self.labels.max(initial=-1)) + 1

    def normalized(self) -> Orbits:
        """The same orbits numbered by first appearance, the first coordinate of each with the sign 1."""
        labels, alive = np.full(len(self.labels), -1), np.flatnonzero(self.labels >= 0)
        if not len(alive):
            return Orbits(labels, np.ones_like(labels))
        labels[alive] = _by_first_appearance(self.labels[alive])
        _, first = np.unique(labels[alive], return_index=True)
        leading = self.signs[alive][first]
        return Orbits(labels, np.where(labels >= 0, self.signs * leading[labels], 1))

    def dense(self) -> Float[np.ndarray, "size rank"]:
        """The invariants as orthonormal columns."""
        alive = np.flatnonzero(self.labels >= 0)
        result = np.zeros((len(self.labels), self.rank))
        counts = np.bincount(self.labels[alive], minlength=self.rank)
        result[alive, self.labels[alive]] = self.signs[alive] / np.sqrt(counts[self.labels[alive]])
        return result


def check_bytes(needed: int, what: str, limit: int = _LARGEST) -> None:
    """Refuse to find invariants that would take too much memory; raises ValueError."""
    if needed > limit:
        raise ValueError(
            f"{what} would take {needed:,} bytes (the limit is {limit:,}). Use pieces of lower rank: maps from T(p) to "
            "T(q) have p + q axes."
        )


def signed_images(matrix: Float[np.ndarray, "n n"]) -> tuple[np.ndarray, np.ndarray] | None:
    """Image and sign of every coordinate, if the matrix is a permutation up to signs."""
    rounded = np.round(matrix)
    once = (np.abs(rounded).sum(0) == 1).all() and (np.abs(rounded).sum(1) == 1).all()
    if not once or np.abs(matrix - rounded).max(initial=0.0) > _TOLERANCE:
        return None
    images = np.abs(rounded).argmax(0)
    return images, rounded[images, np.arange(len(images))].astype(np.int64)


def signed_orbits(sizes: Sequence[int], generators: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]]) -> Orbits:
    """The orbits of index tuples over axes of some sizes, under generators given by images and signs on each axis.
    Raises ValueError if there are too many tuples, with the bytes that they would take.
    """
    size = int(np.prod(sizes, dtype=object))
    check_bytes(size * (24 * len(generators) + 40), f"finding the orbits of {size:,} index tuples")
    moves = [_move(sizes, generator) for generator in generators]
    if all((signs > 0).all() for _, signs in moves):
        labels = _components([images for images, _ in moves], size)
        return Orbits(_by_first_appearance(labels), np.ones(size, dtype=np.int64))
    # Coordinate i is the node i with its sign kept and the node size + i with it reversed.
    doubled = [np.concatenate([images + size * (signs < 0), images + size * (signs > 0)]) for images, signs in moves]
    labels = _components(doubled, 2 * size)
    kept, reversed_ = labels[:size], labels[size:]
    signs = np.where(kept < reversed_, 1, -1)
    orbits = np.where(kept == reversed_, -1, np.minimum(kept, reversed_))
    return Orbits(orbits, signs).normalized()


def _move(sizes: Sequence[int], generator: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Images and signs of all index tuples."""
    images, signs = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64)
    for n, (image, sign) in zip(sizes, generator, strict=True):
        images = np.add.outer(images * n, image).reshape(-1)
        signs = np.multiply.outer(signs, sign).reshape(-1)
    return images, signs


def _components(moves: Sequence[np.ndarray], nodes: int) -> Int[np.ndarray, " nodes"]:
    source = np.tile(np.arange(nodes), len(moves))
    target = np.concatenate(moves) if moves else source
    graph = scipy.sparse.coo_array((np.ones(len(source), dtype=np.int8), (source, target)), shape=(nodes, nodes))
    return scipy.sparse.csgraph.connected_components(graph, directed=False)[1]


def _by_first_appearance(labels: np.ndarray) -> Int[np.ndarray, " size"]:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def orbit_increment(outer: Orbits, inner: Orbits) -> scipy.sparse.csr_array:
    """An orthonormal basis (size, rank) of the invariants of a subgroup that are orthogonal to those of the group.

    Inside an orbit of the group, the group's invariant is a unit vector over the subgroup's orbits; a Householder
    reflection completes it to an orthonormal basis. Where the group has no invariant, the subgroup's are all new.
    """
    alive = np.flatnonzero(inner.labels >= 0)
    first = alive[np.unique(inner.labels[alive], return_index=True)[1]]  # the first coordinate of each inner orbit
    sizes, parents = np.bincount(inner.labels[alive], minlength=inner.rank), outer.labels[first]
    weights = outer.signs[first] * np.sqrt(sizes)
    columns = [scipy.sparse.identity(inner.rank, format="csc")[:, np.flatnonzero(parents < 0)]]
    order = np.argsort(parents, kind="stable")
    order = order[parents[order] >= 0]
    for members in np.split(order, np.flatnonzero(np.diff(parents[order])) + 1):
        if len(members) > 1:
            vector = weights[members] / np.linalg.norm(weights[members])
            vector[0] += np.copysign(1.0, vector[0])
            reflection = np.eye(len(members)) - 2 * np.outer(vector, vector) / (vector @ vector)
            indices = np.repeat(members, len(members) - 1), np.tile(np.arange(len(members) - 1), len(members))
            shape = (inner.rank, len(members) - 1)
            columns.append(scipy.sparse.coo_array((reflection[:, 1:].ravel(), indices), shape=shape))
    indicators = inner.signs[alive] / np.sqrt(sizes[inner.labels[alive]])
    shape = (len(inner.labels), inner.rank)
    spread = scipy.sparse.csr_array((indicators, (alive, inner.labels[alive])), shape=shape)
    return scipy.sparse.csr_array(spread @ scipy.sparse.hstack(columns, format="csc"))
