"""Annealing backwards, and both directions together, against exact evidences of linear models."""

import math

import pytest
import torch
from scipy.stats import norm
from scipy.stats import t as student
from torch.distributions import MultivariateNormal

from analysis.evidence.annealing import AnnealedImportanceSampling
from analysis.evidence.bidirectional import bidirectional_evidence, reverse_annealing, simulated
from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, LogDensity, RPPPrior, Scalar
from inference import MAP, Laplace, Posterior

NOISE, RUNS, VARIANCE = 0.2, 200, 1.1


def ais(**settings):
    """With trajectories that are long enough for a linear model."""
    return AnnealedImportanceSampling(**{"trajectory_length": math.pi / 2, **settings})


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear_problem():
    """A linear layer of three parameters, each with the prior N(0, 1.1), and data."""
    net = RPPEMLP(2 * Scalar, Scalar, SO(3), layers=0, parametrization="collapsed").double()
    prior = RPPPrior(equivariant_variance=1.0, dense_variance=VARIANCE - 1.0, scaling="none")
    x = normal(10, 2)
    return BayesianModel(net, prior, Gaussian(NOISE)), (x, x @ normal(2, 1, seed=1) + 0.4 * normal(10, 1, seed=2))


def exact_evidence(x, y):
    features = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], 1)
    covariance = VARIANCE * features @ features.mT + NOISE * torch.eye(len(x), dtype=torch.float64)
    return float(MultivariateNormal(torch.zeros(len(x)).double(), covariance).log_prob(y.flatten()))


def limit(statistics):
    return student.isf(1e-3 / 2 / statistics, RUNS - 1)


def test_reverse_runs_from_exact_draws_have_the_inverse_as_their_mean():
    model, data = linear_problem()
    draws = Laplace(mode=MAP(epochs=20), draws=4 * RUNS).fit(model, data, seed=7)  # exact for a linear model
    evidence = reverse_annealing(model, data, draws, seed=0, method=ais(particles=4 * RUNS))
    truth = exact_evidence(*data)
    logs = evidence.details["log_weights"].reshape(RUNS, -1)
    ratios = (logs.logsumexp(1) - math.log(4) + truth).exp()
    assert abs(ratios.mean() - 1) < limit(1) * ratios.std() / math.sqrt(RUNS)
    assert abs(evidence.value - truth) < limit(1) * evidence.standard_error < 0.3
    few = ais(particles=4 * RUNS, temperatures=3)
    moved = Posterior(model, {name: 3 * value for name, value in draws.samples.items()})
    wrong = reverse_annealing(model, data, moved, seed=0, method=few)
    assert abs(wrong.value - truth) > 5 * wrong.standard_error


def test_gap_between_forwards_and_backwards_closes_as_temperatures_are_added():
    """Mean log weights, forwards and backwards, bracket the evidence at about distance^2 / 2 K each."""
    model, data = linear_problem()
    draws = Laplace(mode=MAP(epochs=20), draws=RUNS).fit(model, data, seed=7)
    truth, gaps = exact_evidence(*data), []
    for temperatures in (4, 12, 36):
        method = ais(particles=RUNS, temperatures=temperatures)
        below = method.estimate(model, data, seed=3).details["log_weights"]
        above = -reverse_annealing(model, data, draws, seed=3, method=method).details["log_weights"]
        assert truth - below.mean() > limit(6) * below.std() / math.sqrt(RUNS)
        assert above.mean() - truth > limit(6) * above.std() / math.sqrt(RUNS)
        gaps.append(float(above.mean() - below.mean()))
    assert 2 < gaps[0] / gaps[1] < 6
    assert 2 < gaps[1] / gaps[2] < 6


def test_both_directions_bracket_the_evidence_of_data_that_the_model_makes():
    model, (x, _) = linear_problem()
    data, draw = simulated(model, x, seed=3)
    method = ais(particles=128)
    below, above = bidirectional_evidence(model, x, seed=3, method=method)
    assert (below.method, above.method) == tuple(f"{way} AnnealedImportanceSampling" for way in ("forward", "reverse"))
    assert below.value == method.estimate(model, data, seed=3).value
    assert above.value == reverse_annealing(model, data, draw, seed=3, method=method).value
    truth = exact_evidence(*data)
    assert below.value - truth < norm.isf(1e-3) * below.standard_error
    assert truth - above.value < norm.isf(1e-3) * above.standard_error


def test_simulated_data_are_of_the_model():
    model, (x, _) = linear_problem()
    variances, truth = [], None
    for seed in range(300):
        (_, y), draw = simulated(model, x, seed)
        variances.append(y[0].square().sum())
        residual = y - draw.outputs(x)[0, 0]
        truth = residual.square().mean() if truth is None else truth + residual.square().mean()
    squares = torch.stack(variances)
    expected = VARIANCE * (x[0].square().sum() + 1) + NOISE
    assert abs(squares.mean() / expected - 1) < norm.isf(1e-3 / 4) * math.sqrt(2 / 300)
    assert abs(truth / 300 / NOISE - 1) < norm.isf(1e-3 / 4) * math.sqrt(2 / 3000)


def test_only_a_model_makes_data():
    density = LogDensity(lambda p: -p["z"].square().sum(), {"z": torch.zeros(2)})
    with pytest.raises(TypeError, match="only a BayesianModel can make data, got LogDensity"):
        bidirectional_evidence(density, torch.zeros(1, 2), seed=0)
    model, _ = linear_problem()
    with pytest.raises(ValueError, match="expected \\(batch, 2\\)"):
        bidirectional_evidence(model, torch.zeros(4, 3), seed=0)
