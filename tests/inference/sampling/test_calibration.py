"""Simulation-based calibration, by the code of examples/calibration.py: ranks of the truth are uniform."""

import functools
import importlib
import itertools
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from inference import HMC, Posterior
from tests.error_rate import ERROR_RATE
from tests.seeds import shifted

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def calibration():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield importlib.import_module("calibration")
        for name in ("calibration", "recording.resumed_runs", "recording.result_pages", "recording"):
            sys.modules.pop(name)


@functools.cache
def covariance(model, x, variance_factor):
    """Of the posterior, which does not depend on y, and what takes y to its mean."""
    parts = {name: variance_factor * own.variance.flatten() for name, own in model.prior_distributions.items()}
    zero = {name: torch.zeros_like(value) for name, value in model.initial_params(0).items()}
    jacobian = torch.func.jacrev(lambda params: model.output(params, x).flatten())(zero)
    features = torch.cat([part.flatten(1) for part in jacobian.values()], dim=1)
    prior = torch.cat([parts[name].to(x) for name in jacobian])
    found = torch.linalg.inv(torch.diag(1 / prior) + features.mT @ features / model.likelihood.noise_variance)
    return found, found @ features.mT / model.likelihood.noise_variance


def exact(model, data, seed, temperature=1.0, variance_factor=1.0):
    """Draws from the posterior of a linear model with known noise, in closed form; or from a wrong one."""
    x, y = data
    matrix, to_mean = covariance(model, x, variance_factor)
    noise = torch.randn(64, len(matrix), generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    flat = to_mean @ y.flatten() + math.sqrt(temperature) * noise @ torch.linalg.cholesky(matrix).mT
    shapes = {name: value.shape for name, value in model.initial_params(0).items()}
    parts = flat.split([shape.numel() for shape in shapes.values()], dim=1)
    named = zip(shapes.items(), parts, strict=True)
    return Posterior(model, {n: part.reshape(16, 4, *shape) for (n, shape), part in named}, data=data)


def least_p(calibration, setting, fit, replicates):
    """Of all functions, by Bonferroni."""
    found = calibration.p_values(
        [calibration.replicate(setting, fit, seed) for seed in range(shifted(), shifted(replicates))]
    )
    return min(found.values()) * len(found)


@pytest.mark.statistical
def test_exact_draws_of_a_linear_model_are_calibrated(calibration):
    setting = calibration.problem(layers=0, examples=10, learned=False)
    assert least_p(calibration, setting, exact, 60) > ERROR_RATE


@pytest.mark.statistical
@pytest.mark.parametrize(
    "wrong", [{"temperature": 8.0}, {"variance_factor": 100.0}], ids=lambda wrong: next(iter(wrong))
)
def test_draws_from_a_wrong_posterior_are_caught(calibration, wrong):
    setting = calibration.problem(layers=0, examples=10, learned=False)
    assert least_p(calibration, setting, functools.partial(exact, **wrong), 60) < ERROR_RATE


def by_hmc(temperature):
    """Many chains of which the last draw counts: 64 cost no more than a few."""
    engine = HMC(chains=64, warmup=50, draws=4, temperature=temperature, metric="diagonal")
    return lambda model, data, seed: engine.fit(model, data, seed=seed)


@pytest.mark.statistical
def test_hmc_is_calibrated_on_a_linear_model_with_learned_noise(calibration):
    setting = calibration.problem(layers=0, examples=16)
    assert least_p(calibration, setting, by_hmc(1.0), 16) > ERROR_RATE
    assert least_p(calibration, setting, by_hmc(20.0), 10) < ERROR_RATE


def test_p_values_are_those_of_all_possible_ranks(calibration):
    """Four ranks in four bins: every one of the 256 outcomes."""
    outcomes = [calibration.uniformity(np.array(o), ranked=3, bins=4) for o in itertools.product(range(4), repeat=4)]
    for level in sorted(set(outcomes)):
        assert np.mean(np.array(outcomes) <= level + 1e-12) == pytest.approx(level)
