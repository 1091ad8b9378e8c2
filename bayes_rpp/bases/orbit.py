"""Orthonormal bases of maps that are constant on orbits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayes_rpp.bases.dense import MOST_SUMMED_IN_ORDER, StructuredBasis, bands_of_entries, is_summed_in_order


class OrbitBasis(StructuredBasis):
    """Maps that are constant, up to signs, on orbits of signed permutations: Q's columns are normalised indicators.

    ``labels`` are the orbits of the ``size`` coordinates, -1 for those that vanish; coordinates of Q are sorted by the
    orbits' sizes. ``signs`` are 1 or -1 for each coordinate; None if all are 1.
    """

    def __init__(self, labels: Int[np.ndarray, " size"], signs: Int[np.ndarray, " size"] | None = None) -> None:
        alive = np.flatnonzero(labels >= 0)
        sizes = np.bincount(labels[alive])
        by_size = np.argsort(sizes, kind="stable")
        renumbered = np.where(labels >= 0, np.argsort(by_size)[labels] if len(sizes) else 0, 0)
        members = alive[np.argsort(renumbered[alive], kind="stable")]
        tables = [renumbered, members, 1.0 / np.sqrt(sizes[by_size])]
        if len(alive) < len(labels) or not (signs is None or (signs > 0).all()):
            factors = np.where(labels >= 0, np.ones(len(labels)) if signs is None else signs.astype(float), 0.0)
            tables += [factors, factors[members]]
        super().__init__(len(labels), len(sizes), [torch.from_numpy(table) for table in tables])
        distinct, counts = np.unique(sizes, return_counts=True)
        self._classes = [(int(s), int(c)) for s, c in zip(distinct, counts, strict=True)]

    def band_norms(
        self, row_sizes: Sequence[int], column_sizes: Sequence[int]
    ) -> Float[Tensor, "rank row_band column_band"]:
        """See StructuredBasis."""
        labels, members, scale, *_ = self._tensors
        count = len(row_sizes) * len(column_sizes)
        bands = bands_of_entries(row_sizes, column_sizes)[members]
        norms = torch.zeros(self.rank * count, dtype=torch.float64)
        norms.index_add_(0, labels[members] * count + bands, scale.square()[labels[members]])
        return norms.reshape(self.rank, len(row_sizes), len(column_sizes))

    def _expand(self, beta: Tensor) -> Tensor:
        labels, _, scale, *signs = self._like(beta)
        if not self.rank:
            return beta.new_zeros(*beta.shape[:-1], self.size)
        spread = (beta * scale).index_select(-1, labels)
        return spread * signs[0] if signs else spread

    def _expand_onto(self, beta: Tensor, vector: Tensor) -> Tensor:
        if not self.rank:
            return vector.clone()
        labels, _, scale, *signs = self._like(beta)
        spread = (beta * scale).index_select(-1, labels)
        return torch.addcmul(vector, spread, signs[0]) if signs else spread.add_(vector)

    def _coordinates(self, vector: Tensor) -> Tensor:
        labels, members, scale, *signs = self._like(vector)
        if self.rank and self._classes[-1][0] <= MOST_SUMMED_IN_ORDER and is_summed_in_order(vector):
            values = vector * signs[0] if signs else vector
            sums = vector.new_zeros(*vector.shape[:-1], self.rank)
            return sums.scatter_add_(-1, labels.expand(values.shape), values).mul_(scale)
        gathered, parts, start = vector.index_select(-1, members), [], 0
        if signs:
            gathered = gathered * signs[1]
        for orbit_size, count in self._classes:
            stop = start + orbit_size * count
            parts.append(gathered[..., start:stop].unflatten(-1, (count, orbit_size)).sum(-1))
            start = stop
        return torch.cat(parts, dim=-1) * scale if parts else vector.new_zeros(*vector.shape[:-1], 0)
