"""Chunks of replay buffers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from bayes_rpp import D, Z
from bayes_rpp.rl import EnvironmentSymmetry, QuaternionFeatures, environment_symmetry, rollouts

SYMMETRY = EnvironmentSymmetry.of_generators(Z(2), [-torch.eye(2)], [-torch.eye(1)])


def counted(times: int, ends: set[int], envs: int = 1) -> dict[str, np.ndarray]:
    """States (time, 100 + environment), actions that are the time; an episode ends after each of ``ends``."""
    time, env = np.meshgrid(np.arange(times, dtype=float), np.arange(envs, dtype=float), indexing="ij")
    dones = np.isin(time, sorted(ends))
    seen = {
        "observations": np.stack([time, 100 + env], axis=-1),
        "next_observations": np.stack([time + 1, 100 + env], axis=-1),
        "actions": time[..., None],
        "dones": dones,
    }
    return seen if envs > 1 else {name: part[:, 0] for name, part in seen.items()}


def visited(split, data, steps) -> list[list[tuple[float, float]]]:
    """The states (time, environment) of each chunk, after checking that it is one."""
    state, actions = data.parts(split.x)
    states = torch.cat([state[:, None], split.y.unflatten(1, (steps, 2))], dim=1)
    assert torch.equal(states[:, 1:, 0] - states[:, :-1, 0], torch.ones(len(state), steps))
    assert torch.equal(states[:, :-1, 0], actions[..., 0])
    assert (states[..., 1] == states[:, :1, 1]).all()
    return [[tuple(pair) for pair in chunk.tolist()] for chunk in states]


def test_chunks_run_over_no_end_of_an_episode_and_share_no_state_with_a_test():
    ends = {49, 52, 120, 219}
    for envs in (1, 3):
        data = rollouts(counted(300, ends, envs), SYMMETRY, steps=5, chunks=40, test_steps=20, tests=4 * envs, seed=1)
        train, test = visited(data.train, data, 5), visited(data.test, data, 20)
        assert (len(train), len(test)) == (40, 4 * envs)
        for chunk in train + test:
            assert all(time not in ends for time, _ in chunk[:-2])  # the last step alone may end one
        tested = [pair for chunk in test for pair in chunk]
        assert len(set(tested)) == len(tested)  # tests share no states with each other
        assert not set(tested) & {pair for chunk in train for pair in chunk}
        assert len({chunk[0] for chunk in train}) == 40
    assert not torch.equal(data.train.x, rollouts(counted(300, ends, 3), SYMMETRY, steps=5, chunks=40, tests=0).train.x)


def test_a_state_that_does_not_follow_ends_a_chunk_too():
    seen = counted(60, set())
    seen["next_observations"][29] = 7.0  # the environment was reset, and nobody said so
    data = rollouts(seen, SYMMETRY, steps=5, chunks=52, tests=0)
    starts = {int(chunk) for chunk in data.train.x[:, 0]}
    assert starts == {*range(26), *range(30, 56)}
    last = data.train.y[data.train.x[:, 0] == 25]
    assert last[0, -2:].tolist() == [7.0, 7.0]


def test_what_was_rounded_goes_on_and_tensors_are_taken():
    seen = {name: torch.as_tensor(part).float() for name, part in counted(60, {9}).items()}
    seen["next_observations"] *= 1 + 1e-7
    seen["observations"].requires_grad_()
    assert len(rollouts(seen, SYMMETRY, steps=5, chunks=6 + 46, tests=0).train.x) == 52


def test_starts_are_uniform_over_the_places_there_are():
    seen, counts = counted(25, {9}), torch.zeros(25)
    for seed in range(300):
        starts = rollouts(seen, SYMMETRY, steps=5, chunks=4, tests=0, seed=seed).train.x[:, 0].long()
        counts[starts] += 1
    allowed = [t for t in range(25) if t <= 5 or 10 <= t <= 20]
    assert counts.nonzero().flatten().tolist() == allowed
    expected = 1200 / len(allowed)
    assert float((counts[allowed] - expected).abs().max()) < 6 * expected**0.5


def test_a_replay_buffer_is_read_from_its_oldest_step_and_actions_in_their_own_units(tmp_path):
    box = spaces.Box(-np.inf, np.inf, (2,), dtype=np.float64)
    buffer = ReplayBuffer(40, box, spaces.Box(-3.0, 3.0, (1,)), n_envs=2, handle_timeout_termination=False)
    for t in range(50):
        state = np.array([[t, 100.0], [t, 101.0]])
        action = np.full((2, 1), t / 100)
        buffer.add(state, state + np.array([1, 0]), action, np.zeros(2), np.array([t == 40, False]), [{}, {}])
    data = rollouts(buffer, SYMMETRY, steps=3, chunks=34, tests=0)
    state, actions = data.parts(data.train.x)
    torch.testing.assert_close(actions[..., 0], 0.03 * (state[:, :1] + torch.arange(3)))
    assert {tuple(pair) for pair in state.tolist()} == {
        *((t, 100.0) for t in [*range(30, 39), *range(41, 48)]),
        *((t, 101.0) for t in range(30, 48)),
    }
    np.savez(tmp_path / "seen.npz", **counted(30, set()))
    assert rollouts(tmp_path / "seen.npz", SYMMETRY, steps=3, chunks=10, tests=0).train.x.shape == (10, 5)


def test_states_are_features_single_steps_their_changes_and_parts_of_tests_begin_alike():
    symmetry = environment_symmetry("Ant-v5", "D(4)")
    rng = np.random.default_rng(0)
    states = rng.normal(size=(80, 27))
    states[:, 1:5] /= np.linalg.norm(states[:, 1:5], axis=1, keepdims=True)
    seen = {
        "observations": states[:-1],
        "next_observations": states[1:],
        "actions": rng.uniform(-1, 1, (79, 8)),
        "dones": np.zeros(79),
    }
    data = rollouts(seen, symmetry, steps=4, chunks=20, test_steps=10, tests=2)
    assert data.rep_state.size == 32
    features = QuaternionFeatures().of(torch.as_tensor(states)).float()
    for x, y in zip(*data.train, strict=True):
        place = int((features - x[:32]).abs().sum(1).argmin())
        torch.testing.assert_close(y, features[place + 1 : place + 5].flatten())
    x, change = data.one_step
    assert x.shape == (80, 40)
    place = (features[:, None] - x[:, :32]).abs().sum(2).argmin(0)
    torch.testing.assert_close(change, features[place + 1] - features[place])
    short = data.first(data.test, 3)
    assert torch.equal(short.y, data.test.y[:, :96])
    assert torch.equal(short.x, data.test.x[:, : 32 + 24])
    assert data.group == D(4)


def test_what_cannot_be_cut_is_refused_in_plain_words(tmp_path):
    seen = counted(60, set())
    for given, options, message in (
        (seen, {"chunks": 100}, "room for 56 chunks of 5 steps beside 0 tests of 100, but chunks=100"),
        (seen, {"tests": 3, "test_steps": 40}, "room for 1 test trajectories of 40 steps, but tests=3"),
        (seen, {"chunks": 0}, "chunks must be a positive integer, got 0"),
        ({**seen, "actions": seen["actions"] * np.nan}, {}, "actions hold NaN"),
        (
            {**seen, "actions": np.zeros((60, 2))},
            {},
            r"shape \(60, 2\), but should have \(60, 1\): the symmetry",
        ),
        ({**seen, "dones": np.zeros(59)}, {}, r"dones have shape \(59,\), but should have \(60\)\."),
        ({**seen, "dones": np.full(60, np.nan)}, {}, "dones hold NaN"),
        (
            {**seen, "next_observations": seen["next_observations"] + 0.5},
            {},
            "room for 0 chunks .* Of 60 transitions, 0 end an episode. At 59 more, next_observations is not",
        ),
        ({**seen, "observations": np.zeros((60, 3))}, {}, r"observations have shape .* observations of 2 numbers"),
        ({"observations": 1}, {}, r"must be a replay buffer, or hold arrays .* got one with \['observations'\]"),
        (3, {}, "got a int"),
    ):
        with pytest.raises(ValueError, match=message):
            rollouts(given, SYMMETRY, **{"steps": 5, "chunks": 5, "tests": 0} | options)
