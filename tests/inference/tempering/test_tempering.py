"""Tempered paths, their kernels and schedules, and the particles that follow them."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

import inference.tempering.curvature
import inference.tempering.particles
import inference.tempering.path
from bayes_rpp import LogDensity
from inference import MAP, Laplace
from inference.density.unconstrained import UnconstrainedDensity
from inference.metrics.preconditioned import PreconditionedDensity
from inference.tempering.curvature import SameEverywhere, tempered_curvature
from inference.tempering.particles import anneal, move, systematic, trajectory
from inference.tempering.path import LaplacePath, PriorPath
from inference.tempering.schedule import Adaptive, Kernel, Plan, Planned, conditional_share
from tests.error_rate import agrees, z_limit
from tests.scenarios.tempering import (
    conjugate,
    drawn,
    draws,
    fitted,
    generator,
    learned_model,
    linear_model,
    normal,
    statistical,
)
from tests.seeds import shifted


@pytest.fixture
def halfway():
    """Exact draws of prior times likelihood^(1/2), in float64, and statistics of them whose expectations are 0."""
    path = PriorPath(UnconstrainedDensity(*linear_model()))
    mean, precision = conjugate(path.density, 0.5)
    root = torch.linalg.cholesky(precision)

    def centred(z):
        white = (z - mean) @ root
        return torch.cat([white, white.square() - 1], dim=1)

    return path, draws(mean, precision, 6000), centred


def large_step(path, step_size=1.3):
    return Kernel(tempered_curvature(path.density, 0.5, normal(1, path.density.size)).coordinates(0.5), step_size, 2)


@statistical
def test_kernel_leaves_its_temperature_invariant_at_a_step_that_is_often_refused(halfway):
    path, z, centred = halfway
    cloud, noise = path.at(z), generator(1)
    for _ in range(4):
        cloud, acceptance = move(path, cloud, 0.5, large_step(path), noise)
    assert 0.1 < acceptance < 0.9
    assert agrees(centred(cloud.position), 0.0)
    assert ((cloud.position - z).norm(dim=1) > 0).double().mean() > 0.5


@statistical
def test_kernel_without_acceptance_is_noticed(halfway):
    path, z, centred = halfway
    cloud = path.at(z)
    for seed in range(4):
        cloud, _ = trajectory(path, cloud, 0.5, large_step(path, 1.5), drawn(*z.shape, seed=10 + seed))
    assert not agrees(centred(cloud.position), 0.0)


@statistical
def test_kernel_of_another_temperature_is_noticed(halfway):
    path, z, centred = halfway
    cloud, noise = path.at(z), generator(1)
    for _ in range(4):
        cloud, _ = move(path, cloud, 0.8, large_step(path), noise)
    assert not agrees(centred(cloud.position), 0.0)


def test_particle_of_density_zero_moves_to_any_other_and_none_moves_to_it():
    example = {"z": torch.tensor([1.0], dtype=torch.float64)}
    path = LaplacePath(fitted((LogDensity(lambda p: -0.5 * p["z"].square().sum(), example), None)))
    cloud = path.at(torch.tensor([[0.1], [0.2]], dtype=torch.float64))
    lost = cloud.where(torch.tensor([False, True]), path.at(cloud.position))
    object.__setattr__(lost, "gain", torch.tensor([-torch.inf, 0.0], dtype=torch.float64))
    kernel = Kernel(path.curvature(1.0, cloud).coordinates(1.0), 0.5, 1)
    moved, _ = move(path, lost, 1.0, kernel, generator())
    assert moved.gain.isfinite().all()
    path.at = lambda z: lost
    stayed, acceptance = move(path, cloud, 1.0, kernel, generator())
    assert stayed.gain.isfinite().all()
    assert acceptance <= 0.5


@statistical
def test_systematic_resampling_is_fair_and_never_more_than_one_off():
    weights = torch.rand(3, 8, generator=generator(2), dtype=torch.float64)
    weights[:, 2] = 0
    weights = weights / weights.sum(1, keepdim=True)
    many = weights.repeat(2000, 1)
    index = systematic(many, generator())
    counts = torch.nn.functional.one_hot(index, 8).sum(1)
    assert ((counts - 8 * many).abs() < 1 + 1e-9).all()
    assert counts[:, 2].sum() == 0
    fractions = 8 * weights - (8 * weights).floor()
    deviation = (fractions * (1 - fractions)).sqrt() / math.sqrt(2000)
    mean = counts.double().unflatten(0, (2000, 3)).mean(0)
    assert ((mean - 8 * weights).abs() / deviation.clamp_min(1e-12))[:, [0, 1, 3, 4, 5, 6, 7]].max() < z_limit(21)


def test_conditional_share_is_that_of_its_definition_and_adaptive_steps_keep_to_it():
    gain, logs = 3 * normal(50), normal(50, seed=1)
    weights = logs.softmax(0).numpy()
    v = (0.3 * gain).exp().numpy()
    share = (weights @ v) ** 2 / (weights @ v**2)
    assert conditional_share(0.3, gain, logs) == pytest.approx(share, rel=1e-12)
    path = PriorPath(UnconstrainedDensity(*linear_model()))
    guide = Adaptive(path, 0.9, 3)
    t = guide.next_temperature(0.2, gain, logs)
    assert conditional_share(t - 0.2, gain, logs) == pytest.approx(0.9, abs=1e-5)
    assert guide.next_temperature(0.999, gain, logs) == 1.0
    assert guide.plan.length == pytest.approx(
        math.sqrt(-math.log(0.9)) + math.sqrt(-math.log(conditional_share(0.001, gain, logs))), abs=1e-4
    )


def test_step_size_follows_the_acceptance_and_the_number_of_steps_follows_it():
    path = PriorPath(UnconstrainedDensity(*linear_model()))
    guide = Adaptive(path, 0.9, 1.5)
    guide.next_temperature(0.0, normal(5), torch.zeros(5, dtype=torch.float64))
    first, cloud = guide.plan.step_sizes[-1], path.at(path.sample(8, seed=0))
    guide.learn(0.3)
    assert guide.plan.step_sizes[-1] == pytest.approx(first * math.exp(-0.5))
    kernel = guide.kernel(0.1, cloud)
    assert kernel.steps == math.ceil(1.5 / guide.plan.step_sizes[-1])
    assert kernel.steps * kernel.step_size == pytest.approx(1.5)
    for _ in range(50):
        guide.learn(1.0)
    assert (guide.kernel(0.1, cloud).step_size, guide.kernel(0.1, cloud).steps) == (1.5, 1)
    for _ in range(50):
        guide.learn(0.0)
    kernel = guide.kernel(0.1, cloud)
    assert kernel.steps == 100
    assert kernel.step_size == guide.plan.step_sizes[-1] < 1e-6


def test_spaced_plan_has_steps_of_equal_length():
    curvature = SameEverywhere(None)
    plan = Plan((0.1, 0.4, 1.0), (1.0, 3.0, 6.0), (0.4, 0.2, 0.1), ((0.1, curvature),), 3.0)
    finer = plan.spaced(12)
    assert finer.temperatures[:2] == pytest.approx((0.05, 0.1))
    assert finer.temperatures[3] == pytest.approx(0.25)
    assert finer.temperatures[-1] == 1.0
    assert finer.distances == pytest.approx([0.5 * k for k in range(1, 13)])
    assert finer.step_sizes[3] == pytest.approx(math.sqrt(0.4 * 0.2))
    assert plan.spaced(3).length == plan.length == 6.0
    assert finer.trajectory_length == 3.0


def test_path_that_takes_too_many_steps_is_refused(monkeypatch):
    monkeypatch.setattr("inference.tempering.schedule._MOST_LEVELS", 2)
    path = PriorPath(UnconstrainedDensity(*linear_model()))
    with pytest.raises(RuntimeError, match=r"after 2 steps: the gains of the particles spread over .* nats"):
        anneal(path, Adaptive(path, 0.9, 1), (1, 16), (0, 1), progress=False)


def test_prior_under_which_nothing_is_possible_is_refused():
    path = PriorPath(UnconstrainedDensity(*linear_model()))
    path._log_likelihood = lambda z: z.sum() * torch.inf - torch.inf
    with pytest.raises(ValueError, match="none of 8 draws of the reference has a finite log density"):
        anneal(path, Adaptive(path, 0.9, 1), (2, 4), (0, 1), progress=False)


def test_interrupt_is_raised(monkeypatch):
    path = PriorPath(UnconstrainedDensity(*linear_model()))

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(inference.tempering.particles, "move", stop)
    with pytest.raises(KeyboardInterrupt):
        anneal(path, Adaptive(path, 0.9, 1), (1, 16), (0, 1), progress=False)


@pytest.fixture(scope="module")
def planned():
    """A path between two Gaussians and its plan: the evidence is known.

    Log weights over K steps of a path of length L vary by about L^2 / K: with 4 L^2 steps the weights have no long
    tail, which would make their own standard errors worthless.
    """
    path = PriorPath(UnconstrainedDensity(*linear_model(dense=0.02, num_data=2)))
    guide = Adaptive(path, 0.9, math.pi / 2)
    anneal(path, guide, (1, 200), (shifted(0), shifted(1)), moves=2, progress=False)
    plan = guide.plan.spaced(math.ceil(4 * guide.plan.length**2))
    mean, precision = conjugate(path.density, 1.0)
    posterior = MultivariateNormal(mean, precision_matrix=precision)
    truth = float(-path.density.potential(mean) - posterior.log_prob(mean))
    return path, plan, truth


def unbiased(log_weights, truth):
    """Whether the weights' mean is exp(truth), by 200 groups of them."""
    ratios = (log_weights.reshape(200, -1).logsumexp(1) - math.log(len(log_weights) // 200) - truth).exp()
    return agrees(ratios[:, None], 1.0)


@statistical
def test_islands_and_single_particles_have_the_evidence_as_their_mean(planned):
    path, plan, truth = planned
    before = path.gradients
    islands = anneal(path, Planned(plan), (200, 8), (shifted(2), shifted(3)), progress=False)
    assert path.gradients - before == 1600 * (1 + sum(plan.kernel(k + 1).steps for k in range(len(plan.temperatures))))
    singles = anneal(path, Planned(plan), (800, 1), (shifted(4), shifted(5)), progress=False)
    assert unbiased(islands.log_weights, truth)
    assert unbiased(singles.log_weights, truth)


@statistical
@pytest.mark.parametrize("mistake", ["no acceptance", "another temperature", "another reference"])
def test_mistakes_in_the_run_move_the_mean(planned, monkeypatch, mistake):
    path, plan, truth = planned
    honest = inference.tempering.particles.move

    def unaccepted(path, cloud, t, kernel, noise):
        velocity = torch.randn(cloud.position.shape, generator=noise, dtype=torch.float64)
        wide = Kernel(kernel.coordinates, 1.2, kernel.steps)
        return trajectory(path, cloud, t, wide, velocity)[0], 1.0

    if mistake == "no acceptance":
        monkeypatch.setattr(inference.tempering.particles, "move", unaccepted)
    elif mistake == "another temperature":
        monkeypatch.setattr(inference.tempering.particles, "move", lambda p, c, t, k, g: honest(p, c, 0.8 * t, k, g))
    else:
        sample = path.sample
        monkeypatch.setattr(path, "sample", lambda count, seed: 3 * sample(count, seed))
    run = anneal(path, Planned(plan), (200, 8), (shifted(2), shifted(3)), progress=False)
    assert not unbiased(run.log_weights, truth)


def test_only_islands_of_few_effective_particles_are_resampled():
    path = PriorPath(UnconstrainedDensity(*linear_model()))
    cloud = path.at(path.sample(8, seed=0))
    within = torch.tensor([[0.25] * 4, [0.97, 0.01, 0.01, 0.01]], dtype=torch.float64).log()
    chosen, weights = inference.tempering.particles._resample(cloud, within, generator())
    assert torch.equal(chosen.position[:4], cloud.position[:4])
    assert (chosen.position[4:] == cloud.position[4]).all(1).sum() >= 3
    torch.testing.assert_close(weights.exp(), torch.full_like(within, 0.25))


def test_coordinates_of_a_space_serve_as_those_of_a_kernel():
    density = UnconstrainedDensity(*linear_model())
    metric = PreconditionedDensity(density, "full", density.initial([0])).metric
    path = PriorPath(density)
    _, acceptance = move(path, path.at(path.sample(20, seed=0)), 1.0, Kernel(metric, 0.1, 2), generator())
    assert 0 < acceptance <= 1


def test_reference_that_fixes_coordinates_is_refused():
    posterior = Laplace("last_layer", mode=MAP(epochs=2), draws=1).fit(*learned_model(), seed=0)
    with pytest.raises(ValueError, match=r"over all \d+ coordinates, but curvature='last_layer' fixes all but"):
        LaplacePath(posterior)
