"""The cross-entropy planner, on systems whose best actions are known."""

import numpy as np
import pytest
import torch

from bayes_rpp.rl import CrossEntropyPlanner
from tests.error_rate import agrees
from tests.seeds import shifted


def integrator(states, actions, seed):
    """s + a, exactly."""
    return torch.cat([states[:, None], states[:, None] + actions.cumsum(1)], dim=1)[None]


def cost(state, action, after):
    return -(after.square() + 0.5 * action.square()).sum(-1)


def regulator(start, horizon):
    """The best actions of the integrator under these costs, by the Riccati recursion."""
    gains, value = [], 0.0
    for _ in range(horizon):
        value = 1 + value
        gains.append(value / (value + 0.5))
        value = 0.5 * gains[-1]
    actions = []
    for gain in reversed(gains):
        actions.append(-gain * start)
        start = start + actions[-1]
    return torch.stack(actions)


def test_plans_of_a_linear_system_are_those_of_the_riccati_recursion():
    start = torch.tensor([0.7, -1.2])
    planner = CrossEntropyPlanner(
        integrator, cost, -3 * torch.ones(2), 3 * torch.ones(2), horizon=4, candidates=2000, elites=100, iterations=15
    )
    for seed in range(3):
        plan = planner.plan(start, seed=seed)
        assert float((plan - regulator(start, 4)).abs().max()) < 0.05
    assert torch.equal(plan, planner.plan(start, seed=2))
    bound = torch.tensor([0.3, 0.3])
    bounded = CrossEntropyPlanner(integrator, cost, -bound, bound, horizon=3).plan(start, seed=0)
    torch.testing.assert_close(bounded[0], torch.tensor([-0.3, 0.3]), rtol=0, atol=0.02)


def test_a_plan_goes_on_from_the_one_before():
    planner = CrossEntropyPlanner(
        integrator, cost, -torch.ones(1), torch.ones(1), horizon=3, candidates=50, elites=50, iterations=1
    )
    half = torch.full((3, 1), 0.5)
    lower, middle, upper = (planner.plan([0.7], seed=0, start=start) for start in (-half, None, half))
    assert (lower < middle).all()
    assert (middle < upper).all()


def test_returns_are_averages_over_particles():
    start = torch.tensor([0.7])

    def doubtful(states, actions, seed):
        """Two particles: actions act as they should, or the other way with twice the force."""
        moved = torch.stack([actions, -2 * actions]).cumsum(2)
        return torch.cat([states.expand(2, *states.shape)[:, :, None], states[None, :, None] + moved], dim=2)

    def forwards(state, action, after):
        return (after - state).squeeze(-1)

    bound = torch.ones(1)
    careful = CrossEntropyPlanner(doubtful, forwards, -bound, bound, horizon=2).plan(start, seed=0)
    assert float(careful.max()) < -0.9  # on average it is the other way


@pytest.mark.statistical
def test_noise_of_the_rollout_has_nothing_to_do_with_the_actions():
    """The returns are noise alone, as many numbers as the actions, drawn in the same order from the seed given."""

    def noisy(states, actions, seed):
        noise = torch.randn(states.shape, generator=torch.Generator().manual_seed(seed))
        after = noise[:, None].expand(-1, actions.shape[1], -1)
        return torch.cat([states[:, None], after], dim=1)[None]

    planner = CrossEntropyPlanner(
        noisy, lambda s, a, after: after[..., 0], -torch.ones(2), torch.ones(2), horizon=4, iterations=1
    )
    first = torch.stack([planner.plan(torch.zeros(8), seed=shifted(seed))[0] for seed in range(40)])
    assert agrees(first, 0.0)


def test_states_bounds_and_rewards_of_other_types_are_taken():
    bounds = np.array([-1.0], dtype=np.float32), [1.0]
    planner = CrossEntropyPlanner(
        integrator, lambda s, a, after: after[..., 0] > s[..., 0], *bounds, horizon=np.int64(2)
    )
    for state in ([0.7], np.array([0.7]), torch.tensor([1])):
        assert float(planner.plan(state, seed=0, start=np.zeros((2, 1)))[0]) > 0.3


def test_what_cannot_be_planned_is_refused_in_plain_words():
    one = torch.ones(1)
    for options, message in (
        ({"horizon": 0}, "horizon must be a positive integer, got 0"),
        ({"elites": 300}, "elites must be from 2 to candidates=200, got 300"),
        ({"low": one}, "low < high"),
        ({"high": torch.tensor([torch.inf])}, "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            CrossEntropyPlanner(**{"rollout": integrator, "reward": cost, "low": -one, "high": one} | options)
    with pytest.raises(ValueError, match=r"start must have shape \(15, 1\), got \(3, 1\)"):
        CrossEntropyPlanner(integrator, cost, -one, one).plan(one, seed=0, start=torch.zeros(3, 1))
    for reward, rollout, state, message in (
        (lambda s, a, n: n, integrator, one, r"one number for each particle, candidate and step, shape \(1, 200, 15\)"),
        (lambda s, a, n: n[..., 0].sum(-1), integrator, one, r"got \(1, 200\)"),
        (lambda s, a, n: n[..., 0] * torch.nan, integrator, one, "no sequence of actions has a finite return"),
        (lambda s, a, n: n[..., 0] + torch.inf, integrator, one, "no sequence of actions has a finite return"),
        (
            cost,
            lambda s, a, seed: integrator(s, a, seed)[0],
            one,
            r"rollout must return shape \(particle, 200, 16, 1\)",
        ),
        (cost, integrator, torch.zeros(3, 1), r"state must be a vector, got shape \(3, 1\)"),
        (cost, integrator, one * torch.nan, "state holds NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            CrossEntropyPlanner(rollout, reward, -one, one).plan(state, seed=0)
