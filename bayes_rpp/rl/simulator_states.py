"""States of MuJoCo environments from their observations."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float


def env_name(env: Any) -> str:
    """What to call an environment in messages."""
    spec = getattr(env, "spec", None)
    return spec.id if spec is not None else type(env).__name__


def set_positions_and_velocities(env: Any, observation: Float[np.ndarray, " n"]) -> None:
    """Put a MuJoCo environment into a state from an observation that begins with the positions, without the first one
    or two, and the velocities. What is left out is zero. Raises ValueError for other environments.
    """
    model = _mujoco_model(env)
    left_out = model.nq + model.nv - len(observation)
    if left_out not in (0, 1, 2):
        raise ValueError(
            f"{env_name(env)} has {model.nq} positions and {model.nv} velocities, and an observation of "
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
            f"{env_name(env)} is no MuJoCo environment: give set_observation, a function of the environment and an "
            "observation that puts the simulator into a state with this observation."
        )
    return model
