"""Subspaces of a subspace: bases of coordinates in another basis."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from bayes_rpp.bases.dense import StructuredBasis


class ComposedBasis(StructuredBasis):
    """Q R, for an orthonormal basis Q (``outer``) and an orthonormal basis R of its coordinates (``inner``).

    Raises ValueError if R is none of coordinates of Q.
    """

    def __init__(self, outer: StructuredBasis, inner: StructuredBasis) -> None:
        if inner.size != outer.rank:
            raise ValueError(f"inner has size {inner.size}, but outer has {outer.rank} coordinates.")
        super().__init__(outer.size, inner.rank, [])
        self.outer, self.inner = outer, inner

    def _expand(self, beta: Tensor) -> Tensor:
        return self.outer._expand(self.inner._expand(beta))

    def _expand_onto(self, beta: Tensor, vector: Tensor) -> Tensor:
        return self.outer._expand_onto(self.inner._expand(beta), vector)

    def _coordinates(self, vector: Tensor) -> Tensor:
        return self.inner._coordinates(self.outer._coordinates(vector))


class ContrastBasis(StructuredBasis):
    """What is orthogonal to vectors that are constant on orbits: on each orbit of s coordinates, s - 1 contrasts.

    The k-th contrast of an orbit (Helmert's) compares the mean of its first k coordinates with the next one. Together
    with OrbitBasis of the same labels, all of which are at least 0, it spans the whole space.
    """

    def __init__(self, labels: Int[np.ndarray, " size"]) -> None:
        sizes = np.bincount(labels)
        by_orbit = np.argsort(labels, kind="stable")
        starts = np.concatenate([[0], np.cumsum(sizes)])
        self._orbits = [int(size) for size in np.unique(sizes) if size > 1]
        members = [
            np.stack([by_orbit[starts[k] : starts[k + 1]] for k in np.flatnonzero(sizes == size)])
            for size in self._orbits
        ]
        tables = [*map(torch.from_numpy, members), *(_contrasts(size) for size in self._orbits)]
        super().__init__(len(labels), sum(part.size - len(part) for part in members), tables)

    def _parts(self, value: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Members (orbit, place) and contrasts (place, contrast) of the orbits of each size."""
        tables, count = self._like(value), len(self._orbits)
        return list(zip(tables[:count], tables[count:], strict=True))

    def _expand(self, beta: Tensor) -> Tensor:
        result, start = beta.new_zeros(*beta.shape[:-1], self.size), 0
        for members, contrasts in self._parts(beta):
            stop = start + len(members) * contrasts.shape[1]
            of_orbits = beta[..., start:stop].unflatten(-1, (len(members), -1)) @ contrasts.mT
            result = result.index_copy(-1, members.flatten(), of_orbits.flatten(-2))
            start = stop
        return result

    def _coordinates(self, vector: Tensor) -> Tensor:
        parts = [(vector[..., members] @ contrasts).flatten(-2) for members, contrasts in self._parts(vector)]
        return torch.cat(parts, dim=-1) if parts else vector.new_zeros(*vector.shape[:-1], 0)


def _contrasts(size: int) -> Tensor:
    """(place, contrast), orthonormal."""
    k = torch.arange(1, size, dtype=torch.float64)
    place = torch.arange(size, dtype=torch.float64)[:, None]
    return (torch.where(place < k, 1.0, 0.0) - torch.where(place == k, k, 0.0)) / (k * (k + 1)).sqrt()
