"""Networks in both parametrizations, and draws of their parameters."""

from __future__ import annotations

import pytest
import torch

from bayes_rpp import (
    RPPEMLP,
    SO,
    BayesianModel,
    Gaussian,
    NormalizedNetwork,
    O,
    O2eR3,
    RPPLinear,
    RPPPrior,
    Scalar,
    T,
    Vector,
    banded_maps,
    equivariant_maps,
    low_frequency_maps,
)
from inference import Posterior
from tests.seeds import shifted

REP_IN, REP_OUT, CHAIN = 2 * Vector + Scalar, Vector + Scalar, [O(3), O2eR3()]


TURNS = (2 * Vector)(O(2))


COUNT = 20_000


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(shifted(seed)), dtype=torch.float64)


def overlapping(parametrization):
    pathways = [equivariant_maps(TURNS, TURNS), banded_maps(4, 4, 1), low_frequency_maps(4, 4, 2)]
    return RPPLinear(TURNS, TURNS, pathways=pathways, parametrization=parametrization)


def deep(parametrization):
    network = RPPEMLP(REP_IN, T(2) + Scalar, O(3), channels=30, layers=2, parametrization=parametrization)
    return NormalizedNetwork.fit(network, 3 * numbers(50, 7) + 1, 9 * numbers(50, 10) - 2)


LINEAR = {
    "a group": (lambda p: RPPEMLP(REP_IN, REP_OUT, SO(3), layers=0, parametrization=p), 7, 4),
    "a chain": (lambda p: RPPEMLP(REP_IN, REP_OUT, CHAIN, layers=0, parametrization=p), 7, 4),
    "overlapping pathways": (overlapping, 4, 4),
    "no bias": (lambda p: RPPLinear(REP_IN, REP_OUT, group=SO(3), bias=False, parametrization=p), 7, 4),
}


NETWORKS = LINEAR | {
    "a deep chain": (lambda p: RPPEMLP(REP_IN, REP_OUT, CHAIN, channels=12, layers=1, parametrization=p), 7, 4),
    "a deep normalised network": (deep, 7, 10),
}


networks = pytest.mark.parametrize("case", NETWORKS)


linear = pytest.mark.parametrize("case", LINEAR)


both = pytest.mark.parametrize(("here", "there"), [("residual", "collapsed"), ("collapsed", "residual")])


def make(case, parametrization, dtype=torch.float64, equivariant=1.0, dense=0.1, learned=False):
    build, _, outputs = NETWORKS[case]
    levels = [equivariant, equivariant / 2, equivariant / 3]
    prior = RPPPrior(equivariant, dense, pathway_variances=levels, scaling="none")
    likelihood = Gaussian(noise_variance=0.2, learned=learned)
    return BayesianModel(build(parametrization).to(dtype), prior, likelihood, num_outputs=outputs)


def prior_draws(model, batch=(2, 3), seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shifted(seed))
        return {name: law.sample(batch) for name, law in model.prior_distributions.items()}


def moved(model, samples, there, seed=0):
    """A model and its samples (chain, draw, ...) in another parametrization."""
    found = Posterior(model, samples).in_parametrization(there, seed)
    return found.model, found.samples


def collapse(model, samples):
    return moved(model, samples, "collapsed")


def recover(model, samples, seed):
    return moved(model, samples, "residual", seed)


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def total_of(dense):
    """The name of the sum that a dense part belongs to."""
    return dense.replace("bias_dense", "bias").replace("dense", "weight")


def coordinates_of(twin, total):
    """The names of the coordinates whose sum this parameter is."""
    path, _, last = total.rpartition(".")
    start = f"{path}.{'beta' if last == 'weight' else 'bias_beta'}".lstrip(".")
    return [name for name in twin.prior_distributions if name.startswith(start)]
