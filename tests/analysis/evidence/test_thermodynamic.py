"""Thermodynamic integration and stepping stones, against exact evidences and exact means along the path."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import t as student
from torch.distributions import MultivariateNormal

import inference.tempering.particles
from analysis.evidence.annealing import TemperedSMC
from analysis.evidence.thermodynamic import Ladder, SteppingStone, ThermodynamicIntegration
from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, LogDensity, RPPPrior, Scalar
from inference import MAP, Laplace

NOISE, ISLANDS = 0.2, 16
QUICK = {"trajectory_length": math.pi / 2}  # long enough for a linear model
SHORT = Laplace(mode=MAP(epochs=20), draws=1)
PRECISION, MEAN = np.array([3.0, 40.0, 300.0]), np.array([1.0, 0.5, -0.3])  # of a likelihood; the prior is N(0, I)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear_problem():
    net = RPPEMLP(2 * Scalar, Scalar, SO(3), layers=0, parametrization="collapsed").double()
    prior = RPPPrior(equivariant_variance=1.0, dense_variance=0.1, scaling="none")
    x = normal(10, 2)
    return BayesianModel(net, prior, Gaussian(NOISE)), (x, x @ normal(2, 1, seed=1) + 0.4 * normal(10, 1, seed=2))


def exact_evidence(x, y):
    features = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], 1)
    covariance = 1.1 * features @ features.mT + NOISE * torch.eye(len(x), dtype=torch.float64)
    return float(MultivariateNormal(torch.zeros(len(x)).double(), covariance).log_prob(y.flatten()))


def moments(t):
    """Mean and variance, under N(0, I) times exp(t D), of D = -sum_i p_i (z_i - m_i)^2 / 2."""
    precision = 1 + t * PRECISION
    mean, variance = t * PRECISION * MEAN / precision, 1 / precision
    offset = mean - MEAN
    first = -PRECISION / 2 * (offset**2 + variance)
    second = PRECISION**2 / 4 * (2 * variance**2 + 4 * offset**2 * variance)
    return float(first.sum()), float(second.sum())


def log_integral(t):
    precision = 1 + t * PRECISION
    return float((-0.5 * np.log(precision) - t * PRECISION * MEAN**2 / 2 / precision).sum())


def ladder(temperatures, islands=1):
    """A ladder that has seen the exact moments."""
    found = [moments(t) for t in temperatures]
    means, variances = ([torch.full((islands,), pair[i], dtype=torch.float64) for pair in found] for i in (0, 1))
    return Ladder(list(temperatures), means, variances)


def test_corrected_trapezoid_is_of_fourth_order_and_the_plain_one_of_second():
    """By exact moments, whose formulas the slope of the exact log integral confirms."""
    assert moments(0.3)[0] == pytest.approx((log_integral(0.3 + 1e-6) - log_integral(0.3 - 1e-6)) / 2e-6, rel=1e-7)
    assert moments(0.3)[1] == pytest.approx((moments(0.3 + 1e-6)[0] - moments(0.3 - 1e-6)[0]) / 2e-6, rel=1e-6)
    errors = {corrected: [] for corrected in (True, False)}
    for count in (100, 200):
        temperatures = np.linspace(0, 1, count + 1) ** 3
        for corrected, found in errors.items():
            found.append(abs(float(ladder(temperatures).integral(corrected)) - log_integral(1.0)))
    assert 12 < errors[True][0] / errors[True][1] < 20
    assert 3.5 < errors[False][0] / errors[False][1] < 4.5
    assert errors[True][1] < errors[False][1] / 20


def test_ladder_sees_the_weighted_moments_and_ratios():
    seen = Ladder()
    first, second = normal(1, 2, 6), normal(3, 2, 6, seed=1)
    even = torch.full((2, 6), 1 / 6, dtype=torch.float64)
    weights = normal(2, 6, seed=2).softmax(1)
    seen.observe(0.0, first, even.log())
    seen.observe(0.25, second, weights.log())
    seen.observe(1.0, first, even.log())
    torch.testing.assert_close(seen.means[0], first[0].mean(1))
    torch.testing.assert_close(seen.variances[0], first[0].var(1))
    torch.testing.assert_close(seen.means[1], (weights * second).sum(2).mean(0))
    torch.testing.assert_close(seen.log_ratios[0], (0.25 * first[0]).exp().mean(1).log())
    torch.testing.assert_close(seen.log_ratios[1], (weights * (0.75 * second).exp()).sum(2).mean(0).log())
    assert (seen.temperatures, len(seen.log_ratios)) == ([0.0, 0.25, 1.0], 2)


def agrees(evidence, truth, statistics):
    return abs(evidence.value - truth) < student.isf(1e-3 / 2 / statistics, ISLANDS - 1) * evidence.standard_error


@pytest.mark.parametrize("method", [ThermodynamicIntegration, SteppingStone])
def test_tempered_means_give_the_evidence(method):
    model, data = linear_problem()
    evidence = method(particles=1024, islands=ISLANDS, **QUICK).estimate(model, data, seed=0)
    assert evidence.standard_error < 0.1
    assert agrees(evidence, exact_evidence(*data), 2)
    assert not agrees(evidence, exact_evidence(*data) + 0.5, 2)
    assert not evidence.warnings


@pytest.mark.parametrize("method", [ThermodynamicIntegration, SteppingStone])
def test_means_at_other_temperatures_than_said_are_noticed(method, monkeypatch):
    model, data = linear_problem()
    honest = inference.tempering.particles.move
    monkeypatch.setattr(inference.tempering.particles, "move", lambda p, c, t, k, g: honest(p, c, 0.7 * t, k, g))
    evidence = method(particles=1024, islands=ISLANDS, **QUICK).estimate(model, data, seed=0)
    assert not agrees(evidence, exact_evidence(*data), 2)


def test_stepping_stones_of_one_move_and_smc_come_from_the_same_particles():
    """The run is the same; the stones pool each ratio over the islands, and SMC their products."""
    model, data = linear_problem()
    settings = {"particles": 128, "temperatures": 12, **QUICK}
    stone = SteppingStone(**settings, moves=1).estimate(model, data, seed=0)
    smc = TemperedSMC(**settings).estimate(model, data, seed=0)
    assert torch.equal(stone.details["log_weights"], smc.details["log_weights"])
    assert stone.value == pytest.approx(smc.value, abs=3 * smc.standard_error)
    assert stone.value != smc.value


def test_few_temperatures_need_the_correction_and_are_warned_of():
    model, data = linear_problem()
    truth = exact_evidence(*data)
    evidence = ThermodynamicIntegration(particles=512, temperatures=4, moves=4, **QUICK).estimate(model, data, seed=0)
    correction = evidence.details["correction"]
    assert any(f"the correction of the trapezoidal rule is {correction:.2g} nats" in text for text in evidence.warnings)
    plain = evidence.value - correction
    assert plain < truth - 1
    finer = ThermodynamicIntegration(particles=512, temperatures=32, **QUICK).estimate(model, data, seed=0)
    assert abs(finer.details["correction"]) < abs(correction) / 10
    assert abs(finer.value - truth) < 0.5


@pytest.mark.parametrize("method", [ThermodynamicIntegration, SteppingStone])
def test_log_density_is_integrated_from_its_gaussian(method):
    precision, mean = torch.from_numpy(PRECISION), torch.from_numpy(MEAN)

    def log_density(params):
        away = params["z"] - mean
        return -0.5 * (precision * away.square()).sum() - 0.1 * (away[0] * precision[0]).square().square()

    density = LogDensity(log_density, {"z": torch.zeros(3, dtype=torch.float64)})
    grid = np.linspace(-8, 8, 20001)
    first = np.trapezoid(np.exp(-0.5 * 3 * grid**2 - 0.1 * (3 * grid) ** 4), grid)
    truth = math.log(first) + float(np.log(2 * np.pi / PRECISION[1:]).sum()) / 2
    evidence = method(particles=1024, islands=ISLANDS, laplace=SHORT, **QUICK).estimate(density, None, seed=0)
    assert evidence.standard_error < 0.1
    assert agrees(evidence, truth, 2)


def test_moves_must_be_some():
    with pytest.raises(ValueError, match="moves must be an integer of at least 1, got 0"):
        SteppingStone(moves=0)
