"""SGHMC's splitting is exact for Gaussians, whatever their precision, and has the right moments elsewhere."""

import math

import pytest
import torch
from torch.distributions import Gamma, constraints

from bayes_rpp import Gaussian, LogDensity
from inference import SGHMC
from inference.sampling import random_streams as chain_random
from tests.error_rate import agrees
from tests.seeds import shifted

CHAINS = 2048
# precision l, step h, friction f; h l = f in the second, third, fourth and fifth
STIFFNESSES = [
    (1.0, 0.1, 1.0),
    (1.0, 1.0, 1.0),
    (100.0, 0.01, 1.0),
    (100.0, 0.1, 10.0),
    (1e4, 0.01, 100.0),
    (1e4, 1e-3, 20.0),
]


def gaussian(precision):
    return LogDensity(lambda p: -0.5 * precision * p["z"].square(), {"z": torch.tensor(0.0, dtype=torch.float64)})


def variance_ratios(engine, precision):
    """Mean square over truth, of each chain."""
    return engine.fit(gaussian(precision), None, seed=shifted()).samples["z"].square().mean(1) * precision


def run_length(step_size, friction):
    """Enough to forget the start, and thinned draws over eight times the memory."""
    memory = math.ceil(2 / (step_size * friction))
    return {"chains": CHAINS, "warmup": 6 * memory, "draws": 40, "thin": max(1, memory // 5)}


class Euler(SGHMC):
    """The published update, explicit."""

    def update(self, chains, gradient, noise, step):
        z, v, h = chains.position, chains.velocity, self.step_size
        after = v - h * gradient - self.friction * h * v + math.sqrt(2 * self.friction * h) * noise
        return chains._replace(position=z + h * v, velocity=after)


class NoiseWithoutSquareRoot(SGHMC):
    def update(self, chains, gradient, noise, step):
        return super().update(
            chains, gradient, math.sqrt(1 - math.exp(-2 * self.friction * self.step_size)) * noise, step
        )


@pytest.mark.statistical
@pytest.mark.parametrize(("precision", "step_size", "friction"), STIFFNESSES)
def test_variance_is_exact_at_every_stiffness(precision, step_size, friction):
    engine = SGHMC(step_size, friction=friction, **run_length(step_size, friction))
    ratios = variance_ratios(engine, precision)
    assert 0.95 < float(ratios.mean()) < 1.05
    assert agrees(ratios[:, None], 1.0)


@pytest.mark.statistical
@pytest.mark.parametrize("wrong", [Euler, NoiseWithoutSquareRoot])
def test_wrong_updates_are_caught(wrong):
    engine = wrong(0.01, friction=1.0, **run_length(0.01, 1.0))
    ratios = variance_ratios(engine, 100.0)
    assert not 0.9 < float(ratios.mean()) < 1.1
    assert not agrees(ratios[:, None], 1.0)


@pytest.mark.statistical
def test_temperature_multiplies_the_variance():
    engine = SGHMC(0.1, friction=10.0, temperature=2.0, **run_length(0.1, 10.0))
    ratios = variance_ratios(engine, 100.0)
    assert 1.9 < float(ratios.mean()) < 2.1
    assert agrees(ratios[:, None], 2.0)
    assert not agrees(ratios[:, None], 1.0)


@pytest.mark.statistical
def test_gamma_has_the_right_moments_through_its_jacobian():
    example = {"rate": torch.tensor(1.0, dtype=torch.float64)}
    density = LogDensity(lambda p: Gamma(3.0, 2.0).log_prob(p["rate"]), example, {"rate": constraints.positive})
    engine = SGHMC(0.2, friction=2.0, chains=512, warmup=100, draws=100, thin=4)
    rate = engine.fit(density, None, seed=shifted()).samples["rate"]
    moments = torch.stack([rate.mean(1), rate.square().mean(1), rate.log().mean(1)], dim=1)
    digamma = torch.digamma(torch.tensor(3.0, dtype=torch.float64)) - math.log(2)
    assert agrees(moments[:, :2], torch.tensor([1.5, 3.0], dtype=torch.float64))
    assert agrees(moments[:, 2:], digamma)
    assert not agrees(moments[:, :2], torch.tensor([1.0, 1.5], dtype=torch.float64))  # Gamma(2, 2): without a Jacobian


def exact_posterior(model, x, y, noise_variance=0.2):
    """Mean and covariance of (vec(W), b) of y = W x + b + noise, by dense matrices."""
    layer, identity = model.network.network[0], torch.eye(3, dtype=torch.float64)
    q, q_bias = layer.basis.dense(), layer.bias_basis.dense()
    prior = torch.block_diag(q @ q.mT, q_bias @ q_bias.mT) + 0.1 * torch.eye(24, dtype=torch.float64)
    features = torch.cat([torch.cat([torch.kron(identity, row[None]), identity], dim=1) for row in x])
    covariance = torch.linalg.inv(torch.linalg.inv(prior) + features.mT @ features / noise_variance)
    return covariance @ features.mT @ y.reshape(-1) / noise_variance, covariance


@pytest.mark.statistical
@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_linear_rpp_regression_has_the_exact_posterior_mean_and_covariance(make_linear_problem, parametrization):
    model, data = make_linear_problem(parametrization, likelihood=Gaussian(noise_variance=0.2))
    posterior = SGHMC(0.08, friction=4.0, chains=256, warmup=80, draws=30, thin=5).fit(model, data, seed=shifted())
    outputs = posterior.outputs(torch.cat([torch.zeros(1, 7), torch.eye(7)]).double())
    draws = torch.cat([(outputs[:, :, 1:] - outputs[:, :, :1]).mT.flatten(2), outputs[:, :, 0]], dim=2)
    mean, covariance = exact_posterior(model, *data)
    deviations = draws - mean
    products = torch.einsum("cdi,cdj->cij", deviations, deviations) / draws.shape[1]
    i, j = torch.triu_indices(24, 24)
    assert agrees(deviations.mean(1), 0.0)
    assert agrees(products[:, i, j], covariance[i, j])
    assert not agrees(products[:, i, j], 1.5 * covariance[i, j])


def test_first_velocities_are_not_the_first_noise(monkeypatch):
    """Not even where a chain's noise fills its block, as it does in large networks."""
    monkeypatch.setattr(chain_random, "NOISE_BLOCK", 1)
    velocities, noises = [], []

    class Watched(SGHMC):
        def update(self, chains, gradient, noise, step):
            velocities.append(chains.velocity.clone())
            noises.append(noise.clone())
            return super().update(chains, gradient, noise, step)

    Watched(0.1, chains=2, draws=2, warmup=0).fit(gaussian(1.0), None, seed=0)
    assert (velocities[0] != noises[0]).all()
    assert (noises[0] != noises[1]).all()


@pytest.mark.parametrize("friction", [0.0, -1.0, math.inf])
def test_wrong_friction_is_refused(friction):
    with pytest.raises(ValueError, match=rf"friction must be positive and finite, got {friction}"):
        SGHMC(0.1, friction=friction)
