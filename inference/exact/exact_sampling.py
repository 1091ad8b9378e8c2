"""Exact draws from the posterior of a linear model, as an engine."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bayes_rpp import BayesianModel
from inference import Posterior
from inference.data import Data, Model
from inference.exact.exact_posterior import exact_posterior
from inference.exact.hierarchical import hierarchical_posterior
from inference.exact.marginal_likelihood import has_learned_variances
from inference.settings import plain_seed, require_integers


@dataclass(frozen=True)
class ExactSampling:
    """Independent draws from the posterior of a linear model, as an engine, as for ``compare``.

    Its variances may be known, see ``exact_posterior``, or have hyperpriors, see ``hierarchical_posterior``.

    Parameters
    ----------
    draws : how many, as one chain.

    Raises
    ------
    ValueError
        If draws is not positive.

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
        """The draws; raises as ``ExactEvidence.estimate``. The computation is on the CPU, if variances are learned."""
        seed = plain_seed(seed)
        if isinstance(model, BayesianModel) and has_learned_variances(model):
            return hierarchical_posterior(model, data).draw(self.draws, seed)
        return exact_posterior(model, data, device).draw(self.draws, seed)
