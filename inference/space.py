"""The coordinates that a sampler walks in: a target's free vectors, whitened by a metric."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from bayes_rpp.likelihoods import Params
from inference.data import Pair
from inference.metrics import Metric
from inference.target import Target


class Space:
    """U and its gradient over u, with z = S u.

    Parameters
    ----------
    target : U over free vectors z.
    metric : S; None for the identity.
    """

    def __init__(self, target: Target, metric: Metric | None = None) -> None:
        self.target, self.metric = target, metric
        self.size, self.dtype, self.device = target.size, target.dtype, target.device

    def free(self, u: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """z = S u."""
        return u if self.metric is None else self.metric.color(u)

    def whiten(self, z: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """u = S^-1 z."""
        return z if self.metric is None else self.metric.whiten(z)

    def params(self, u: Float[Tensor, "*batch size"]) -> Params:
        """The (constrained) parameters."""
        return self.target.params(self.free(u))

    def potential(self, u: Float[Tensor, " size"]) -> Float[Tensor, ""]:
        """U of one vector, on all data."""
        return self.target.potential(self.free(u))

    def gradients(
        self, u: Float[Tensor, "chain size"], batch: Pair | None = None
    ) -> tuple[Float[Tensor, "chain size"], Float[Tensor, " chain"]]:
        """Gradients in u and values of U, for every chain at once; see Target.gradients."""
        gradient, value = self.target.gradients(self.free(u), batch)
        return (gradient if self.metric is None else self.metric.pull(gradient)), value
