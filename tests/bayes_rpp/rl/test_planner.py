"""The cross-entropy planner, on systems whose best actions are known."""

import pytest
import torch

from bayes_rpp.rl import CrossEntropyPlanner


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


def test_a_plan_goes_on_from_the_one_before_and_hears_of_the_average_over_particles():
    start, small = torch.tensor([0.7]), {"horizon": 4, "candidates": 20, "elites": 4, "iterations": 1}
    planner = CrossEntropyPlanner(integrator, cost, -torch.ones(1), torch.ones(1), **small)
    better = torch.stack([planner.plan(start, seed=seed, start=regulator(start, 4)) for seed in range(20)])
    worse = torch.stack([planner.plan(start, seed=seed) for seed in range(20)])
    exact = regulator(start, 4)
    assert (better - exact).square().mean() < (worse - exact).square().mean()

    def doubtful(states, actions, seed):
        """Two particles: actions act as they should, or the other way with twice the force."""
        moved = torch.stack([actions, -2 * actions]).cumsum(2)
        return torch.cat([states.expand(2, *states.shape)[:, :, None], states[None, :, None] + moved], dim=2)

    def forwards(state, action, after):
        return (after - state).squeeze(-1)

    bound = torch.ones(1)
    careful = CrossEntropyPlanner(doubtful, forwards, -bound, bound, horizon=2).plan(start, seed=0)
    assert float(careful.max()) < -0.9  # on average it is the other way


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
