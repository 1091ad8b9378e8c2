"""The model of a problem, by the options of the command."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from functools import partial

from analysis.cli.fitting.problem import Problem
from bayes_rpp import (
    BayesianModel,
    Categorical,
    Gaussian,
    LaplaceNoise,
    NormalizedNetwork,
    Poisson,
    RPPPrior,
    StudentT,
    Trivial,
)
from bayes_rpp.likelihoods import Likelihood
from bayes_rpp.networks.emlp import NETWORKS

HEAVY_TAILED: dict[str, Callable[..., Likelihood]] = {
    "laplace-noise": LaplaceNoise,
    "student-t": partial(StudentT, 4.0),
}

_USUAL, _LEAST = 0.1, 1e-3  # scales of heavy-tailed noise, in standard deviations of the outputs


def model_of(options: Namespace, problem: Problem) -> BayesianModel:
    """The network of the options between standardised data, their prior, and the likelihood. Log rates of counts and
    logits of labels are not standardised. Raises ValueError for a noise where there is none.
    """
    if options.network == "emlp" and isinstance(problem.group, Trivial):
        raise ValueError("--network emlp is equivariant exactly, and needs --group, --rep-in and --rep-out.")
    network = NETWORKS[options.network](
        problem.rep_in, problem.rep_out, problem.group, channels=options.channels, layers=options.layers
    )
    variances = {"equivariant_variance": options.equivariant_variance, "dense_variance": options.dense_variance}
    prior = RPPPrior(**{name: value for name, value in variances.items() if value is not None})
    if options.noise_variance is not None and options.likelihood not in (None, "gaussian"):
        raise ValueError(
            f"--noise-variance is for --likelihood gaussian; that of {options.likelihood} is learned, or there is none."
        )
    if problem.is_of_labels or options.likelihood == "poisson":
        likelihood: Likelihood = Categorical() if problem.is_of_labels else Poisson()
        return BayesianModel(NormalizedNetwork.fit(network, problem.train[0]), prior, likelihood)
    normalized = NormalizedNetwork.fit(network, *problem.train)
    if options.likelihood in HEAVY_TAILED:
        return BayesianModel(normalized, prior, _heavy_tailed(options.likelihood, normalized))
    noise = 1.0 if options.noise_variance is None else options.noise_variance  # see training.train
    return BayesianModel(normalized, prior, Gaussian(noise))


def _heavy_tailed(name: str, network: NormalizedNetwork) -> Likelihood:
    """A learned scale: one for each output, if all of them are scalars; others would prefer directions."""
    scales = network.outputs.scale.double()
    scalars = all(run.piece_size == 1 for run in network.rep_out.runs)
    usual, least = _USUAL * float(scales.log().mean().exp()), _LEAST * float(scales.min())
    return HEAVY_TAILED[name](usual, learned=True, per_output=scalars, floor=least)
