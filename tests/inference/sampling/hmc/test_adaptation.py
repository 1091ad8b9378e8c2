"""What HMC learns in its warm-up: windows, step size, trajectory length, scales."""

import math
from itertools import pairwise

import pytest
import torch

from bayes_rpp import LogDensity
from inference import HMC
from inference.sampling.hmc import adaptation
from tests.seeds import shifted


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(deviations):
    return LogDensity(
        lambda p: -0.5 * (p["z"] / deviations).square().sum(), {"z": torch.zeros(len(deviations)).double()}
    )


@pytest.mark.parametrize("warmup", [*range(0, 400), 500, 1000, 1024, 5000])
def test_windows_double_between_a_first_and_a_last_part(warmup):
    ends = adaptation.windows(warmup)
    if warmup < 20:
        assert ends == []
        return
    first, last = (75, min(100, warmup // 3)) if warmup >= 150 else (round(0.15 * warmup), round(0.1 * warmup))
    assert ends[-1] == warmup - last
    lengths = [end - start for start, end in zip([first, *ends], ends, strict=False)]
    assert min(lengths) > 0
    for before, after in pairwise(lengths):
        assert after >= 2 * before
    if len(lengths) > 1:
        assert lengths[:-1] == [25 * 2**k for k in range(len(lengths) - 1)]
        assert lengths[-1] < 3 * 25 * 2 ** (len(lengths) - 1)


@pytest.mark.parametrize(
    ("warmup", "ends"),
    [(19, []), (20, [18]), (149, [134]), (150, [100]), (1000, [100, 150, 250, 450, 900])],
)
def test_windows_are_those_of_stan_with_a_longer_last_part(warmup, ends):
    assert adaptation.windows(warmup) == ends


@pytest.mark.statistical
def test_dual_averaging_finds_the_step_with_the_wanted_acceptance():
    """The acceptance falls with the step like 2 Phi(-h), and is noisy; the step is right for 0.7."""
    noise, state = normal(4000, seed=shifted()), adaptation.start_step_size(50.0)
    for one in noise:
        acceptance = math.erfc(float(state.log_step.exp()) / math.sqrt(2)) + 0.1 * float(one)
        state = adaptation.learn_step_size(state, acceptance, 0.7)
    right = 0.385320466  # of a standard normal variable's modulus, the quantile 0.3
    assert float(state.log_step_mean.exp()) == pytest.approx(right, rel=0.05)


@pytest.mark.statistical
@pytest.mark.parametrize("wanted", [0.65, 0.8, 0.95])
def test_the_wanted_acceptance_is_reached_on_a_gaussian(wanted):
    """On average over four runs: all chains of one share its step size, and the lengths of its trajectories."""
    engine, rates = HMC(chains=32, warmup=600, draws=50, target_accept=wanted), []
    for seed in range(4):
        density = gaussian(normal(20, seed=shifted(seed)).exp())
        statistics = engine.fit(density, None, seed=shifted(seed), progress=False).sample_stats
        rates.append(float(statistics["acceptance_rate"].mean()))
        assert statistics["step_size"].unique().numel() == 1  # it stays as it is once draws are kept
    assert sum(rates) / 4 == pytest.approx(wanted, abs=0.06)


def test_the_slope_of_the_trajectory_length_is_that_of_the_criterion():
    """On a standard Gaussian the exact flow is a rotation, and ChEES is known at every length."""
    position, momentum, centre = normal(500, 3), normal(500, 3, seed=1), torch.tensor([0.3, -0.2, 0.1]).double()
    weights = torch.rand(500, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def flow(length):
        end = math.cos(length) * position + math.sin(length) * momentum
        return end, math.cos(length) * momentum - math.sin(length) * position

    def criterion(log_length):
        end, _ = flow(math.exp(log_length))
        change = (end - centre).square().sum(1) - (position - centre).square().sum(1)
        return float((weights * change.square()).sum() / weights.sum() / 4)

    for length in (0.1, 0.9, 1.6, 2.5):
        log_length = math.log(length)
        expected = (criterion(log_length + 1e-5) - criterion(log_length - 1e-5)) / 2e-5
        found = adaptation.trajectory_slope(position, *flow(length), weights, centre, length)
        assert found == pytest.approx(expected, rel=1e-6)


def test_lost_trajectories_do_not_count_for_the_slope():
    position, end, momentum = normal(3, 4, 2)[:, :, :]
    acceptance, centre = torch.tensor([1.0, 0.5, 0.0, 1e-5]).double(), torch.zeros(2).double()
    expected = adaptation.trajectory_slope(position[:2], end[:2], momentum[:2], acceptance[:2], centre, 1.3)
    lost = end.clone()
    lost[2] = math.nan
    assert adaptation.trajectory_slope(position, lost, momentum, acceptance, centre, 1.3) == expected
    assert adaptation.trajectory_slope(position, lost, momentum, 0 * acceptance, centre, 1.3) == 0.0


def test_the_trajectory_length_climbs_and_stays_between_its_bounds():
    state, up = adaptation.start_trajectory(1.0, normal(4, 2)), []
    for _ in range(400):
        state = adaptation.learn_trajectory(state, 5.0, 0.5, 20.0)
        up.append(float(state.log_length))
    assert all(after >= before for before, after in pairwise(up))
    assert math.exp(up[-1]) == pytest.approx(20.0)
    assert float(state.log_length_mean.exp()) == pytest.approx(20.0, rel=1e-3)
    for _ in range(400):
        state = adaptation.learn_trajectory(state, -5.0, 0.5, 20.0)
    assert float(state.log_length.exp()) == pytest.approx(0.5)
    for slope in (0.0, 1e100, -1e100):
        changed = adaptation.learn_trajectory(adaptation.start_trajectory(1.0, normal(4, 2)), slope, 0.5, 20.0)
        assert abs(float(changed.log_length)) <= 0.35 + 1e-12


def test_moments_are_those_of_direct_formulas():
    draws = 3 * normal(4, 30, 5) + 1e4 * normal(4, 1, 1, seed=1)  # four chains, each around a mean of its own
    state = adaptation.start_moments(draws[:, 0])
    for step in range(30):
        state = adaptation.learn_moments(state, draws[:, step])
    torch.testing.assert_close(state.mean, draws.mean(1), rtol=1e-12, atol=0)
    left = draws - draws.mean(1, keepdim=True)
    products = torch.einsum("cdi,cdj->ij", left, left)
    torch.testing.assert_close(state.square, products, rtol=1e-8, atol=1e-8)
    within = products / (4 * 29)
    expected = (120 * within + 5 * within.diagonal().diag()) / 125
    torch.testing.assert_close(adaptation.learned_covariance(state), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("size", "draws"), [(5, 12), (201, 1000)])
def test_few_draws_or_many_coordinates_give_variances_alone(size, draws):
    values = normal(4, draws, size)
    state = adaptation.start_moments(values[:, 0])
    for step in range(draws):
        state = adaptation.learn_moments(state, values[:, step])
    expected = (values - values.mean(1, keepdim=True)).square().sum((0, 1)) / (4 * (draws - 1))
    torch.testing.assert_close(adaptation.learned_covariance(state), expected, rtol=1e-10, atol=0)


def test_a_coordinate_that_has_not_moved_keeps_a_positive_variance():
    values = torch.cat([normal(4, 30, 1), torch.zeros(4, 30, 1).double()], dim=2)
    state = adaptation.start_moments(values[:, 0])
    for step in range(30):
        state = adaptation.learn_moments(state, values[:, step])
    assert torch.linalg.eigvalsh(adaptation.learned_covariance(state)).min() > 0


@pytest.mark.statistical
@pytest.mark.parametrize("metric", [None, "identity"])
def test_the_metric_is_the_covariance_of_a_gaussian(metric):
    deviations, metrics = torch.tensor([0.05, 1.0, 6.0]).double(), []

    class Watched(HMC):
        def advance(self, preconditioned, state, random, step):
            metrics.append(preconditioned.free(torch.eye(3).double()))
            return super().advance(preconditioned, state, random, step)

    engine = Watched(chains=64, warmup=300, draws=50, metric=metric)
    posterior = engine.fit(gaussian(deviations), None, seed=shifted(), progress=False)
    covariance = metrics[-1].mT @ metrics[-1] / torch.outer(deviations, deviations)
    torch.testing.assert_close(covariance, torch.eye(3).double(), rtol=0.25, atol=0.1)
    assert posterior.sample_stats["n_steps"].max() < 20
    assert posterior.sample_stats["step_size"].min() > 0.3


@pytest.mark.statistical
def test_a_given_trajectory_length_is_kept(make_linear_problem):
    model, data = make_linear_problem()
    counts = []

    class Watched(HMC):
        def advance(self, preconditioned, state, random, step):
            after, statistics = super().advance(preconditioned, state, random, step)
            counts.append(float(statistics["n_steps"][0] * statistics["step_size"][0]))
            return after, statistics

    posterior = Watched(chains=4, warmup=40, draws=40, trajectory_length=6.0).fit(
        model, data, seed=shifted(), progress=False
    )
    size = posterior.stats["step_size"]
    assert posterior.stats["trajectory_length"] == pytest.approx(6.0)
    drawn = torch.tensor(counts[40:])
    assert float(drawn.max()) <= 6 + size / 2
    assert float((drawn - drawn.mean()).abs().max()) > 2  # each takes a share of its own
