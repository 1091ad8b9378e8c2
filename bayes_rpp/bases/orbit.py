"""Orthonormal bases of maps that are constant on orbits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from bayes_rpp.bases.dense import StructuredBasis


class OrbitBasis(StructuredBasis):
    """Maps that are constant, up to signs, on the orbits of a group of signed permutations: Q's columns are
    normalised indicators of the orbits.

    Parameters
    ----------
    labels : the orbit of each of the ``size`` coordinates, -1 for those that vanish; coordinates of Q are sorted by
        the orbits' sizes.
    signs : 1 or -1 for each coordinate; None if all are 1.
    """

    def __init__(self, labels: Int[np.ndarray, " size"], signs: Int[np.ndarray, " size"] | None = None) -> None:
        alive = np.flatnonzero(labels >= 0)
        sizes = np.bincount(labels[alive])
        by_size = np.argsort(sizes, kind="stable")
        renumbered = np.where(labels >= 0, np.argsort(by_size)[labels] if len(sizes) else 0, 0)
        members = alive[np.argsort(renumbered[alive], kind="stable")]
        self.size, self.rank = len(labels), len(sizes)
        self._labels, self._members = torch.from_numpy(renumbered), torch.from_numpy(members)
        self._scale = torch.from_numpy(1.0 / np.sqrt(sizes[by_size]))
        plain = len(alive) == len(labels) and (signs is None or bool((signs > 0).all()))
        factors = np.ones(len(labels)) if signs is None else signs.astype(float)
        self._signs = None if plain else torch.from_numpy(np.where(labels >= 0, factors, 0.0))
        distinct, counts = np.unique(sizes, return_counts=True)
        self._classes = [(int(s), int(c)) for s, c in zip(distinct, counts, strict=True)]
        self._cast: dict[tuple[torch.dtype, torch.device], _OrbitTables] = {}

    def _tables(self, like: Tensor) -> _OrbitTables:
        key = (like.dtype, like.device)
        if key not in self._cast:
            signs = None if self._signs is None else self._signs.to(like)
            self._cast[key] = _OrbitTables(
                self._labels.to(like.device),
                self._members.to(like.device),
                self._scale.to(like),
                signs,
                None if signs is None else signs[self._members],
            )
        return self._cast[key]

    def _expand(self, beta: Tensor) -> Tensor:
        tables = self._tables(beta)
        if not self.rank:
            return beta.new_zeros(*beta.shape[:-1], self.size)
        spread = (beta * tables.scale).index_select(-1, tables.labels)
        return spread if tables.signs is None else spread * tables.signs

    def _coordinates(self, vector: Tensor) -> Tensor:
        tables = self._tables(vector)
        gathered, sums, start = vector.index_select(-1, tables.members), [], 0
        if tables.member_signs is not None:
            gathered = gathered * tables.member_signs
        for orbit_size, count in self._classes:
            stop = start + orbit_size * count
            sums.append(gathered[..., start:stop].unflatten(-1, (count, orbit_size)).sum(-1))
            start = stop
        return torch.cat(sums, dim=-1) * tables.scale if sums else vector.new_zeros(*vector.shape[:-1], 0)


class _OrbitTables(NamedTuple):
    """What an OrbitBasis needs, in one type and on one device."""

    labels: Tensor
    members: Tensor
    scale: Tensor
    signs: Tensor | None
    member_signs: Tensor | None
