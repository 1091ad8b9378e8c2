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
from torch import Tensor

from bayes_rpp.groups.group import Group
from bayes_rpp.representations.rep import Rep
from bayes_rpp.rl.features import Features

EXACT = 1e-6  # of the largest error; the simulator's own rounding stays far below
_ANGLE = 1.0  # how far to go along an element of the Lie algebra
_MOST_STEPS = 16  # random actions before a state
_BLAMED = 0.2  # of the largest error of a coordinate
_TRIED_STATES, _MOST_TRIED = 8, 64  # with other signs
_BETTER = 0.3  # what another sign makes of an error, for it to be worth saying


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


@dataclass(frozen=True)
class SymmetryReport:
    """How far each generator is from a symmetry of the simulator.

    ``errors`` has a row for each generator: the median, the 90 % quantile and the largest error of one step, and the
    largest difference of the rewards. ``coordinates`` has a row for each feature and a column for each generator: the
    mean of that feature's part of the error. ``wrong_signs`` has, for each generator, the features and actions whose
    other sign would make the median error at least three times smaller, the best first, with that error.
    """

    errors: pd.DataFrame
    coordinates: pd.DataFrame
    wrong_signs: dict[str, dict[str, float]]

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
        return f"{generator}: approximate, {figures}, most in {named}{reward}."


def verify_by_simulator(symmetry: Symmetry, env: Any, states: int, seed: int) -> SymmetryReport:
    """See EnvironmentSymmetry.verify."""
    if states < 1:
        raise ValueError(f"states must be at least 1, got {states}.")
    check_spaces(symmetry, env)
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
        pairs = list(_states_and_actions(env, states, seed))
        self.observations, self.actions = (torch.stack([pair[k] for pair in pairs]) for k in (0, 1))
        self.following, self.rewards = self._simulated(self.observations, self.actions)

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
        tried = relative.abs().mean(0).argsort(descending=True)[:_MOST_TRIED].tolist()
        for k in tried:
            flipped = _other_sign(state, k)
            images = features.of(self.observations[:_TRIED_STATES]) @ flipped.mT
            if not torch.allclose(features.of(features.observation(images)), images, rtol=0, atol=1e-9):
                continue  # an entry of a rotation matrix has no other sign of its own
            found[labels[k]] = self.differences(flipped, action, _TRIED_STATES)[0]
        for k in range(len(action)):
            found[f"action[{k}]"] = self.differences(state, _other_sign(action, k), _TRIED_STATES)[0]
        errors = {name: float(difference.norm(dim=-1).median()) for name, difference in found.items()}
        better = {name: error for name, error in errors.items() if error < _BETTER * before}
        return dict(sorted(better.items(), key=lambda item: item[1]))


def _other_sign(matrix: Float[Tensor, "size size"], row: int) -> Float[Tensor, "size size"]:
    flipped = matrix.clone()
    flipped[row] *= -1
    return flipped


def check_spaces(symmetry: Symmetry, env: Any) -> None:
    """Raise ValueError unless observations and actions are vectors of the sizes that a symmetry acts on."""
    expected = {"observation": symmetry.observation_size, "action": symmetry.rep_action.size}
    for kind, size in expected.items():
        space = getattr(env, f"{kind}_space")
        if type(space).__name__ != "Box":
            raise ValueError(f"symmetries act on continuous {kind}s, a Box of shape ({size},), got {space}.")
        shape: tuple[int, ...] = space.shape
        if shape != (size,):
            raise ValueError(
                f"the symmetry acts on {kind}s of {size} numbers, but those of {_name(env)} have shape {shape}."
                f"{_hint(shape, size) if kind == 'observation' else ''}"
            )


def _hint(shape: tuple[int, ...], size: int) -> str:
    if len(shape) == 1 and shape[0] > size >= 27:
        return (
            " Leave out what is computed for each body, in gymnasium.make: include_cfrc_ext_in_observation=False, and "
            "of Humanoid include_cinert_in_observation, include_cvel_in_observation and "
            "include_qfrc_actuator_in_observation too; or take it in, environment_symmetry(..., bodies=True)."
        )
    return ""


def _name(env: Any) -> str:
    spec = getattr(env, "spec", None)
    return spec.id if spec is not None else type(env).__name__


def _states_and_actions(env: Any, states: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    random = np.random.default_rng(seed)
    low, high = (bound.astype(float) for bound in (env.action_space.low, env.action_space.high))
    for k in range(states):
        observation, _ = env.reset(seed=seed + k)
        for _ in range(random.integers(_MOST_STEPS)):
            observation, *_ = env.step(random.uniform(low, high).astype(env.action_space.dtype))
        action = random.uniform(low, high)
        yield torch.as_tensor(np.asarray(observation), dtype=torch.float64), torch.from_numpy(action)


def _elements(group: Group) -> Iterator[tuple[str, Float[Tensor, "d d"]]]:
    for k, a in enumerate(group.lie_algebra):
        yield f"{group}, one unit along Lie-algebra element {k}", torch.linalg.matrix_exp(_ANGLE * a)
    for k, g in enumerate(group.generators):
        yield f"{group}, generator {k}", g


def set_positions_and_velocities(env: Any, observation: Float[np.ndarray, " n"]) -> None:
    """Put a MuJoCo environment into a state from an observation that begins with the positions, without the first one
    or two, and the velocities. What is left out is zero. Raises ValueError for other environments.
    """
    model = _mujoco_model(env)
    left_out = model.nq + model.nv - len(observation)
    if left_out not in (0, 1, 2):
        raise ValueError(
            f"{_name(env)} has {model.nq} positions and {model.nv} velocities, and an observation of "
            f"{len(observation)} numbers cannot be these without the first one or two: give set_observation, a "
            "function of the environment and an observation that puts the simulator into a state with this observation."
        )
    positions = model.nq - left_out
    qpos = np.concatenate([np.zeros(left_out), observation[:positions]])
    env.unwrapped.set_state(qpos, np.asarray(observation[positions:]))


def observation_names(env: Any, size: int) -> list[str]:
    """The names of an observation's numbers: those of a MuJoCo environment's joints, or numbers."""
    model = getattr(env.unwrapped, "model", None)
    if model is None or not hasattr(model, "jnt_type") or model.nq + model.nv - size not in (0, 1, 2):
        return [f"observation[{k}]" for k in range(size)]
    positions: list[str] = []
    velocities: list[str] = []
    for k in range(model.njnt):
        name, free = model.joint(k).name, model.jnt_type[k] == 0
        positions += [f"{name}.{axis}" for axis in ("x", "y", "z", "qw", "qx", "qy", "qz")] if free else [name]
        turns = [f"{name}.v{axis}" for axis in "xyz"] + [f"{name}.omega_{axis}" for axis in "xyz"]
        velocities += turns if free else [f"{name} velocity"]
    return [*positions[model.nq + model.nv - size :], *velocities]


def _mujoco_model(env: Any) -> Any:
    model = getattr(env.unwrapped, "model", None)
    if model is None or not hasattr(env.unwrapped, "set_state"):
        raise ValueError(
            f"{_name(env)} is no MuJoCo environment: give set_observation, a function of the environment and an "
            "observation that puts the simulator into a state with this observation."
        )
    return model
