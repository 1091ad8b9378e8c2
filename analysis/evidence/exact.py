"""The exact evidence of networks that are linear in their parameters, under known Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch

from analysis.evidence.protocol import Evidence, timed
from bayes_rpp import BayesianModel
from inference.data import Data, Model
from inference.exact.hierarchical import hierarchical_posterior
from inference.exact.linear_gaussian import Space
from inference.exact.linear_network import linear_gaussian
from inference.exact.marginal_likelihood import has_learned_variances


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

    @timed
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
        TypeError, ValueError
            If the model is a LogDensity, its network is not linear in its parameters, its likelihood not Gaussian, a
            prior no PathwayNormal; more than three variances are learned, data refused, or memory would not suffice.
        """
        if isinstance(model, BayesianModel) and has_learned_variances(model):
            found = hierarchical_posterior(model, data)
            details = {"variances": list(found.names), "points": len(found.probabilities)}
            return Evidence(found.log_evidence, "exact, integrated over variances", 0.0, details=details)
        problem, prior = linear_gaussian(model, data, seed, device)
        with torch.no_grad():
            value = float(problem.log_evidence(prior, self.space))
        details = {"space": problem.space(prior, self.space), "parameters": problem.features.shape[-1]}
        details["observations"] = problem.residual.numel()
        return Evidence(value, "exact", 0.0, details=details)
