"""Is a declared symmetry one of the simulator?

For states s and actions a, and an element g that acts by T: the error ||T f(s, a) - f(Ts, Ta)|| / ||T f(s, a) - Ts||,
where f is the simulator's next observation. Norms are those of the features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from bayes_rpp.groups.group import Group
from bayes_rpp.representations.rep import Rep
from bayes_rpp.rl.features import Features
from bayes_rpp.rl.simulator_states import env_name, observation_names, set_positions_and_velocities
from bayes_rpp.rl.spaces import check_spaces

EXACT = 1e-6  # of the largest error; the simulator's own rounding stays far below
_ANGLE = 1.0  # how far to go along an element of the Lie algebra
_MOST_STEPS = 16  # random actions before a state
_BLAMED = 0.2  # of the largest error of a coordinate
_TRIED_STATES, _MOST_TRIED = 8, 64  # with other signs
_BETTER = 0.3  # what another sign makes of an error, for it to be worth saying
_FAR = 0.3  # a median error from which on there is hardly a symmetry
# How far a step may lead elsewhere after the state was set from its observation, for the best tenth of all states:
# some environments clip velocities in observations, so that not all states come back.
_SAME_STEP = 1e-3


class Symmetry(Protocol):
    """What there is to verify, see EnvironmentSymmetry."""

    @property
    def group(self) -> Group: ...  # noqa: D102
    @property
    def rep_state(self) -> Rep: ...  # noqa: D102
    @property
    def rep_action(self) -> Rep: ...  # noqa: D102
    @property
    def features(self) -> Features: ...  # noqa: D102
    @property
    def set_observation(self) -> Callable[[Any, Any], None] | None: ...  # noqa: D102
    @property
    def names(self) -> tuple[str, ...] | None: ...  # noqa: D102
    @property
    def observation_size(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, repr=False)
class SymmetryReport:
    """How far each generator is from a symmetry of the simulator.

    ``errors`` has a row for each generator: the median, the 90 % quantile and the largest error of one step, and the
    largest difference of the rewards. ``coordinates`` has a row for each feature and a column for each generator: the
    mean of that feature's part of the error. ``wrong_signs`` has, for each generator, the features and actions (those
    that change places together) whose other sign would make the median error at least three times smaller, the best
    first, with that error.
    """

    errors: pd.DataFrame
    coordinates: pd.DataFrame
    wrong_signs: dict[str, dict[str, float]]

    def __repr__(self) -> str:
        words = str(self)
        return f"SymmetryReport:{chr(10) if chr(10) in words else ' '}{words}"

    @property
    def exact(self) -> bool:
        """Whether no error is above 1e-6."""
        return bool((self.errors["largest"] < EXACT).all())

    def blamed(self, generator: str) -> list[str]:
        """The wrong signs under a generator, or the features with the largest errors, the worst first; none if it is
        exact.
        """
        if self.errors.loc[generator, "largest"] < EXACT:
            return []
        parts = self.coordinates[generator].sort_values(ascending=False)
        return list(self.wrong_signs[generator] or parts.index[parts > _BLAMED * parts.iloc[0]])

    def __str__(self) -> str:
        return "\n".join(self._line(str(generator)) for generator in self.errors.index)

    def _line(self, generator: str) -> str:
        row = self.errors.loc[generator]
        reward = f"; rewards differ by up to {row['reward']:.2g}" if row["reward"] > EXACT else ""
        if row["largest"] < EXACT:
            return f"{generator}: exact (error at most {row['largest']:.1g}){reward}."
        figures = f"one-step error median {row['median']:.2g}, 90 % below {row['quantile 90 %']:.2g}"
        if wrong := self.wrong_signs[generator]:
            named = " or ".join(f"{name} ({error:.2g})" for name, error in list(wrong.items())[:3])
            return f"{generator}: {figures}{reward}. A wrong sign? It would be less with the other sign of {named}."
        blamed = self.blamed(generator)
        named = ", ".join(blamed[:6]) + (f" and {len(blamed) - 6} more" if len(blamed) > 6 else "")
        verdict = "approximate" if row["median"] < _FAR else "approximate at best, and far from a symmetry"
        return f"{generator}: {verdict}, {figures}, most in {named}{reward}."


def verify_by_simulator(symmetry: Symmetry, env: Any, states: int, seed: int) -> SymmetryReport:
    """See EnvironmentSymmetry.verify."""
    if states < 1:
        raise ValueError(f"states must be at least 1, got {states}.")
    if not hasattr(env, "observation_space"):
        raise TypeError(f"env must be an environment, as gymnasium.make makes them, got {env!r}.")
    spaces = env.observation_space, env.action_space
    check_spaces(symmetry.observation_size, symmetry.rep_action, *spaces, env_name(env))
    steps = _Steps(symmetry, env, states, seed)
    labels = symmetry.features.names(list(symmetry.names or observation_names(env, symmetry.observation_size)))
    errors, parts, wrong = {}, {}, {}
    for name, g in _elements(symmetry.group):
        relative, rewards = steps.differences(symmetry.rep_state.rho(g), symmetry.rep_action.rho(g))
        error = relative.norm(dim=-1)
        errors[name] = {
            "median": float(error.median()),
            "quantile 90 %": float(error.quantile(0.9)),
            "largest": float(error.max()),
            "reward": float(rewards.abs().max()),
        }
        parts[name] = relative.abs().mean(0).numpy()
        wrong[name] = {} if error.max() < EXACT else steps.better_signs(g, relative, labels)
    return SymmetryReport(pd.DataFrame.from_dict(errors, orient="index"), pd.DataFrame(parts, index=labels), wrong)


class _Steps:
    """Steps of the simulator from states, and from their images."""

    def __init__(self, symmetry: Symmetry, env: Any, states: int, seed: int) -> None:
        self.symmetry, self.env, self.seed = symmetry, env, seed
        steps = list(_steps_of(env, states, seed))
        self.observations, self.actions, real = (torch.stack([step[k] for step in steps]) for k in range(3))
        self.following, self.rewards = self._simulated(self.observations, self.actions)
        self._check(real)

    def _check(self, real: Float[Tensor, "batch n"]) -> None:
        """Raise ValueError unless states that were set from observations go on as the real ones did."""
        moved = (real - self.observations).norm(dim=-1)
        if not (moved > 0).any():
            raise ValueError(f"{env_name(self.env)} does not move: no step changes its observation.")
        missed = (self.following - real).norm(dim=-1) / moved.clamp_min(1e-12)
        if float(missed.quantile(0.1)) > _SAME_STEP:
            raise ValueError(
                f"put into a state from its observation, {env_name(self.env)} does not go on as before: the next "
                f"observation misses the real one by {float(missed.median()):.2g} of what a step changes. Leave out "
                "wrappers that change observations, or check set_observation, and that all of the state is observed."
            )

    def _simulated(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        put = self.symmetry.set_observation or set_positions_and_velocities
        nexts, rewards = [], []
        for observation, action in zip(observations.numpy(), actions.numpy(), strict=True):
            self.env.reset(seed=self.seed)
            put(self.env, observation)
            following, reward, *_ = self.env.step(action.astype(self.env.action_space.dtype))
            nexts.append(torch.as_tensor(np.asarray(following), dtype=torch.float64))
            rewards.append(float(reward))
        return torch.stack(nexts), torch.tensor(rewards, dtype=torch.float64)

    def differences(
        self, state: Float[Tensor, "size size"], action: Float[Tensor, "a a"], count: int | None = None
    ) -> tuple[Float[Tensor, "batch size"], Float[Tensor, " batch"]]:
        """(T f(s, a) - f(Ts, Ta)) / ||T f(s, a) - Ts|| and the differences of rewards, for matrices on features and on
        actions, of all states or the first ones.
        """
        of, some = self.symmetry.features.of, slice(count)
        images = of(self.observations[some]) @ state.mT
        found, rewards = self._simulated(self.symmetry.features.observation(images), self.actions[some] @ action.mT)
        expected = of(self.following[some]) @ state.mT
        scale = (expected - images).norm(dim=-1, keepdim=True)
        return (of(found) - expected) / scale, rewards - self.rewards[some]

    def better_signs(
        self, g: Float[Tensor, "d d"], relative: Float[Tensor, "batch size"], labels: list[str]
    ) -> dict[str, float]:
        """The features and actions whose other sign makes the error much smaller, and that error."""
        state, action = self.symmetry.rep_state.rho(g), self.symmetry.rep_action.rho(g)
        before = float(relative[:_TRIED_STATES].norm(dim=-1).median())
        features = self.symmetry.features
        found = {}
        for together in _worst_first(_exchanged(state), relative.abs().mean(0))[:_MOST_TRIED]:
            flipped = _other_sign(state, together)
            images = features.of(self.observations[:_TRIED_STATES]) @ flipped.mT
            if not torch.allclose(features.of(features.observation(images)), images, rtol=0, atol=1e-9):
                continue  # an entry of a rotation matrix has no other sign of its own
            name = " and ".join(labels[k] for k in together)
            found[name] = self.differences(flipped, action, _TRIED_STATES)[0]
        for together in _exchanged(action):
            name = " and ".join(f"action[{k}]" for k in together)
            found[name] = self.differences(state, _other_sign(action, together), _TRIED_STATES)[0]
        errors = {name: float(difference.norm(dim=-1).median()) for name, difference in found.items()}
        better = {name: error for name, error in errors.items() if error < _BETTER * before}
        return dict(sorted(better.items(), key=lambda item: item[1]))


def _exchanged(matrix: Float[Tensor, "size size"]) -> list[list[int]]:
    """The sets of coordinates that change places, each of which a sign on one of them takes in."""
    count, labels = connected_components(matrix.numpy() != 0, directed=False)
    return [np.flatnonzero(labels == label).tolist() for label in range(count)]


def _worst_first(sets: list[list[int]], parts: Float[Tensor, " size"]) -> list[list[int]]:
    return sorted(sets, key=lambda together: -float(parts[together].max()))


def _other_sign(matrix: Float[Tensor, "size size"], rows: list[int]) -> Float[Tensor, "size size"]:
    flipped = matrix.clone()
    flipped[rows] *= -1
    return flipped


def _steps_of(env: Any, states: int, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """States after a few random actions, an action in each, and the observation after it."""
    random = np.random.default_rng(seed)
    low, high = (
        np.where(np.isfinite(bound), bound, otherwise).astype(float)
        for bound, otherwise in ((env.action_space.low, -1.0), (env.action_space.high, 1.0))
    )

    def step(action: Float[np.ndarray, " a"]) -> Tensor:
        return torch.as_tensor(np.asarray(env.step(action.astype(env.action_space.dtype))[0]), dtype=torch.float64)

    for k in range(states):
        observation = torch.as_tensor(np.asarray(env.reset(seed=seed + k)[0]), dtype=torch.float64)
        for _ in range(random.integers(_MOST_STEPS)):
            observation = step(random.uniform(low, high)).clone()
        action = random.uniform(low, high)
        yield observation.clone(), torch.from_numpy(action), step(action).clone()


def _elements(group: Group) -> Iterator[tuple[str, Float[Tensor, "d d"]]]:
    for k, a in enumerate(group.lie_algebra):
        yield f"{group}, one unit along Lie-algebra element {k}", torch.linalg.matrix_exp(_ANGLE * a)
    for k, g in enumerate(group.generators):
        yield f"{group}, generator {k}", g
