"""Annealed importance sampling is calibrated: on simulated data it bounds the evidence from below and from above.

Forwards the mean weight has the evidence Z as its expectation, backwards, from exact draws of the posterior, 1 / Z. So
by Jensen's inequality the log of the first is below log Z in expectation, and minus the log of the second above
(Grosse, Ghahramani & Adams, "Sandwiching the marginal likelihood using bidirectional Monte Carlo", 2015). Exact draws
are at hand where the data were simulated: the parameters that made them are one.
"""

import math

import pyro
import pytest
import torch
from torch.distributions import MultivariateNormal

from analysis.evidence.annealing import AnnealedImportanceSampling, log_mean
from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, RPPPrior, Scalar
from bayes_rpp.prior_draws import prior_draws
from bayes_rpp.seeding import seeded
from inference import MAP, Laplace, Posterior
from inference.settings import chain_seeds
from inference.tempering import particles
from tests.error_rate import agrees, t_limit, z_limit
from tests.seeds import shifted

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


@torch.no_grad()
def reverse_log_weights(model, data, exact_draws, seed, method):
    """Log weights of particles that begin at exact draws of the posterior and go back to the reference, along the
    path, the temperatures and the kernels that ``method.estimate`` has with the same seed: the mean weight is 1 / Z.
    """
    path = method.path(model, data, seed, progress=False)
    plan = method.plan(path, seed, progress=False)
    generator = torch.Generator(path.density.device).manual_seed(chain_seeds(seed, 3)[2][1])
    cloud = path.at(path.density.latest(exact_draws, method.particles))
    total, temperatures = torch.zeros_like(cloud.gain), (0.0, *plan.temperatures)
    for level in range(len(plan.temperatures), 0, -1):
        cloud, _ = particles.move(path, cloud, temperatures[level], plan.kernel(level), generator)
        total = total - (temperatures[level] - temperatures[level - 1]) * cloud.gain
    return total


def simulated(model, x, seed):
    """Data that the model makes, and the parameters that made them: an exact draw of the posterior."""
    made, noise = chain_seeds(seed, 4)[3]
    params = {name: value[0].double() for name, value in prior_draws(model, 1, made).items()}
    with seeded(noise, torch.device("cpu")), pyro.validation_enabled(False), torch.no_grad():
        y = model.likelihood.distribution(model.output(params, x), params).sample()
    return (x, y), Posterior(model, {name: value[None, None] for name, value in params.items()}, data=(x, y))


@pytest.mark.statistical
def test_reverse_runs_from_exact_draws_have_the_inverse_as_their_mean(monkeypatch):
    model, data = linear_problem()
    draws = Laplace(mode=MAP(epochs=20), draws=4 * RUNS).fit(model, data, seed=shifted(7))  # exact for a linear model
    method, truth = ais(particles=4 * RUNS, temperatures=100), exact_evidence(*data)
    log_weights = reverse_log_weights(model, data, draws, shifted(), method)
    ratios = (log_weights.reshape(RUNS, -1).logsumexp(1) - math.log(4) + truth).exp()
    assert agrees(ratios[:, None], 1.0)
    value, error = log_mean(log_weights)
    assert abs(value + truth) < t_limit(1, RUNS - 1) * error
    assert error < 0.1
    honest = particles.move
    monkeypatch.setattr(particles, "move", lambda p, c, t, k, g: honest(p, c, 0.7 * t, k, g))
    value, error = log_mean(reverse_log_weights(model, data, draws, shifted(), method))
    assert abs(value + truth) > t_limit(1, RUNS - 1) * error  # moves at other temperatures are noticed


@pytest.mark.statistical
def test_gap_between_forwards_and_backwards_closes_as_temperatures_are_added():
    """Mean log weights, forwards and backwards, bracket the evidence at about distance^2 / 2 K each."""
    model, data = linear_problem()
    draws = Laplace(mode=MAP(epochs=20), draws=8 * RUNS).fit(model, data, seed=shifted(7))
    truth, gaps = exact_evidence(*data), []
    for temperatures in (4, 12, 36):
        method = ais(particles=8 * RUNS, temperatures=temperatures)
        below = method.estimate(model, data, seed=shifted(3)).details["log_weights"]
        above = -reverse_log_weights(model, data, draws, shifted(3), method)
        assert truth - below.mean() > t_limit(6, 8 * RUNS - 1) * below.std() / math.sqrt(8 * RUNS)
        assert above.mean() - truth > t_limit(6, 8 * RUNS - 1) * above.std() / math.sqrt(8 * RUNS)
        gaps.append(float(above.mean() - below.mean()))
    assert 2 < gaps[0] / gaps[1] < 6
    assert 2 < gaps[1] / gaps[2] < 6


@pytest.mark.statistical
def test_both_directions_bracket_the_evidence_of_data_that_the_model_makes():
    model, (x, _) = linear_problem()
    data, draw = simulated(model, x, seed=shifted(3))
    method = ais(particles=128)
    below = method.estimate(model, data, seed=shifted(3))
    above = log_mean(reverse_log_weights(model, data, draw, shifted(3), method))
    truth = exact_evidence(*data)
    assert below.value - truth < t_limit(1, 127) * below.standard_error
    assert truth + above[0] < t_limit(1, 127) * above[1]


@pytest.mark.statistical
def test_simulated_data_are_of_the_model():
    model, (x, _) = linear_problem()
    variances, truth = [], None
    for seed in range(300):
        (_, y), draw = simulated(model, x, shifted(seed))
        variances.append(y[0].square().sum())
        residual = y - draw.outputs(x)[0, 0]
        truth = residual.square().mean() if truth is None else truth + residual.square().mean()
    squares = torch.stack(variances)
    expected = VARIANCE * (x[0].square().sum() + 1) + NOISE
    for total, freedom in ((squares.sum() / expected, 300), (10 * truth / NOISE, 3000)):  # chi-squared, after Fisher
        assert abs((2 * total).sqrt() - math.sqrt(2 * freedom - 1)) < z_limit(2)
