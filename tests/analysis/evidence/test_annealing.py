"""Annealed importance sampling and tempered SMC: unbiased, forwards and backwards, against exact evidences."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch.distributions import MultivariateNormal, constraints

import inference.tempering.particles
from analysis.evidence.annealing import (
    TemperedSMC,
    acceptance_warnings,
    effective_share,
    log_mean,
)
from bayes_rpp import SO, BayesianModel, Categorical, Gaussian, LogDensity, RPPLinear, RPPPrior, Scalar, Vector
from inference.tempering.particles import Annealing, trajectory
from inference.tempering.schedule import Kernel
from tests.error_rate import agrees
from tests.scenarios.annealing import (
    RUNS,
    SHORT,
    ais,
    exact_evidence,
    linear_problem,
    normal,
    smc,
    unbiased,
    within_its_error,
)
from tests.seeds import shifted

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
    method = smc(particles=1024, islands=16, reference=reference, laplace=SHORT)
    evidence = method.estimate(model, (x, y), seed=shifted())
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
    without = torch.stack([torch.cat([weights[:i], weights[i + 1 :]]).mean().log() for i in range(50)])
    assert error == pytest.approx(math.sqrt(49 * float(without.var(correction=0))), rel=1e-9)
    assert error == pytest.approx(float(weights.std() / weights.mean()) / math.sqrt(50), rel=0.1)  # the delta method's
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


@pytest.mark.statistical
def test_the_standard_error_of_few_particles_is_that_of_the_runs():
    """Runs of 64 particles whose log weights have a variance of about 2, the largest of them cut off."""
    generator = torch.Generator().manual_seed(shifted())
    spread = math.sqrt(2.0)
    logs = spread * torch.randn(4_000, 64, generator=generator, dtype=torch.float64) - spread**2 / 2
    logs = torch.minimum(logs, torch.tensor(2.0))  # annealed weights have a shorter tail than log-normal ones
    values, errors = torch.tensor([log_mean(run) for run in logs]).T
    variance = float(values.var())
    assert agrees(errors.square()[:, None], variance, allowance=0.1 * variance)
    delta = (logs - values[:, None]).exp().var(1) / 64
    assert delta.mean() < errors.square().mean()
