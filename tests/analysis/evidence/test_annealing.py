"""Annealed importance sampling and tempered SMC: unbiased, forwards and backwards, against exact evidences."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pyro.distributions import HalfCauchy, LogNormal
from scipy.integrate import quad
from scipy.stats import kstest, norm
from torch.distributions import MultivariateNormal, constraints

import inference.tempering.particles
from analysis.evidence.annealing import (
    AnnealedImportanceSampling,
    TemperedSMC,
    acceptance_warnings,
    effective_share,
    log_mean,
)
from bayes_rpp import RPPEMLP, SO, BayesianModel, Categorical, Gaussian, LogDensity, RPPLinear, RPPPrior, Scalar, Vector
from bayes_rpp.bayesian_model import prior_draws
from inference import MAP, Laplace
from inference.tempering.particles import Annealing, trajectory
from inference.tempering.schedule import Kernel
from tests.error_rate import ERROR_RATE, agrees, t_limit
from tests.seeds import shifted

NOISE = 0.2
SHORT = Laplace(mode=MAP(epochs=20), draws=1)
RUNS = 200


def ais(**settings):
    """With trajectories that are long enough for a linear model."""
    return AnnealedImportanceSampling(**{"trajectory_length": math.pi / 2, **settings})


def smc(**settings):
    return TemperedSMC(**{"trajectory_length": math.pi / 2, **settings})


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear_problem(ratio=10.0, dense=0.1, parametrization="collapsed", rep_in=2 * Scalar, rep_out=Scalar):
    """A linear layer, of three parameters by default, and data that no equivariant map has made."""
    net = RPPEMLP(rep_in, rep_out, SO(3), layers=0, parametrization=parametrization).double()
    prior = RPPPrior(equivariant_variance=ratio * dense, dense_variance=dense, scaling="none")
    x = normal(10, net.rep_in.size)
    y = x @ normal(net.rep_out.size, net.rep_in.size, seed=1).mT + 0.3 + 0.4 * normal(10, net.rep_out.size, seed=2)
    return BayesianModel(net, prior, Gaussian(NOISE)), (x, y)


def exact_evidence(model, x, y):
    """log N(y; 0, Phi Sigma Phi^T + v I), from the dense Jacobian and covariance of the prior."""
    example, features, sigma = model.initial_params(0), [], []
    zero = {name: torch.zeros_like(value) for name, value in example.items()}
    jacobian = torch.func.jacrev(lambda p: model.output(p, x).flatten())(zero)
    for name, law in model.prior_distributions.items():
        size = example[name].numel()
        features.append(jacobian[name].reshape(y.numel(), size))
        eye = torch.eye(size, dtype=torch.float64).reshape(size, *example[name].shape)
        sigma.append(torch.linalg.inv(law.precision_times(eye).reshape(size, size)))
    phi = torch.cat(features, 1)
    covariance = phi @ torch.block_diag(*sigma) @ phi.mT + NOISE * torch.eye(y.numel(), dtype=torch.float64)
    return float(MultivariateNormal(torch.zeros(y.numel()).double(), covariance).log_prob(y.flatten()))


def unbiased(evidence, truth):
    """Whether the expectation of the estimate is the truth, by 200 independent runs."""
    logs = evidence.details["log_weights"].reshape(RUNS, -1)
    ratios = (logs.logsumexp(1) - math.log(logs.shape[1]) - truth).exp()
    return agrees(ratios[:, None], 1.0)


def within_its_error(evidence, truth):
    """By particles or islands that are independent."""
    independent = len(evidence.details["log_weights"])
    return abs(evidence.value - truth) < t_limit(1, independent - 1) * evidence.standard_error


METHODS = [ais(particles=4 * RUNS), smc(particles=8 * RUNS, islands=RUNS)]


@pytest.mark.statistical
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_two_hundred_runs_have_the_evidence_as_their_mean(method):
    model, data = linear_problem()
    truth = exact_evidence(model, *data)
    evidence = method.estimate(model, data, seed=shifted())
    assert unbiased(evidence, truth)
    assert within_its_error(evidence, truth)
    assert 0.005 < evidence.standard_error < 0.1
    assert not evidence.warnings
    assert not unbiased(evidence, truth - 1.0)


@pytest.mark.statistical
def test_kernel_that_accepts_everything_at_a_large_step_is_noticed(monkeypatch):
    model, data = linear_problem()

    def careless(path, cloud, t, kernel, noise):
        velocity = torch.randn(cloud.position.shape, generator=noise, dtype=torch.float64)
        return trajectory(path, cloud, t, Kernel(kernel.coordinates, 1.3, 3), velocity)[0], 1.0

    monkeypatch.setattr(inference.tempering.particles, "move", careless)
    evidence = smc(particles=8 * RUNS, islands=RUNS).estimate(model, data, seed=shifted())
    assert not unbiased(evidence, exact_evidence(model, *data))


@pytest.mark.statistical
def test_weights_at_other_temperatures_than_the_moves_are_noticed(monkeypatch):
    model, data = linear_problem()
    honest = inference.tempering.particles.move
    monkeypatch.setattr(inference.tempering.particles, "move", lambda p, c, t, k, g: honest(p, c, 0.7 * t, k, g))
    evidence = smc(particles=8 * RUNS, islands=RUNS).estimate(model, data, seed=shifted())
    assert not unbiased(evidence, exact_evidence(model, *data))


@pytest.mark.statistical
@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
@pytest.mark.parametrize("ratio", [1e4, 1e7])
def test_priors_of_very_different_variances_are_annealed_from(ratio, parametrization):
    model, data = linear_problem(ratio, 1.0 / ratio, parametrization, Vector + Scalar, Vector)
    evidence = smc(particles=256, islands=16).estimate(model, data, seed=shifted())
    truth = exact_evidence(model, *data)
    assert within_its_error(evidence, truth)
    assert evidence.standard_error < 0.3
    assert min(evidence.details["acceptance"]) > 0.7


@pytest.mark.parametrize("method", [ais, smc])
def test_gaussian_of_a_gaussian_posterior_needs_no_path_at_all(method):
    model, data = linear_problem()
    evidence = method(particles=64, reference="laplace", laplace=SHORT).estimate(model, data, seed=0)
    assert evidence.value == pytest.approx(exact_evidence(model, *data), abs=1e-8)
    assert evidence.details["temperatures"] == [1.0]
    assert evidence.details["effective"] == pytest.approx(1)


@pytest.mark.statistical
def test_categorical_likelihood_has_the_evidence_of_the_quadrature():
    """The two logits w x matter by their difference alone, which is normal under the prior."""
    layer = RPPLinear(Scalar, 2 * Scalar, bias=False, parametrization="collapsed", group=SO(3)).double()
    prior = RPPPrior(equivariant_variance=2.0, dense_variance=0.5, scaling="none")
    model = BayesianModel(layer, prior, Categorical())
    x, y = normal(8, 1), torch.tensor([0, 1, 1, 0, 1, 1, 1, 0])
    deviation, slopes = math.sqrt(2 * 2.5), ((2 * y - 1) * x[:, 0]).tolist()

    def integrand(w):
        likelihood = -sum(math.log1p(math.exp(-w * slope)) for slope in slopes)
        return norm.pdf(w, scale=deviation) * math.exp(likelihood)

    truth = math.log(quad(integrand, -40, 40, points=[0], limit=200)[0])
    for method in (METHODS[0], smc(particles=512, islands=16, reference="laplace", laplace=SHORT)):
        evidence = method.estimate(model, (x, y), seed=shifted())
        assert within_its_error(evidence, truth)
        assert evidence.standard_error < 0.1


@pytest.mark.statistical
@pytest.mark.parametrize("reference", ["prior", "laplace"])
def test_learned_noise_has_the_evidence_of_the_quadrature(reference):
    """One weight and a noise variance v: over the weight in closed form, over log v by quadrature."""
    layer = RPPLinear(Scalar, Scalar, bias=False, parametrization="collapsed", group=SO(3)).double()
    prior = RPPPrior(equivariant_variance=2.0, dense_variance=0.5, scaling="none")
    model = BayesianModel(layer, prior, Gaussian(0.3, learned=True, floor=1e-3))
    x = normal(7, 1)
    y = 0.7 * x + 0.3 * normal(7, 1, seed=1)

    def integrand(u):
        covariance = 2.5 * x @ x.mT + (math.exp(u) + 1e-3) * torch.eye(7, dtype=torch.float64)
        likelihood = MultivariateNormal(torch.zeros(7).double(), covariance).log_prob(y.flatten())
        return norm.pdf(u, math.log(0.299), 2.0) * math.exp(float(likelihood))

    truth = math.log(quad(integrand, -12, 8, points=[-2.5], limit=200)[0])
    evidence = smc(particles=256, islands=16, reference=reference, laplace=SHORT).estimate(
        model, (x, y), seed=shifted()
    )
    assert within_its_error(evidence, truth)
    assert evidence.standard_error < 0.15


@pytest.mark.statistical
def test_log_density_has_the_integral_of_the_quadrature():
    example = {"rate": torch.tensor(1.0, dtype=torch.float64)}
    density = LogDensity(
        lambda p: 1.5 * p["rate"].log() - 2 * p["rate"] - 0.3 * p["rate"].sin(), example, {"rate": constraints.positive}
    )
    truth = math.log(quad(lambda r: r**1.5 * math.exp(-2 * r - 0.3 * math.sin(r)), 0, 60)[0])
    for method in (ais(laplace=SHORT), smc(particles=512, islands=16, laplace=SHORT)):
        evidence = method.estimate(density, None, seed=shifted())
        assert within_its_error(evidence, truth)
        assert evidence.standard_error < 0.1


def test_log_density_has_no_prior_to_begin_at():
    density = LogDensity(lambda p: -p["z"].square().sum(), {"z": torch.zeros(2)})
    with pytest.raises(ValueError, match="a LogDensity does not separate its prior from the rest"):
        smc(reference="prior").estimate(density, None, seed=0)


def test_log_mean_and_its_error_are_those_of_the_weights():
    logs = normal(50) - 700
    value, error = log_mean(logs)
    weights = (logs + 700).exp()
    assert value == pytest.approx(float(weights.mean().log()) - 700, rel=1e-12)
    assert error == pytest.approx(float(weights.std() / weights.mean()) / math.sqrt(50), rel=1e-9)
    assert effective_share(logs) == pytest.approx(float(weights.sum() ** 2 / weights.square().sum()) / 50)


@pytest.mark.statistical
def test_weights_that_hang_on_few_particles_are_warned_of():
    model, data = linear_problem(1e3)
    evidence = ais(particles=64, temperatures=1).estimate(model, data, seed=shifted())
    assert any(f"worth {100 * evidence.details['effective']:.1f} % of 64" in text for text in evidence.warnings)
    few = smc(particles=32, temperatures=2).estimate(model, data, seed=shifted())
    assert any("the 8 islands' estimates spread over" in text for text in few.warnings)


def test_steps_that_are_refused_are_warned_of():
    run = Annealing(normal(8), None, [0.1, 0.5, 1.0], [0.8, 0.2, 0.29])
    (warning,) = acceptance_warnings(run)
    assert "the acceptance fell to 0.20 at the temperature 0.5" in warning
    assert not acceptance_warnings(replace(run, acceptance=[0.8, 0.3, 0.5]))


@pytest.mark.parametrize("method", [ais, smc])
def test_same_seed_gives_the_same_bits_and_leaves_the_global_numbers_alone(method):
    model, data = linear_problem()
    state = torch.get_rng_state()
    values = [method(particles=32, temperatures=4).estimate(model, data, seed=seed) for seed in (4, 4, 5)]
    assert torch.equal(state, torch.get_rng_state())
    assert values[0].value == values[1].value != values[2].value
    assert values[0].gradients == values[1].gradients


def test_gradients_are_counted_in_the_pilot_and_in_the_run():
    model, data = linear_problem()
    method = smc(particles=64, temperatures=5)
    path = method.path(model, data, seed=0)
    plan = method.pilot(path, seed=0).spaced(5)
    evidence = method.estimate(model, data, seed=0)
    assert path.gradients > 64
    assert evidence.gradients == path.gradients + 64 * (1 + sum(plan.kernel(level).steps for level in range(1, 6)))


HYPER = LogNormal(-1.0, 1.0), HalfCauchy(0.3)


def hyper_problem(law, parametrization):
    model, data = linear_problem(parametrization=parametrization)
    return BayesianModel(model.network, RPPPrior(1.0, law, scaling="none"), model.likelihood), data


@pytest.mark.statistical
@pytest.mark.parametrize("law", HYPER, ids=lambda law: type(law).__name__)
@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_draws_of_the_prior_are_of_the_variance_and_of_the_weights_given_it(law, parametrization):
    model, _ = hyper_problem(law, parametrization)
    draws = prior_draws(model, 4000, seed=shifted())
    assert set(draws) == set(model.initial_params(0))
    v = draws["dense_variance"]
    laws = model.distributions(draws)
    unit = {name: laws[name].whiten(draws[name]).flatten(1) for name in model.hierarchical}
    columns = [law.cdf(v)[:, None], *(torch.special.ndtr(value) for value in unit.values())]
    levels = torch.cat(columns, 1)
    bound = ERROR_RATE / levels.shape[1]
    assert all(kstest(column.numpy(), "uniform").pvalue > bound for column in levels.T)


@pytest.mark.statistical
@pytest.mark.parametrize("dense_limit", [1500, 2])
@pytest.mark.parametrize("law", HYPER, ids=lambda law: type(law).__name__)
@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_variances_with_hyperpriors_are_integrated_over(law, parametrization, dense_limit, monkeypatch):
    """The exact evidence is a one-dimensional integral over v of Gaussian ones."""
    monkeypatch.setattr("inference.tempering.curvature._LARGEST_DENSE", dense_limit)
    model, (x, y) = hyper_problem(law, parametrization)

    def given(log_v):
        v = math.exp(log_v)
        fixed = BayesianModel(model.network, model.prior.with_variances({"dense_variance": v}), model.likelihood)
        return math.exp(exact_evidence(fixed, x, y)) * v * float(law.log_prob(torch.tensor(v)).exp())

    exact = math.log(quad(given, -12, 8, limit=200)[0])
    found = smc(particles=384, islands=16, temperatures=8).estimate(model, (x, y), seed=shifted())
    assert within_its_error(found, exact)
    assert found.standard_error < 0.2


def test_integers_of_any_kind_are_settings_and_seeds():
    model, data = linear_problem()
    plain = smc(particles=64, temperatures=5).estimate(model, data, seed=3)
    other = smc(particles=np.int64(64), temperatures=np.int32(5)).estimate(model, data, seed=np.int64(3))
    assert (other.value, other.details["temperatures"]) == (plain.value, plain.details["temperatures"])
    with pytest.raises(TypeError, match=r"seed must be an integer, got 1\.5"):
        smc(particles=64, temperatures=5).estimate(model, data, seed=1.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"particles": 1}, "particles must be an integer of at least 2, got 1"),
        ({"trajectory_length": 0.0}, "trajectory_length must be positive and finite, got 0.0"),
        ({"temperatures": 0}, "temperatures must be a positive integer or 'pilot', got 0"),
        ({"temperatures": True}, "temperatures must be a positive integer or 'pilot', got True"),
        ({"particles": 2.5}, "particles must be an integer of at least 2, got 2.5"),
        ({"temperatures": "adaptive"}, "temperatures must be a positive integer or 'pilot', got 'adaptive'"),
        ({"reference": "flat"}, "reference must be 'prior', 'laplace' or None, got 'flat'"),
        ({"islands": 1}, "islands must be an integer of at least 2, got 1"),
        ({"particles": 100}, "particles must be a multiple of the 8 islands, with four or more in each, got 100"),
        ({"particles": 24}, "particles must be a multiple of the 8 islands, with four or more in each, got 24"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TemperedSMC(**settings)
