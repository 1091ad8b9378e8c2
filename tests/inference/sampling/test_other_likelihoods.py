"""Samplers on likelihoods without conjugate priors, against quadrature over their only weight."""

import math

import pytest
import torch
from torch import nn

from bayes_rpp import BayesianModel, Bernoulli, LaplaceNoise, Poisson, RPPPrior, StudentT
from inference import HMC, Posterior
from tests.error_rate import agrees
from tests.scenarios.likelihoods import Exponential, numbers, observations
from tests.seeds import shifted

VARIANCE = 1.5
CASES = {
    "Bernoulli": Bernoulli(),
    "Poisson": Poisson(),
    "LaplaceNoise": LaplaceNoise(0.5),
    "StudentT": StudentT(3.0, 0.5),
    "a user's": Exponential(),
}


def one_weight(likelihood, seed):
    """f(x) = w x with w ~ N(0, 1.5), and ten observations at w = 0.8."""
    model = BayesianModel(
        nn.Linear(1, 1, bias=False).double(), RPPPrior(mlp_variance=VARIANCE, scaling="none"), likelihood, num_outputs=1
    )
    x = numbers(10, 1, seed=seed)
    return model, (x, observations(likelihood, 0.8 * x, seed))


def expectations(likelihood, data, new, functions):
    """E of functions of (w, mean of y, variance of y) under the posterior, by a sum over a lattice of w."""
    w = torch.linspace(-12, 12, 40_001, dtype=torch.float64)
    x, y = data
    log_joint = -0.5 * w.square() / VARIANCE
    for row, seen in zip(x, y, strict=True):
        log_joint = log_joint + likelihood.log_prob(w[:, None] * row, seen.expand(len(w), 1), {})
    law = likelihood.distribution(w[:, None] * new, {})
    p = log_joint.softmax(0)
    return torch.stack([(p * function(w, law.mean[:, 0], law.variance[:, 0])).sum() for function in functions])


@pytest.mark.statistical
@pytest.mark.parametrize("name", CASES)
def test_hmc_has_the_posterior_and_the_predictive_of_quadrature(name):
    likelihood, seed = CASES[name], shifted()
    model, data = one_weight(likelihood, seed)
    new = torch.tensor([[0.9]], dtype=torch.float64)
    posterior = HMC(chains=64, draws=60, warmup=100).fit(model, data, seed=seed)
    w = posterior.samples["weight"][..., 0, 0]
    predictions = [Posterior(model, {"weight": chain[None]}).predict(new) for chain in posterior.samples["weight"]]
    units = torch.stack([w.mean(1), w.square().mean(1), *moments_of(predictions)], dim=1)
    expected = expectations(
        likelihood, data, new, [lambda w, m, v: w, lambda w, m, v: w**2, lambda w, m, v: m, lambda w, m, v: v + m**2]
    )
    assert agrees(units, expected)


def moments_of(predictions):
    """E y and E y^2 of every chain."""
    mean = torch.stack([one.mean for one in predictions]).flatten()
    variance = torch.stack([one.variance for one in predictions]).flatten()
    return mean, variance + mean.square()


@pytest.mark.statistical
def test_the_wrong_noise_would_be_seen():
    """A negative control: draws under absolute errors are none of the posterior under squared ones."""
    seed = shifted()
    model, data = one_weight(LaplaceNoise(0.5), seed)
    w = HMC(chains=64, draws=60, warmup=100).fit(model, data, seed=seed).samples["weight"][..., 0, 0]
    expected = expectations(
        StudentT(200.0, 0.5 / math.sqrt(8)), data, torch.ones(1, 1).double(), [lambda w, m, v: w**2]
    )
    assert not agrees(w.square().mean(1, keepdim=True), expected)
