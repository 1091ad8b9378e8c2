"""Subgroups of a finite group by its multiplication table, as sets of indices of elements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Int
from scipy.cluster import hierarchy
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

Members = frozenset[int]

_MOST_SUBGROUPS = 1_000  # that are looked at


def largest_subgroup(
    products: Int[np.ndarray, "n n"], identity: int, distances: np.ndarray, allowed: float
) -> tuple[Members, Members]:
    """The largest subgroup all of whose elements have at most a distance, and of equally large ones that with the
    smallest largest distance; and some elements that generate it.

    Subgroups grow from the cyclic ones by one element at a time, so that each that is allowed is met; of groups with
    very many, the first 1,000.

    Examples
    --------
    >>> table = (np.arange(6)[:, None] + np.arange(6)) % 6
    >>> largest_subgroup(table, 0, np.array([0, 9, 0, 1, 0, 9]), 0.5)
    (frozenset({0, 2, 4}), frozenset({2}))
    """
    near = distances <= allowed
    near[identity] = True
    everything = _generated(products, identity, np.flatnonzero(near).tolist(), near)
    trivial = frozenset([identity])
    found = {trivial: frozenset[int]()}
    cyclic = {_generated(products, identity, [int(g)], near): int(g) for g in np.flatnonzero(near)}
    useful = {members: g for members, g in cyclic.items() if members is not None and len(members) > 1}
    if everything is not None:
        return everything, _few_generators(products, identity, everything)
    frontier = [trivial]
    while frontier and len(found) < _MOST_SUBGROUPS:
        group = frontier.pop()
        for members, g in useful.items():
            if members <= group:
                continue
            larger = _generated(products, identity, [*found[group], g], near)
            if larger is not None and larger not in found:
                found[larger] = found[group] | {g}
                frontier.append(larger)
    best = max(found, key=lambda members: (len(members), -max(distances[list(members)])))
    return best, found[best]


def exchangeable_blocks(distances: np.ndarray, allowed: float) -> list[list[int]]:
    """The coarsest blocks of n things, by complete linkage, within which every exchange has at most a distance: of all
    transpositions, (n, n) distances.

    Examples
    --------
    >>> exchangeable_blocks(np.array([[0, 1, 9], [1, 0, 9], [9, 9, 0]]), 2)
    [[0, 1], [2]]
    """
    tree = hierarchy.linkage(squareform(distances, checks=False), "complete")
    labels = hierarchy.fcluster(tree, allowed, "distance")
    blocks = [np.flatnonzero(labels == label).tolist() for label in np.unique(labels)]
    return sorted(blocks)


def _generated(
    products: Int[np.ndarray, "n n"], identity: int, generators: Iterable[int], near: Bool[np.ndarray, " n"]
) -> Members | None:
    """The subgroup that some elements generate, or None if it has one that is not near."""
    generators = list(generators)
    members, fresh = {identity}, [identity]
    while fresh:
        reached = np.unique(products[np.ix_(fresh, generators)]) if generators else np.array([], dtype=int)
        if not near[reached].all():
            return None
        fresh = [int(g) for g in reached if int(g) not in members]
        members.update(fresh)
    return frozenset(members)


def _few_generators(products: Int[np.ndarray, "n n"], identity: int, group: Members) -> Members:
    """Elements that generate a subgroup, each of which adds to what those before it do."""
    everywhere = np.ones(len(products), dtype=bool)
    chosen: list[int] = []
    reached: Members = frozenset([identity])
    for g in sorted(group):
        if g not in reached:
            chosen.append(g)
            reached = _generated(products, identity, chosen, everywhere) or reached
    return frozenset(chosen)


def orbits(images: Sequence[Int[np.ndarray, " n"]], n: int) -> list[list[int]]:
    """The sets of things that permutations mix, each by where it moves 0, ..., n - 1."""
    moved = np.concatenate([np.arange(n), *images])
    graph = coo_array((np.ones(len(moved)), (np.resize(np.arange(n), len(moved)), moved)), shape=(n, n))
    labels = connected_components(graph, directed=False)[1]
    return [np.flatnonzero(labels == label).tolist() for label in np.unique(labels)]
