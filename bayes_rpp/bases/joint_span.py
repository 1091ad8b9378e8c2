"""The sum of the spans of several orthonormal bases that need not be orthogonal to each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.bases.equivariant import EquivariantBasis

_DEPENDENT = 1e-13
_LARGEST_TOTAL_RANK = 6_000


class JointSpan:
    """An orthonormal basis Z of the sum of subspaces, Q_k = Z L_k, from the Gram matrix of their bases alone.

    ``bases`` are the Q_k, of one size n and ranks r_k; ``rank`` is the dimension of the sum, and ``blocks`` are the
    matrices L_k (rank, r_k), in float64. Ranks that add up to more than 6,000 raise a ValueError.
    """

    def __init__(self, bases: Sequence[EquivariantBasis]) -> None:
        self.bases = tuple(bases)
        ranks = [basis.rank for basis in bases]
        total = sum(ranks)
        if total > _LARGEST_TOTAL_RANK:
            raise ValueError(
                f"bases that are not orthogonal to each other, of total rank {total:,}, need a Gram matrix of "
                f"{8 * total**2:,} bytes (the limit is {8 * _LARGEST_TOTAL_RANK**2:,}). Orthogonalise them, or use "
                'parametrization="residual", which needs none.'
            )
        gram = torch.cat([torch.cat([_overlap(a, b) for b in bases], dim=1) for a in bases])
        values, vectors = torch.linalg.eigh((gram + gram.mT) / 2)
        kept = values > _DEPENDENT
        scale = values[kept].sqrt()
        self.rank = int(kept.sum())
        self.blocks = (vectors[:, kept] * scale).mT.contiguous().split(ranks, dim=1)
        self._back = vectors[:, kept] / scale  # Z = [Q_1 ... Q_K] back
        self._ends = list(accumulate(ranks))

    def __repr__(self) -> str:
        return f"JointSpan(rank {self.rank:,} of {self.bases[0].size:,})"

    def coordinates(self, vector: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch rank"]:
        """Z^T v."""
        return torch.cat([basis.coordinates(vector) for basis in self.bases], dim=-1) @ self._back.to(vector)

    def expand(self, coordinates: Float[Tensor, "*batch rank"]) -> Float[Tensor, "*batch n"]:
        """Z c."""
        parts = (coordinates @ self._back.to(coordinates).mT).tensor_split(self._ends[:-1], dim=-1)
        return torch.stack([basis.expand(part) for basis, part in zip(self.bases, parts, strict=True)]).sum(0)


def _overlap(first: EquivariantBasis, second: EquivariantBasis) -> Float[Tensor, "r_first r_second"]:
    if first is second:
        return torch.eye(first.rank, dtype=torch.float64)
    columns = torch.eye(second.rank, dtype=torch.float64).split(256)
    return torch.cat([first.coordinates(second.expand(part)) for part in columns]).mT


def are_orthogonal(bases: Sequence[EquivariantBasis]) -> bool:
    """Whether all bases are orthogonal to each other, by a generic vector of each."""
    for k, second in enumerate(bases):
        probe = torch.arange(1, second.rank + 1, dtype=torch.float64).sqrt().cos()
        image = second.expand(probe)
        if any(first.rank and first.coordinates(image).norm() > 1e-9 * probe.norm() for first in bases[:k]):
            return False
    return True
