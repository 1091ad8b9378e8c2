"""Covariances of pathways whose bases need not be orthogonal to each other, by Woodbury's identity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.bases.joint_span import JointSpan


class JointCovariance:
    """v_b I + sum_k v_k Q_k D_k Q_k^T, which is Z C Z^T + v_b (I - Z Z^T) with C = v_b I + sum_k v_k L_k D_k L_k^T.

    v_b is ``dense_variance``, v_k are ``pathway_variances``, of the same batch shape, D_k the ``relative_variances`` of
    coordinates, None for ones; ``span`` is that of the Q_k.
    """

    def __init__(
        self,
        span: JointSpan,
        dense_variance: Tensor,
        pathway_variances: Sequence[Tensor],
        relative_variances: Sequence[Tensor | None] | None = None,
    ) -> None:
        self.span, self.dense_variance = span, dense_variance.double()
        inner = self.dense_variance[..., None, None] * torch.eye(span.rank, dtype=torch.float64)
        factors = relative_variances or [None] * len(span.blocks)
        for variance, block, relative in zip(pathway_variances, span.blocks, factors, strict=True):
            scaled = block if relative is None else block * relative.to(block)
            inner = inner + variance.double()[..., None, None] * (scaled @ block.mT)
        self.cholesky = torch.linalg.cholesky(inner)

    def log_determinant(self, size: int) -> Float[Tensor, "*batch"]:
        """The log determinant of the whole covariance of ``size`` coordinates."""
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
