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
from bayes_rpp.positive_integer import positive_integer
from bayes_rpp.representations.rep import Rep
from bayes_rpp.rl.environment_symmetry import EnvironmentSymmetry
from bayes_rpp.seeding import seeded_generator

_SAME = 1e-6  # within which a state is the one that the transition before led to: some arrays were rounded
_NAMES = ("observations", "actions", "next_observations", "dones")


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        chunks = f"{len(self.train.x):,} chunks of {self.steps} steps, {len(self.test.x):,} tests of {self.test_steps}"
        return f"TransitionData({chunks}; states {self.rep_state}, actions {self.rep_action}, group {self.group})"

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
        if positive_integer(steps, "steps") > (most := split.y.shape[1] // n):
            raise ValueError(f"steps must be at most {most}, got {steps}.")
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
    states with each other, but not with a test. None runs over the end of an episode, nor over a place where the next
    observation is not the observation that follows, to within 1e-6.

    Parameters
    ----------
    source : the ``replay_buffer`` of a Stable-Baselines3 algorithm, whose actions are put back into the environment's
        units. Or a mapping, or a .npz file, of arrays in the order of time: "observations" and "next_observations"
        (time, n), "actions" (time, m) in the environment's units, and "dones" (time,), which is true where an episode
        ended; with several environments, (time, environment, ...).
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
    steps, chunks, test_steps = (
        positive_integer(steps, "steps"),
        positive_integer(chunks, "chunks"),
        positive_integer(test_steps, "test_steps"),
    )
    tests = positive_integer(tests, "tests") if tests else 0
    seen = _transitions(source, symmetry)
    left, generator = _steps_left(seen), seeded_generator(seed)
    test_starts = _apart(left >= test_steps, test_steps, tests, generator, _breaks(seen))
    free = (left >= steps) & ~_touches(test_starts, test_steps, steps, left.shape)
    starts = _shuffled(free, generator)[:chunks]
    if len(starts) < chunks:
        raise ValueError(
            f"there is room for {len(starts)} chunks of {steps} steps beside {tests} tests of {test_steps}, but "
            f"chunks={chunks}: ask for fewer, or give more transitions. {_breaks(seen)}"
        )
    train, test = _cut(seen, starts, steps, symmetry), _cut(seen, test_starts, test_steps, symmetry)
    return TransitionData(train, test, symmetry.rep_state, symmetry.rep_action, symmetry.group, steps, test_steps)


class _Transitions(NamedTuple):
    """In the order of time, of one or more environments."""

    observations: Float[Tensor, "time env n"]
    actions: Float[Tensor, "time env m"]
    next_observations: Float[Tensor, "time env n"]
    dones: Bool[Tensor, "time env"]


def _transitions(source: Any, symmetry: EnvironmentSymmetry) -> _Transitions:
    if hasattr(source, "replay_buffer"):
        raise ValueError(f"source is a {type(source).__name__}: give its replay_buffer.")
    arrays = replayed(source) if hasattr(source, "observations") else _of_mapping(source)
    parts = {name: _numbers(arrays[name]) for name in _NAMES}
    n, m = symmetry.observation_size, symmetry.rep_action.size
    leading = parts["observations"].shape[:-1]
    for name, own in {"observations": (n,), "next_observations": (n,), "actions": (m,), "dones": ()}.items():
        if parts[name].shape != (*leading, *own) or len(leading) not in (1, 2):
            shape = ", ".join(map(str, (*(leading if len(leading) in (1, 2) else ("time",)), *own)))
            why = f": the symmetry is one of observations of {n} numbers and actions of {m}" if own else ""
            raise ValueError(f"{name} have shape {tuple(parts[name].shape)}, but should have ({shape}){why}.")
        if not torch.isfinite(parts[name]).all():
            raise ValueError(f"{name} hold NaN or infinite numbers.")
    if len(leading) == 1:
        parts = {name: part[:, None] for name, part in parts.items()}
    return _Transitions(**{**parts, "dones": parts["dones"].bool()})


def _numbers(array: Any) -> Float[Tensor, "*shape"]:
    array = array.detach().cpu() if isinstance(array, Tensor) else np.asarray(array)
    return torch.as_tensor(array, dtype=torch.float64)


def _of_mapping(source: Any) -> Mapping[str, Any]:
    if isinstance(source, str | Path):
        source = np.load(source, allow_pickle=False)
    if not isinstance(source, Mapping) or any(name not in source for name in _NAMES):
        held = f"one with {sorted(source)}" if isinstance(source, Mapping) else f"a {type(source).__name__}"
        raise ValueError(f"source must be a replay buffer, or hold arrays {', '.join(_NAMES)}, got {held}.")
    return source


def replayed(buffer: Any) -> dict[str, np.ndarray]:
    """The arrays of a replay buffer of Stable-Baselines3, the oldest first. It keeps actions scaled to -1, ..., 1; here
    they are in the environment's units.
    """
    if not hasattr(buffer, "next_observations"):
        raise ValueError("this replay buffer keeps no next observations: make it without optimize_memory_usage.")
    if isinstance(buffer.observations, dict):
        raise ValueError("this replay buffer keeps observations of several parts; they must be one vector.")
    order = np.roll(np.arange(buffer.buffer_size), -buffer.pos) if buffer.full else np.arange(buffer.pos)
    arrays = {name: getattr(buffer, name)[order] for name in _NAMES}
    low, high = buffer.action_space.low, buffer.action_space.high
    return arrays | {"actions": low + (arrays["actions"] + 1) / 2 * (high - low)}


def _goes_on(seen: _Transitions) -> Bool[Tensor, "time_but_one env"]:
    """Whether the transition after each is the next step of the same episode."""
    after, before = seen.next_observations[:-1], seen.observations[1:]
    return ~seen.dones[:-1] & torch.isclose(after, before, rtol=_SAME, atol=_SAME).all(-1)


def _breaks(seen: _Transitions) -> str:
    """What cuts the transitions into pieces."""
    ends, breaks = int(seen.dones.sum()), int((~_goes_on(seen) & ~seen.dones[:-1]).sum())
    said = f" At {breaks} more, next_observations is not the observation that follows." if breaks else ""
    return f"Of {seen.dones.numel()} transitions, {ends} end an episode.{said}"


def _steps_left(seen: _Transitions) -> Int[Tensor, "time env"]:
    """For each transition, how many follow one another from it on: up to the end of an episode, or to where a state is
    not the one that the transition before led to.
    """
    last = torch.cat([~_goes_on(seen), torch.ones_like(seen.dones[:1])])
    time = torch.arange(len(last))[:, None]
    ends = torch.where(last, time, len(last))
    return ends.flip(0).cummin(0).values.flip(0) - time + 1


def _shuffled(allowed: Bool[Tensor, "time env"], generator: torch.Generator) -> Int[Tensor, "place 2"]:
    found = allowed.nonzero()
    return found[torch.randperm(len(found), generator=generator)]


def _apart(
    allowed: Bool[Tensor, "time env"], length: int, count: int, generator: torch.Generator, breaks: str
) -> Int[Tensor, "place 2"]:
    """Places of ``count`` trajectories that share no transition, each drawn among those that are left; ``breaks`` is
    for the message if there is no room.
    """
    chosen: list[Tensor] = []
    for place in _shuffled(allowed, generator):
        if len(chosen) == count:
            break
        if allowed[tuple(place)]:
            chosen.append(place)
            allowed = allowed & ~_touches(place[None], length, length, allowed.shape)
    if len(chosen) < count:
        raise ValueError(
            f"there is room for {len(chosen)} test trajectories of {length} steps, but tests={count}: ask for fewer or "
            f"shorter ones. {breaks}"
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
