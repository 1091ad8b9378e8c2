"""The sum of the spans of several orthonormal bases that need not be orthogonal to each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.bases import EquivariantBasis

_DEPENDENT = 1e-13
_LARGEST_TOTAL_RANK = 6_000


class JointSpan:
    """An orthonormal basis Z of the sum of subspaces, Q_k = Z L_k, from the Gram matrix of their bases alone.

    Parameters
    ----------
    bases : orthonormal bases Q_k of one size n and ranks r_k.

    Attributes
    ----------
    rank : the dimension of the sum.
    blocks : the matrices L_k (rank, r_k), in float64.

    Raises
    ------
    ValueError
        If the ranks add up to more than 6,000: the Gram matrix would be too large.
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


class JointCovariance:
    """v_b I + sum_k v_k Q_k Q_k^T, which is Z C Z^T + v_b (I - Z Z^T) with C = v_b I + sum_k v_k L_k L_k^T.

    Parameters
    ----------
    span : of the bases Q_k.
    dense_variance : v_b.
    pathway_variances : v_k, of the same batch shape.
    """

    def __init__(self, span: JointSpan, dense_variance: Tensor, pathway_variances: Sequence[Tensor]) -> None:
        self.span, self.dense_variance = span, dense_variance.double()
        inner = self.dense_variance[..., None, None] * torch.eye(span.rank, dtype=torch.float64)
        for variance, block in zip(pathway_variances, span.blocks, strict=True):
            inner = inner + variance.double()[..., None, None] * (block @ block.mT)
        self.cholesky = torch.linalg.cholesky(inner)

    def log_determinant(self, size: int) -> Float[Tensor, "*batch"]:
        """Of the whole covariance of ``size`` coordinates."""
        inside = 2 * self.cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return inside + (size - self.span.rank) * self.dense_variance.log()

    def mahalanobis(self, vector: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
        """v^T Sigma^-1 v; the part outside the span is formed explicitly, so that a tiny v_b is safe."""
        # In float64 throughout: nearly parallel bases would amplify the rounding of float32.
        exact = vector.double()
        coordinates = self.span.coordinates(exact)
        outside = (exact - self.span.expand(coordinates)).square().sum(-1) / self.dense_variance.to(vector.device)
        cholesky = self.cholesky.to(vector.device)
        whitened = torch.linalg.solve_triangular(cholesky, coordinates[..., None], upper=False)
        return (outside + whitened.square().sum((-2, -1))).to(vector)

    def solve(self, vector: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """Sigma^-1 v."""
        exact = vector.double()
        coordinates = self.span.coordinates(exact)
        outside = (exact - self.span.expand(coordinates)) / self.dense_variance.to(vector.device)[..., None]
        return (outside + self.span.expand(self._solve_inside(coordinates))).to(vector)

    def coordinates_of_solution(self, vector: Float[Tensor, "*batch n"]) -> list[Float[Tensor, "*batch r"]]:
        """Q_k^T Sigma^-1 v for every basis; what lies outside the span is no part of it, not even by rounding."""
        solved = self._solve_inside(self.span.coordinates(vector.double()))
        return [(solved @ block.to(solved)).to(vector) for block in self.span.blocks]

    def _solve_inside(self, coordinates: Float[Tensor, "*batch rank"]) -> Float[Tensor, "*batch rank"]:
        return torch.cholesky_solve(coordinates[..., None], self.cholesky.to(coordinates.device))[..., 0]

    def color(self, noise: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """Turn standard normal noise into draws."""
        exact = noise.double()
        coordinates = self.span.coordinates(exact)
        inside = (self.cholesky.to(noise.device) @ coordinates[..., None])[..., 0]
        outside = exact - self.span.expand(coordinates)
        scale = self.dense_variance.sqrt().to(noise.device)[..., None]
        return (scale * outside + self.span.expand(inside)).to(noise)

    def divergence_from(self, other: JointCovariance, size: int) -> Float[Tensor, "*batch"]:
        """KL(N(0, this) || N(0, other)) in ``size`` dimensions, for the same span."""
        relative = torch.linalg.solve_triangular(other.cholesky, self.cholesky, upper=False)
        ratio = self.dense_variance / other.dense_variance
        trace = relative.square().sum((-2, -1)) + (size - self.span.rank) * ratio
        return 0.5 * (trace - size + other.log_determinant(size) - self.log_determinant(size))
