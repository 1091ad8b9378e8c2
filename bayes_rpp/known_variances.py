"""Models whose variances are put in place of others, and the noise variance among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bayes_rpp.bayesian_model import BayesianModel
from bayes_rpp.likelihoods import NOISE


def model_at(model: BayesianModel, values: Mapping[str, float]) -> BayesianModel:
    """A model with these variances; a noise variance among them is then known."""
    likelihood = model.likelihood
    if model.gaussian is not None and NOISE in values:
        likelihood = replace(model.gaussian, noise_variance=values[NOISE], learned=False)
    prior = model.prior.with_variances({name: value for name, value in values.items() if name != NOISE})
    return BayesianModel(model.network, prior, likelihood, model.num_outputs)


def has_learned_noise(model: BayesianModel) -> bool:
    """Whether a noise variance is to be learned beside the prior's; raises ValueError for one of each output."""
    if model.gaussian is None or not model.gaussian.learned:
        return False
    if model.gaussian.per_output or isinstance(model.gaussian.noise_variance, tuple):
        raise ValueError(
            "the evidence learns one noise variance for all outputs: take Gaussian(..., per_output=False)."
        )
    return True
