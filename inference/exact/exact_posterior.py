"""The exact posterior of a linear-Gaussian model: draws, also as an engine, and leave-one-out predictive densities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp import BayesianModel
from bayes_rpp.seeding import plain_seed, seeded_generator
from bayes_rpp.types import Params
from inference import Posterior
from inference.data import Data, Model, resolve_data
from inference.density.unconstrained import UnconstrainedDensity
from inference.exact.hierarchical import hierarchical_posterior
from inference.exact.linear_gaussian import GaussianLaw
from inference.exact.linear_network import linear_gaussian
from inference.exact.marginal_likelihood import has_learned_variances
from inference.settings import require_integers


@dataclass(frozen=True)
class ExactPosterior:
    """The posterior N(mean, covariance) of a linear model, with the density of the model and its data."""

    law: GaussianLaw  # over the parameters as one vector, in the order of the network, in float64
    density: UnconstrainedDensity

    @property
    def mean(self) -> Params:
        """The mean of every parameter, by name."""
        return self.density.unpack(self.law.mean)

    @property
    def covariance(self) -> Float[Tensor, "size size"]:
        """The covariance of all parameters as one vector."""
        return self.law.covariance()

    def draw(self, draws: int, seed: int) -> Posterior:
        """Independent draws, as one chain, in the type of the network."""
        vectors = self.law.sample(draws, seeded_generator(seed))[None]
        samples = self.density.unpack(vectors.to(self.density.dtype))
        return Posterior(self.density.model, samples, {"engine": "exact", "seed": seed}, data=self.density.pair)


@torch.no_grad()
def exact_posterior(model: Model, data: Data, device: str | torch.device = "auto") -> ExactPosterior:
    """The exact posterior of a linear model, on the CPU; raises as ``ExactEvidence.estimate``.

    Examples
    --------
    >>> exact_posterior(model, data.train).draw(1000, seed=0).predict(data.test.x).variance
    """
    problem, prior = linear_gaussian(model, data, device=device)
    law = problem.posterior(prior)
    density = UnconstrainedDensity(model, resolve_data(model, data))
    return ExactPosterior(GaussianLaw(law.mean.cpu(), law.factor.cpu()), density)


@torch.no_grad()
def exact_loo(model: Model, data: Data, device: str | torch.device = "auto") -> Float[Tensor, " example"]:
    """log p(y_i | y_-i) of every example, all of its outputs together, without refitting: LinearGaussian.leave_one_out.

    The sum is the expected log predictive density that PSISLOO estimates from draws. Raises as
    ``ExactEvidence.estimate``.

    Examples
    --------
    >>> exact_loo(model, data.train).sum()
    """
    problem, prior = linear_gaussian(model, data, device=device)
    return problem.leave_one_out(prior).cpu()


@dataclass(frozen=True)
class ExactSampling:
    """Independent draws from the posterior of a linear model, whose variances are known or have hyperpriors: see
    ``exact_posterior`` and ``hierarchical_posterior``.

    Parameters
    ----------
    draws : how many, as one chain; an integer of at least 1.

    Examples
    --------
    >>> models = symmetry_candidates(rep_in, rep_out, [O(3), Trivial(3)], Gaussian(0.2), layers=0)
    >>> print(compare(models, data.train, engine=ExactSampling(), method=ExactEvidence()))
    """

    draws: int = 1000

    def __post_init__(self) -> None:
        require_integers(self, draws=1)

    def fit(
        self, model: Model, data: Data, *, seed: int, device: str | torch.device = "auto", progress: bool = True
    ) -> Posterior:
        """The draws; raises as ``ExactEvidence.estimate``. Learned variances are integrated over on the CPU."""
        seed = plain_seed(seed)
        if isinstance(model, BayesianModel) and has_learned_variances(model):
            return hierarchical_posterior(model, data).draw(self.draws, seed)
        return exact_posterior(model, data, device).draw(self.draws, seed)
