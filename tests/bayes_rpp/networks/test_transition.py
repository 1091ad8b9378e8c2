"""Trajectories of systems with actions, from networks that give the change of the state."""

import pytest
import torch
from torch import nn

from bayes_rpp import (
    EMLP,
    MLP,
    RPPEMLP,
    D,
    NormalizedNetwork,
    O,
    Regular,
    Scalar,
    TransitionRollout,
    Vector,
    Z,
)
from tests.scenarios.numbers import numbers

STATE, ACTION = 2 * Vector + Scalar, Scalar + Vector


def transition(kind=RPPEMLP, group=None, steps=3, **options) -> TransitionRollout:
    group = D(4) if group is None else group
    change = kind(STATE + ACTION, STATE, group, channels=2 * Regular if group.is_finite else 12, layers=1, **options)
    return TransitionRollout(change.double(), ACTION, steps)


class Linear(nn.Module):
    """s -> A s + B a, of a trivial state of two numbers and one action."""

    def __init__(self) -> None:
        super().__init__()
        self.group = Z(2)
        self.rep_in, self.rep_out = (3 * Scalar)(self.group), (2 * Scalar)(self.group)
        self.weight = nn.Parameter(0.3 * numbers(2, 3))

    def forward(self, x):
        return x @ self.weight.mT


def test_states_of_a_linear_system_are_sums_of_powers():
    change = Linear()
    rollout, x = TransitionRollout(change, Scalar, 6), numbers(4, 8)
    own = torch.eye(2).double() + change.weight[:, :2]
    for t, state in enumerate(rollout.trajectory(x).unbind(1)):
        expected = x[:, :2] @ torch.linalg.matrix_power(own, t).mT
        for k in range(t):
            expected = expected + x[:, [2 + k]] @ (torch.linalg.matrix_power(own, t - 1 - k) @ change.weight[:, 2:]).mT
        torch.testing.assert_close(state, expected, rtol=1e-12, atol=1e-12)


def test_flat_outputs_are_the_trajectory_and_steps_of_the_network_as_it_is_now():
    for kind in (RPPEMLP, EMLP, MLP):
        rollout = transition(kind)
        x = numbers(5, rollout.rep_in.size)
        state, actions = x[:, :5], x[:, 5:].unflatten(1, (3, 3))
        states = [state]
        for action in actions.unbind(1):
            states.append(states[-1] + rollout.change(torch.cat([states[-1], action], dim=1)))
        torch.testing.assert_close(rollout.trajectory(x), torch.stack(states, 1), rtol=1e-12, atol=1e-12)
        assert torch.equal(rollout(x), rollout.trajectory(x)[:, 1:].flatten(1))
        assert torch.equal(rollout.over(2)(x[:, :-3]), rollout(x)[:, :10])
        assert rollout.rep_out == 3 * rollout.rep_state
        with torch.no_grad():
            for parameter in rollout.parameters():
                parameter.mul_(2)
        assert not torch.allclose(rollout(x)[:, :5], states[1])
        for sizes in ((), (0,), (2, 3)):
            assert rollout(numbers(*sizes, x.shape[1])).shape == (*sizes, 15)


def test_trajectories_are_equivariant_if_the_change_is_and_only_then():
    for group, elements in ((D(4), D(4).generators), (O(2), O(2).sample(3, seed=1))):
        exact, none = transition(EMLP, group), transition(MLP, group)
        x = numbers(5, exact.rep_in.size)
        for g in elements:
            for rollout, equivariant in ((exact, True), (none, False)):
                moved = rollout(rollout.rep_in.apply(g, x)) - rollout.rep_out.apply(g, rollout(x))
                assert (float(moved.detach().abs().max()) < 1e-10) == equivariant


def test_what_is_no_change_of_a_state_is_refused_in_plain_words():
    change = MLP(STATE + ACTION, STATE, D(4), channels=8, layers=1)
    for given, error, message in (
        ((nn.Linear(8, 5), ACTION, 2), TypeError, "rep_in and rep_out"),
        ((change, Scalar, 2), ValueError, r"must take a state and an action, 2\*Vector \+ 2\*Scalar"),
        ((MLP(ACTION + STATE, STATE, D(4), channels=8), ACTION, 2), ValueError, "the network takes"),
        ((change, ACTION, 0), ValueError, "steps must be a positive integer"),
        ((change, ACTION, 2.0), ValueError, "steps must be a positive integer"),
    ):
        with pytest.raises(error, match=message):
            TransitionRollout(*given)
    with pytest.raises(ValueError, match="a state of 5 numbers and 2 actions of 3 are 11 numbers"):
        TransitionRollout(change, ACTION, 2)(torch.zeros(1, 8))


def test_a_normalised_change_keeps_the_symmetry():
    rollout = transition(EMLP)
    x = 30 * numbers(50, 8)
    normalized = TransitionRollout(NormalizedNetwork.fit(rollout.change, x, 0.01 * numbers(50, 5)), ACTION, 4)
    x = 30 * numbers(5, normalized.rep_in.size)
    for g in D(4).generators:
        moved = normalized(normalized.rep_in.apply(g, x)) - normalized.rep_out.apply(g, normalized(x))
        assert float(moved.detach().abs().max()) < 1e-10
    assert float((normalized(x)[:, :5] - x[:, :5]).detach().abs().max()) < 1.0  # the change has the scale of its data
