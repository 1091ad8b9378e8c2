"""The exact posterior of a linear-Gaussian model, and its leave-one-out predictive densities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.types import Params
from inference import Posterior
from inference.data import Data, Model, resolve_data
from inference.density.unconstrained import UnconstrainedDensity
from inference.exact.linear_gaussian import GaussianLaw
from inference.exact.linear_network import linear_gaussian


@dataclass(frozen=True)
class ExactPosterior:
    """The posterior of a linear model, a Gaussian.

    Attributes
    ----------
    law : N(mean, covariance) over the parameters as one vector, in the order of the network, in float64.
    density : of the model and its data; it has the order of the parameters.
    """

    law: GaussianLaw
    density: UnconstrainedDensity

    @property
    def mean(self) -> Params:
        """The mean of every parameter, by name."""
        return self.density.unpack(self.law.mean)

    @property
    def covariance(self) -> Float[Tensor, "size size"]:
        """Of all parameters as one vector."""
        return self.law.covariance()

    def draw(self, draws: int, seed: int) -> Posterior:
        """Independent draws, as one chain, in the type of the network."""
        vectors = self.law.sample(draws, torch.Generator().manual_seed(seed))[None]
        samples = self.density.unpack(vectors.to(self.density.dtype))
        return Posterior(self.density.model, samples, {"engine": "exact", "seed": seed}, data=self.density.pair)


@torch.no_grad()
def exact_posterior(model: Model, data: Data, device: str | torch.device = "auto") -> ExactPosterior:
    """The exact posterior of a linear model; the result is on the CPU.

    Raises
    ------
    ValueError, TypeError
        As ``ExactEvidence.estimate``.

    Examples
    --------
    >>> exact_posterior(model, data.train).draw(1000, seed=0).predict(data.test.x).variance
    """
    problem, prior = linear_gaussian(model, data, device=device)
    law = problem.posterior(prior)
    return ExactPosterior(
        GaussianLaw(law.mean.cpu(), law.factor.cpu()), UnconstrainedDensity(model, resolve_data(model, data))
    )


@torch.no_grad()
def exact_loo(model: Model, data: Data, device: str | torch.device = "auto") -> Float[Tensor, " example"]:
    """log p(y_i | y_-i) of every example, all of its outputs together, without refitting: LinearGaussian.leave_one_out.

    The sum is the expected log predictive density that PSISLOO estimates from draws.

    Raises
    ------
    ValueError, TypeError
        As ``ExactEvidence.estimate``.

    Examples
    --------
    >>> exact_loo(model, data.train).sum()
    """
    problem, prior = linear_gaussian(model, data, device=device)
    return problem.leave_one_out(prior).cpu()
