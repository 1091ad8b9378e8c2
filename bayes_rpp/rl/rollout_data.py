"""Chunks of what an agent saw: from a state and the actions that follow, predict the states that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bayes_rpp.datasets.regression_data import Split
from bayes_rpp.groups.group import Group
from bayes_rpp.representations.rep import Rep
from bayes_rpp.rl.environment_symmetry import EnvironmentSymmetry
from bayes_rpp.seeding import seeded_generator

_NAMES = ("observations", "actions", "next_observations", "dones")


@dataclass(frozen=True)
class TransitionData:
    """Chunks of trajectories with actions as a regression problem, for a ``TransitionRollout``.

    An input is a state and the actions that follow, flat, an output the states that follow, flat. States are the
    symmetry's features of observations.

    Attributes
    ----------
    train : chunks of ``steps``.
    test : trajectories of ``test_steps``; no state of theirs is in ``train``.
    rep_state, rep_action, group : of one state and one action.
    """

    train: Split
    test: Split
    rep_state: Rep
    rep_action: Rep
    group: Group
    steps: int
    test_steps: int

    @property
    def one_step(self) -> Split:
        """All single steps of the chunks to train on: x is a state and an action, y the change of the state."""
        state, actions = self.parts(self.train.x)
        following = self.train.y.unflatten(1, (self.steps, -1))
        states = torch.cat([state[:, None], following[:, :-1]], dim=1)
        return Split(torch.cat([states, actions], dim=-1).flatten(0, 1), (following - states).flatten(0, 1))

    def parts(self, x: Float[Tensor, "batch size_in"]) -> tuple[Float[Tensor, "batch n"], Float[Tensor, "batch t m"]]:
        """The first states and the actions (batch, time, action) of inputs."""
        state, actions = x.tensor_split([self.rep_state.size], dim=1)
        return state, actions.unflatten(1, (-1, self.rep_action.size))

    def first(self, split: Split, steps: int) -> Split:
        """The first steps of chunks or trajectories; raises ValueError if they have fewer."""
        n, m = self.rep_state.size, self.rep_action.size
        if not 1 <= steps <= (most := split.y.shape[1] // n):
            raise ValueError(f"steps must be from 1 to {most}, got {steps}.")
        return Split(split.x[:, : n + steps * m], split.y[:, : steps * n])


def rollouts(
    source: Any,
    symmetry: EnvironmentSymmetry,
    *,
    steps: int = 10,
    chunks: int = 5000,
    test_steps: int = 100,
    tests: int = 100,
    seed: int = 0,
) -> TransitionData:
    """Chunks at random places of what an agent saw while it learned.

    Test trajectories are placed first, without overlap. The chunks to train on begin at distinct places and may share
    states with each other, but not with a test. None runs over the end of an episode.

    Parameters
    ----------
    source : the ``replay_buffer`` of a Stable-Baselines3 algorithm; its actions are put back into the environment's
        units. Or a mapping, or a .npz file, of arrays in the order of time: "observations" and "next_observations"
        (time, n), "actions" (time, m), and "dones" (time,), which is true where an episode ended; with several
        environments, (time, environment, ...).
    symmetry : of the environment, see ``environment_symmetry``.
    steps : of a chunk.
    chunks : how many to train on.
    test_steps, tests : how long test trajectories are, and how many.
    seed : of the places.

    Raises
    ------
    ValueError
        If sizes are not those of the symmetry, numbers are not finite, or there is not room for as many.

    Examples
    --------
    >>> data = rollouts(sac.replay_buffer, environment_symmetry("Hopper-v5"), chunks=2000)
    >>> data.train.x.shape, data.train.y.shape
    (torch.Size([2000, 41]), torch.Size([2000, 110]))
    """
    for name, number, least in (
        ("steps", steps, 1),
        ("chunks", chunks, 1),
        ("test_steps", test_steps, 1),
        ("tests", tests, 0),
    ):
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {number!r}.")
    seen = _transitions(source)
    _check(seen, symmetry)
    left, generator = _steps_left(seen), seeded_generator(seed)
    test_starts = _apart(left >= test_steps, test_steps, tests, generator)
    free = (left >= steps) & ~_touches(test_starts, test_steps, steps, left.shape)
    starts = _shuffled(free, generator)[:chunks]
    if len(starts) < chunks:
        raise ValueError(
            f"there is room for {len(starts)} chunks of {steps} steps beside {tests} tests of {test_steps}, but "
            f"chunks={chunks}: ask for fewer, or give more transitions."
        )
    train, test = _cut(seen, starts, steps, symmetry), _cut(seen, test_starts, test_steps, symmetry)
    return TransitionData(train, test, symmetry.rep_state, symmetry.rep_action, symmetry.group, steps, test_steps)


class _Transitions(NamedTuple):
    """In the order of time, of one or more environments."""

    observations: Float[Tensor, "time env n"]
    actions: Float[Tensor, "time env m"]
    next_observations: Float[Tensor, "time env n"]
    dones: Bool[Tensor, "time env"]


def _transitions(source: Any) -> _Transitions:
    if hasattr(source, "replay_buffer"):
        raise ValueError(f"source is a {type(source).__name__}: give its replay_buffer.")
    arrays = _of_buffer(source) if hasattr(source, "observations") else _of_mapping(source)
    observations, actions, following = (torch.as_tensor(np.asarray(part), dtype=torch.float64) for part in arrays[:3])
    dones = torch.as_tensor(np.asarray(arrays[3])).bool()
    if observations.ndim == 2:
        observations, actions, following, dones = (part[:, None] for part in (observations, actions, following, dones))
    return _Transitions(observations, actions, following, dones)


def _of_mapping(source: Any) -> list[Any]:
    if isinstance(source, str | Path):
        source = np.load(source, allow_pickle=False)
    if not isinstance(source, Mapping) or any(name not in source for name in _NAMES):
        held = f"one with {sorted(source)}" if isinstance(source, Mapping) else f"a {type(source).__name__}"
        raise ValueError(f"source must be a replay buffer, or hold arrays {', '.join(_NAMES)}, got {held}.")
    return [source[name] for name in _NAMES]


def _of_buffer(buffer: Any) -> list[Any]:
    """The arrays of a replay buffer of Stable-Baselines3, the oldest first. It keeps actions scaled to -1, ..., 1."""
    if not hasattr(buffer, "next_observations"):
        raise ValueError("this replay buffer keeps no next observations: make it without optimize_memory_usage.")
    if isinstance(buffer.observations, dict):
        raise ValueError("this replay buffer keeps observations of several parts; they must be one vector.")
    order = np.roll(np.arange(buffer.buffer_size), -buffer.pos) if buffer.full else np.arange(buffer.pos)
    observations, actions, following, dones = (getattr(buffer, name)[order] for name in _NAMES)
    low, high = buffer.action_space.low, buffer.action_space.high
    return [observations, low + (actions + 1) / 2 * (high - low), following, dones]


def _check(seen: _Transitions, symmetry: EnvironmentSymmetry) -> None:
    shape = seen.observations.shape
    n, m = symmetry.observation_size, symmetry.rep_action.size
    for name, part, wanted in (
        ("observations", seen.observations, (*shape[:2], n)),
        ("next_observations", seen.next_observations, (*shape[:2], n)),
        ("actions", seen.actions, (*shape[:2], m)),
        ("dones", seen.dones, shape[:2]),
    ):
        if part.shape != wanted:
            raise ValueError(
                f"{name} have shape {tuple(part.shape)}, but should have {tuple(wanted)}: the symmetry is one of "
                f"observations of {n} numbers and actions of {m}."
            )
        if not torch.isfinite(part).all():
            raise ValueError(f"{name} hold NaN or infinite numbers.")


def _steps_left(seen: _Transitions) -> Int[Tensor, "time env"]:
    """For each transition, how many follow one another from it on: up to the end of an episode, or to where a state is
    not the one that the transition before led to.
    """
    goes_on = ~seen.dones[:-1] & (seen.next_observations[:-1] == seen.observations[1:]).all(-1)
    left = torch.ones(seen.dones.shape, dtype=torch.int64)
    for t in range(len(goes_on) - 1, -1, -1):
        left[t] += torch.where(goes_on[t], left[t + 1], 0)
    return left


def _shuffled(allowed: Bool[Tensor, "time env"], generator: torch.Generator) -> Int[Tensor, "place 2"]:
    found = allowed.nonzero()
    return found[torch.randperm(len(found), generator=generator)]


def _apart(
    allowed: Bool[Tensor, "time env"], length: int, count: int, generator: torch.Generator
) -> Int[Tensor, "place 2"]:
    """Places of ``count`` trajectories that share no transition, each drawn among those that are left."""
    chosen: list[Tensor] = []
    for place in _shuffled(allowed, generator):
        if len(chosen) < count and allowed[tuple(place)]:
            chosen.append(place)
            allowed = allowed & ~_touches(place[None], length, length, allowed.shape)
    if len(chosen) < count:
        raise ValueError(
            f"there is room for {len(chosen)} test trajectories of {length} steps, but tests={count}: episodes may be "
            "shorter. Ask for fewer or shorter ones."
        )
    return torch.stack(chosen) if chosen else torch.empty(0, 2, dtype=torch.int64)


def _touches(places: Int[Tensor, "place 2"], length: int, own: int, shape: torch.Size) -> Bool[Tensor, "time env"]:
    """Where a trajectory of ``own`` steps would share a state with one of those of ``length`` that begin at places."""
    touched = torch.zeros(shape, dtype=torch.bool)
    for time, env in places.tolist():
        touched[max(0, time - own) : time + length + 1, env] = True
    return touched


def _cut(seen: _Transitions, starts: Int[Tensor, "place 2"], length: int, symmetry: EnvironmentSymmetry) -> Split:
    times, env = starts[:, :1] + torch.arange(length), starts[:, 1:]
    first = symmetry.features.of(seen.observations[starts[:, 0], starts[:, 1]])
    x = torch.cat([first, seen.actions[times, env].flatten(1)], dim=1)
    y = symmetry.features.of(seen.next_observations[times, env]).flatten(1)
    return Split(x.to(torch.get_default_dtype()), y.to(torch.get_default_dtype()))
