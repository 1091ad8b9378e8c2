"""Linear changes of coordinates z = S u in which a posterior is closer to isotropic.

S S^T approximates the posterior covariance. A sampler that walks in u with unit mass walks in z with the mass matrix
(S S^T)^-1, the metric (Neal, Handbook of MCMC, 2011, section 5.4.1); U's gradient in u is S^T grad U. All functions
take batches of vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.bases.equivariant import EquivariantBasis


class Metric(Protocol):
    """z = S u, its transpose and its inverse."""

    def color(self, u: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """S u."""

    def pull(self, gradient: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """S^T g."""

    def whiten(self, z: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """S^-1 z."""


@dataclass(frozen=True)
class DiagonalMetric:
    """S = diag(precision)^(-1/2)."""

    precision: Float[Tensor, " size"]

    def color(self, u: Tensor) -> Tensor:
        """See Metric."""
        return u * self.precision.rsqrt()

    def pull(self, gradient: Tensor) -> Tensor:
        """See Metric."""
        return gradient * self.precision.rsqrt()

    def whiten(self, z: Tensor) -> Tensor:
        """See Metric."""
        return z * self.precision.sqrt()


class DenseMetric:
    """S = L^-T, with L L^T a dense precision matrix; S is formed, since products are faster than solves.

    Parameters
    ----------
    precision : the matrix.
    dtype : of the vectors; that of the matrix by default.

    Raises
    ------
    torch.linalg.LinAlgError
        If the matrix is not positive definite.
    """

    def __init__(self, precision: Float[Tensor, "size size"], dtype: torch.dtype | None = None) -> None:
        exact = precision.double()
        cholesky = torch.linalg.cholesky((exact + exact.mT) / 2)
        eye = torch.eye(len(exact), dtype=exact.dtype, device=exact.device)
        dtype = dtype or precision.dtype
        self.inverse_root = torch.linalg.solve_triangular(cholesky.mT, eye, upper=True).to(dtype)  # S
        self.root = cholesky.mT.to(dtype)  # S^-1

    def color(self, u: Tensor) -> Tensor:
        """See Metric."""
        return u @ self.inverse_root.mT

    def pull(self, gradient: Tensor) -> Tensor:
        """See Metric."""
        return gradient @ self.inverse_root

    def whiten(self, z: Tensor) -> Tensor:
        """See Metric."""
        return z @ self.root.mT


@dataclass(frozen=True)
class SplitMetric:
    """Metrics of parts of the vector, side by side.

    Attributes
    ----------
    sizes : of the parts, in order.
    parts : their metrics.
    """

    sizes: Sequence[int]
    parts: Sequence[Metric]

    def color(self, u: Tensor) -> Tensor:
        """See Metric."""
        pieces = u.split(list(self.sizes), dim=-1)
        return torch.cat([part.color(piece) for part, piece in zip(self.parts, pieces, strict=True)], dim=-1)

    def pull(self, gradient: Tensor) -> Tensor:
        """See Metric."""
        pieces = gradient.split(list(self.sizes), dim=-1)
        return torch.cat([part.pull(piece) for part, piece in zip(self.parts, pieces, strict=True)], dim=-1)

    def whiten(self, z: Tensor) -> Tensor:
        """See Metric."""
        pieces = z.split(list(self.sizes), dim=-1)
        return torch.cat([part.whiten(piece) for part, piece in zip(self.parts, pieces, strict=True)], dim=-1)


@dataclass(frozen=True)
class CollapsedMetric:
    """S = sum_k Q_k diag(e_k)^(-1/2) Q_k^T + b^(-1/2) P, with P the projector on what the Q_k leave: for an effective
    weight, whose precision is about e_k along the pathways and b elsewhere.

    Attributes
    ----------
    bases : Q_k, orthonormal and orthogonal to each other.
    precisions : e_k, one number for each coordinate.
    residual_precision : b.
    """

    bases: Sequence[EquivariantBasis]
    precisions: Sequence[Float[Tensor, " rank"]]
    residual_precision: Float[Tensor, ""]

    def color(self, u: Tensor) -> Tensor:
        """See Metric."""
        return self._scaled(u, -0.5)

    def pull(self, gradient: Tensor) -> Tensor:
        """See Metric; S is symmetric."""
        return self._scaled(gradient, -0.5)

    def whiten(self, z: Tensor) -> Tensor:
        """See Metric."""
        return self._scaled(z, 0.5)

    def _scaled(self, vector: Tensor, power: float) -> Tensor:
        elsewhere = self.residual_precision**power
        result = elsewhere * vector
        for basis, precision in zip(self.bases, self.precisions, strict=True):
            result = result + basis.expand((precision**power - elsewhere) * basis.coordinates(vector))
        return result


@dataclass(frozen=True)
class ResidualMetric:
    """For (beta_1, ..., beta_K, B): coordinates (r_1, ..., r_K, W) in which the posterior falls apart.

    W = B + sum_k Q_k beta_k is all that the likelihood sees, and r_k = beta_k - s_k Q_k^T W with s_k = v_k / (v_k +
    v_b) is independent of it and N(0, s_k v_b I), exactly. W gets a metric of its own.

    Attributes
    ----------
    bases : Q_k, orthonormal and orthogonal to each other.
    pathway_variances, dense_variance : v_k and v_b of the prior.
    effective : the metric of W.
    temperature : of the posterior; it scales the law of r_k.
    """

    bases: Sequence[EquivariantBasis]
    pathway_variances: Sequence[float]
    dense_variance: float
    effective: CollapsedMetric
    temperature: float = 1.0

    def color(self, u: Tensor) -> Tensor:
        """See Metric."""
        *rests, dense = self._split(u)
        weight = self.effective.color(dense)
        betas = [
            self._spread(variance) * rest + self._share(variance) * basis.coordinates(weight)
            for rest, variance, basis in zip(rests, self.pathway_variances, self.bases, strict=True)
        ]
        expanded = [basis.expand(beta) for basis, beta in zip(self.bases, betas, strict=True)]
        return torch.cat([*betas, weight - torch.stack(expanded).sum(0)], dim=-1)

    def pull(self, gradient: Tensor) -> Tensor:
        """See Metric."""
        *betas, dense = self._split(gradient)
        total, rests = dense, []
        for beta, variance, basis in zip(betas, self.pathway_variances, self.bases, strict=True):
            difference = beta - basis.coordinates(dense)
            total = total + self._share(variance) * basis.expand(difference)
            rests.append(self._spread(variance) * difference)
        return torch.cat([*rests, self.effective.pull(total)], dim=-1)

    def whiten(self, z: Tensor) -> Tensor:
        """See Metric."""
        *betas, dense = self._split(z)
        expanded = [basis.expand(beta) for basis, beta in zip(self.bases, betas, strict=True)]
        weight = dense + torch.stack(expanded).sum(0)
        rests = [
            (beta - self._share(variance) * basis.coordinates(weight)) / self._spread(variance)
            for beta, variance, basis in zip(betas, self.pathway_variances, self.bases, strict=True)
        ]
        return torch.cat([*rests, self.effective.whiten(weight)], dim=-1)

    def _split(self, vector: Tensor) -> tuple[Tensor, ...]:
        return vector.split([*(basis.rank for basis in self.bases), self.bases[0].size], dim=-1)

    def _share(self, variance: float) -> float:
        return variance / (variance + self.dense_variance)

    def _spread(self, variance: float) -> float:
        return (self.temperature * self._share(variance) * self.dense_variance) ** 0.5
