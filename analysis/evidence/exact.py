"""The exact evidence of networks that are linear in their parameters, under known Gaussian noise."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.evidence.hierarchical import hierarchical_posterior
from analysis.evidence.linear_network import linear_gaussian
from analysis.evidence.protocol import Evidence
from analysis.evidence.reduced_problem import has_learned_variances
from bayes_rpp import BayesianModel, PathwayNormal
from bayes_rpp.types import Params
from inference import Posterior
from inference.data import Data, Model, resolve_data
from inference.density.unconstrained import Target
from inference.exact.linear_gaussian import GaussianLaw, Space


@dataclass(frozen=True)
class ExactEvidence:
    """log p(y | x) = log N(vec y; f_0, Phi Sigma Phi^T + V) of a linear model, in closed form and in float64.

    The network's output must be affine in the parameters, f_0 + Phi theta, as that of a network without hidden layers,
    within a NormalizedNetwork or not; the noise V must be Gaussian. Variances that have hyperpriors, and a noise
    variance that is learned, are integrated over by quadrature, to about 1e-3 nats: see ``hierarchical_posterior``.

    Parameters
    ----------
    space : what is decomposed. "weights": a matrix as wide as there are coordinates (with the pathways' own);
        "functions": one as wide as there are observed numbers; "auto": the narrower. They agree.

    Raises
    ------
    ValueError
        If the space is unknown.

    Examples
    --------
    >>> net = RPPEMLP(data.rep_in, data.rep_out, data.group, layers=0)
    >>> model = BayesianModel(net, RPPPrior(), Gaussian(noise_variance=0.2))
    >>> ExactEvidence().estimate(model, data.train, seed=0).value
    """

    space: Space = "auto"

    def __post_init__(self) -> None:
        if self.space not in get_args(Space):
            raise ValueError(f"space must be one of {', '.join(get_args(Space))}, got {self.space!r}.")

    def estimate(
        self, model: Model, data: Data, *, seed: int, device: str | torch.device = "auto", progress: bool = True
    ) -> Evidence:
        """See EvidenceMethod. The seed is of the two points at which the derivatives are compared.

        Returns
        -------
        Evidence with standard error 0; ``details`` has "space", "parameters" and "observations"; or the "variances"
        that were integrated over, and the number of "points".

        Raises
        ------
        TypeError
            If the model is a LogDensity, its network is not linear in its parameters, its likelihood is not Gaussian,
            or a prior is no PathwayNormal.
        ValueError
            If more than three variances are learned, the data are missing or refused, or it would not fit into memory.
        """
        began = time.perf_counter()
        if isinstance(model, BayesianModel) and has_learned_variances(model):
            found = hierarchical_posterior(model, data)
            details = {"variances": list(found.names), "points": len(found.probabilities)}
            seconds = time.perf_counter() - began
            return Evidence(found.log_evidence, "exact, integrated over variances", 0.0, seconds, details=details)
        problem, prior = linear_gaussian(model, data, seed, device)
        with torch.no_grad():
            value = float(problem.log_evidence(prior, self.space))
        details = {
            "space": problem.space(prior, self.space),
            "parameters": problem.features.shape[-1],
            "observations": problem.residual.numel(),
        }
        return Evidence(value, "exact", standard_error=0.0, seconds=time.perf_counter() - began, details=details)


def exact_log_evidence(
    model: Model,
    data: Data,
    distributions: Mapping[str, PathwayNormal],
    space: Space = "auto",
    device: str | torch.device = "auto",
) -> Float[Tensor, ""]:
    """The exact log evidence of a linear model under other priors, differentiable in their variances.

    To take many steps in the variances, call ``linear_gaussian`` once, and the ``log_evidence`` of what it gives.

    Parameters
    ----------
    model, data : as for ``ExactEvidence.estimate``.
    distributions : new priors of parameters, by name; others keep the model's.
    space : see ExactEvidence.
    device : "auto" takes an accelerator if there is one.

    Raises
    ------
    ValueError, TypeError
        As ``ExactEvidence.estimate``, or if a name is none of the model's.

    Examples
    --------
    >>> variance = torch.tensor(1e-3, requires_grad=True)
    >>> exact_log_evidence(model, data.train, {"network.0.dense": PathwayNormal((9, 20), variance)}).backward()
    >>> variance.grad
    """
    problem, prior = linear_gaussian(model, data, device=device)
    if unknown := sorted(set(distributions) - set(prior)):
        raise ValueError(f"distributions names {unknown[0]!r}; the model's parameters are {list(prior)}.")
    return problem.log_evidence({**prior, **distributions}, space)


@dataclass(frozen=True)
class ExactPosterior:
    """The posterior of a linear model, a Gaussian.

    Attributes
    ----------
    law : N(mean, covariance) over the parameters as one vector, in the order of the network, in float64.
    target : the model and its data, which knows the order.
    """

    law: GaussianLaw
    target: Target

    @property
    def mean(self) -> Params:
        """The mean of every parameter, by name."""
        return self.target.unpack(self.law.mean)

    @property
    def covariance(self) -> Float[Tensor, "size size"]:
        """Of all parameters as one vector."""
        return self.law.covariance()

    def draw(self, draws: int, seed: int) -> Posterior:
        """Independent draws, as one chain, in the type of the network."""
        vectors = self.law.sample(draws, torch.Generator().manual_seed(seed))[None]
        samples = self.target.unpack(vectors.to(self.target.dtype))
        return Posterior(self.target.model, samples, {"engine": "exact", "seed": seed}, data=self.target.pair)


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
    return ExactPosterior(GaussianLaw(law.mean.cpu(), law.factor.cpu()), Target(model, resolve_data(model, data)))


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
