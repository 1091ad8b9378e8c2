"""Non-centred coordinates for models whose variances have hyperpriors.

    theta = S(v) e,    S(v) S(v)^T = Sigma(v),    z = (e, log v, all other parameters)

Given its variance v a weight is e, standard normal, times S(v): sqrt(v) for a residual pathway, the root of the whole
covariance for a collapsed weight. The prior of z has no funnel, in which steps that are right for large weights are
too long for small ones (Papaspiliopoulos, Roberts & Sköld, Statistical Science 2007; Betancourt & Girolami, 2015).
Where the data determine the weights, the centred coordinates are the better ones.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from pyro.distributions import Distribution
from torch import Tensor

from bayes_rpp import BayesianModel, PathwayNormal
from bayes_rpp.types import Params
from inference.data import Model, Pair
from inference.density.unconstrained import UnconstrainedDensity


class NonCentredDensity(UnconstrainedDensity):
    """U over z = (e, log v), see above; weights whose prior depends on no hyperprior are coordinates themselves. Raises
    ValueError if all weights are such.
    """

    centred = False

    def __init__(
        self, model: Model, pair: Pair | None, temperature: float = 1.0, device: torch.device | str = "cpu"
    ) -> None:
        self.standardised = model.hierarchical if isinstance(model, BayesianModel) else ()
        if not self.standardised:
            raise ValueError(
                "centred=False is for models with hyperpriors, RPPPrior(dense_variance=HalfCauchy(0.01)); with fixed "
                "variances a metric does as much."
            )
        super().__init__(model, pair, temperature, device)

    def free(self, params: Params) -> Float[Tensor, "*batch size"]:
        """See UnconstrainedDensity."""
        priors = self._conditional_priors(params)
        return super().free({**params, **{name: prior.whiten(params[name]) for name, prior in priors.items()}})

    def params(self, z: Float[Tensor, "*batch size"]) -> Params:
        """See UnconstrainedDensity."""
        params = super().params(z)
        priors = self._conditional_priors(params)
        return {**params, **{name: prior.color(params[name]) for name, prior in priors.items()}}

    def log_jacobian(self, z: Float[Tensor, " size"], params: Params) -> Float[Tensor, ""] | float:
        """See UnconstrainedDensity; with log det S(v) for each weight."""
        result = super().log_jacobian(z, params)
        for prior in self._conditional_priors(params).values():
            result = result + prior.entropy() - 0.5 * prior.numel * (1 + math.log(2 * math.pi))
        return result

    def priors(self, z: Float[Tensor, " size"]) -> dict[str, Distribution]:
        """See UnconstrainedDensity; standard normal for what is standardised."""
        unit = torch.ones((), dtype=self.dtype, device=self.device)
        standard = {name: PathwayNormal(self.shapes[name], unit) for name in self.standardised}
        return {**super().priors(z), **standard}

    def _conditional_priors(self, params: Params) -> dict[str, PathwayNormal]:
        """The priors of the weights that are standardised, given the variances."""
        assert isinstance(self.model, BayesianModel)
        return self.model.hierarchical_laws(params)


def sampling_density(
    model: Model, pair: Pair | None, temperature: float, device: torch.device | str = "cpu", *, centred: bool
) -> UnconstrainedDensity:
    """The density that samplers use, over centred or non-centred coordinates."""
    return (UnconstrainedDensity if centred else NonCentredDensity)(model, pair, temperature, device)
