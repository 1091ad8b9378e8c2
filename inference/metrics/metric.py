"""Metrics along pathways: z = S u for parameters of residual pathway layers.

S S^T approximates the posterior covariance. A sampler of u with unit mass is one of z with the mass matrix (S S^T)^-1,
the metric (Neal, Handbook of MCMC, 2011, section 5.4.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.bases.equivariant import EquivariantBasis


@dataclass(frozen=True)
class CollapsedMetric:
    """S = sum_k Q_k diag(e_k)^(-1/2) Q_k^T + b^(-1/2) P, with P the projector off their span: for an effective weight,
    whose precision is about e_k along the pathways and b elsewhere.
    """

    bases: Sequence[EquivariantBasis]  # Q_k, orthonormal and orthogonal to each other
    precisions: Sequence[Float[Tensor, " rank"]]  # e_k, one number for each coordinate
    residual_precision: Float[Tensor, ""]  # b

    def color(self, u: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return self._scaled(u, -0.5)

    pull = color  # S is symmetric

    def whiten(self, z: Tensor) -> Tensor:
        """See CovarianceRoot."""
        return self._scaled(z, 0.5)

    def _scaled(self, vector: Tensor, power: float) -> Tensor:
        elsewhere = self.residual_precision**power
        result = elsewhere * vector
        for basis, precision in zip(self.bases, self.precisions, strict=True):
            result = result + basis.expand((precision**power - elsewhere) * basis.coordinates(vector))
        return result


@dataclass(frozen=True)
class ResidualMetric:
    """Coordinates (r_1, ..., r_K, W) for (beta_1, ..., beta_K, B) that are independent.

    W = B + sum_k Q_k beta_k is all that the likelihood sees, and r_k = beta_k - s_k Q_k^T W with s_k = v_k / (v_k +
    v_b) is independent of it and N(0, s_k v_b I), exactly. W gets a metric of its own.
    """

    bases: Sequence[EquivariantBasis]  # as of CollapsedMetric
    pathway_variances: Sequence[Float[Tensor, "*rank"]]  # v_k of the prior, one for all coordinates or one for each
    dense_variance: Float[Tensor, ""]  # v_b of the prior
    effective: CollapsedMetric  # the metric of W
    temperature: float = 1.0  # of the posterior; it scales the variance of r_k

    def color(self, u: Tensor) -> Tensor:
        """See CovarianceRoot."""
        *residuals, dense = self._split(u)
        weight = self.effective.color(dense)
        betas = [
            self._spread(variance) * residual + self._share(variance) * basis.coordinates(weight)
            for residual, variance, basis in zip(residuals, self.pathway_variances, self.bases, strict=True)
        ]
        return torch.cat([*betas, weight - self._sum(betas)], dim=-1)

    def pull(self, gradient: Tensor) -> Tensor:
        """See CovarianceRoot."""
        *betas, dense = self._split(gradient)
        total, residuals = dense, []
        for beta, variance, basis in zip(betas, self.pathway_variances, self.bases, strict=True):
            difference = beta - basis.coordinates(dense)
            total = total + basis.expand(self._share(variance) * difference)
            residuals.append(self._spread(variance) * difference)
        return torch.cat([*residuals, self.effective.pull(total)], dim=-1)

    def whiten(self, z: Tensor) -> Tensor:
        """See CovarianceRoot."""
        *betas, dense = self._split(z)
        weight = dense + self._sum(betas)
        residuals = [
            (beta - self._share(variance) * basis.coordinates(weight)) / self._spread(variance)
            for beta, variance, basis in zip(betas, self.pathway_variances, self.bases, strict=True)
        ]
        return torch.cat([*residuals, self.effective.whiten(weight)], dim=-1)

    def _sum(self, betas: Sequence[Tensor]) -> Tensor:
        return torch.stack([basis.expand(beta) for basis, beta in zip(self.bases, betas, strict=True)]).sum(0)

    def _split(self, vector: Tensor) -> tuple[Tensor, ...]:
        return vector.split([*(basis.rank for basis in self.bases), self.bases[0].size], dim=-1)

    def _share(self, variance: Tensor) -> Tensor:
        return variance / (variance + self.dense_variance)

    def _spread(self, variance: Tensor) -> Tensor:
        return (self.temperature * self._share(variance) * self.dense_variance).sqrt()
