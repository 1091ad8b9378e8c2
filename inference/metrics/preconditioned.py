"""The coordinates of a sampler: a density's free vectors, whitened by a metric."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.types import Params
from inference.curvature.covariance_root import CovarianceRoot, formed_root
from inference.curvature.names import MetricName
from inference.data import Pair
from inference.density.unconstrained import UnconstrainedDensity
from inference.metrics.build_metric import build_metric


class PreconditionedDensity:
    """U and its gradient over u, with z = S u and S from the curvature at some vectors z, see ``build_metric``."""

    def __init__(
        self, density: UnconstrainedDensity, metric: MetricName | None, z: Float[Tensor, "start size"], seed: int = 0
    ) -> None:
        self.density, self.name, self.seed = density, metric, seed
        self.size, self.dtype, self.device = density.size, density.dtype, density.device
        self.metric: CovarianceRoot | None = None
        self.refresh(z)

    def refresh(self, z: Float[Tensor, "start size"]) -> None:
        """Take the metric from the curvature at other positions."""
        self.metric = build_metric(self.name, self.density, z, self.seed)
        self.from_curvature = self.metric is not None

    def fit_to(self, covariance: Float[Tensor, "size size"] | Float[Tensor, " size"]) -> None:
        """Take the metric from a covariance matrix of free vectors, or from their variances."""
        precision = 1 / covariance if covariance.ndim == 1 else torch.linalg.inv(covariance.double())
        self.metric = formed_root(precision, self.dtype)

    def free(self, u: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """z = S u."""
        return u if self.metric is None else self.metric.color(u)

    def whiten(self, z: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """u = S^-1 z."""
        return z if self.metric is None else self.metric.whiten(z)

    def params(self, u: Float[Tensor, "*batch size"]) -> Params:
        """The (constrained) parameters."""
        return self.density.params(self.free(u))

    def potential(self, u: Float[Tensor, " size"]) -> Float[Tensor, ""]:
        """U of one vector, on all data."""
        return self.density.potential(self.free(u))

    def gradients(
        self, u: Float[Tensor, "chain size"], batch: Pair | None = None
    ) -> tuple[Float[Tensor, "chain size"], Float[Tensor, " chain"]]:
        """Gradients in u and values of U, for every chain at once; see UnconstrainedDensity.gradients."""
        gradient, value = self.density.gradients(self.free(u), batch)
        return (gradient if self.metric is None else self.metric.pull(gradient)), value
