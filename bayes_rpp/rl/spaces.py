"""Whether the spaces of an environment are those that a symmetry acts on."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayes_rpp.representations.rep import Rep


def check_spaces(observation_size: int, rep_action: Rep, observations: Any, actions: Any, where: str) -> None:
    """Raise ValueError unless observations and actions are vectors of the sizes that a symmetry acts on, within bounds
    that it keeps. ``where`` is whose they are.
    """
    for kind, space, size in (
        ("observation", observations, observation_size),
        ("action", actions, rep_action.size),
    ):
        if type(space).__name__ != "Box":
            raise ValueError(f"symmetries act on continuous {kind}s, a Box of shape ({size},), got {space}.")
        shape: tuple[int, ...] = space.shape
        if shape != (size,):
            raise ValueError(
                f"the symmetry acts on {kind}s of {size} numbers, but those of {where} have shape {shape}."
                f"{_hint(shape, size) if kind == 'observation' else ''}"
            )
    if acts_by_signed_permutations(rep_action):
        bounds = np.stack([actions.low, actions.high]).astype(float)
        for image in rep_action.rho(rep_action.bound_group.generators).numpy():
            order, signs = np.abs(image).argmax(1), image.sum(1)
            if not np.allclose(np.sort(bounds[:, order] * signs, axis=0), bounds):
                raise ValueError(
                    f"the bounds of actions, {bounds[0]} and {bounds[1]}, must be symmetric under {rep_action.group}."
                )


def acts_by_signed_permutations(rep: Rep) -> bool:
    """Whether every generator exchanges coordinates and changes signs, and does nothing else."""
    group = rep.bound_group
    if len(group.lie_algebra):
        return False
    images = rep.rho(group.generators)
    return bool(((images.abs() - 1).abs() < 1e-9).sum(-1).eq(1).all() and ((images.abs() > 1e-9).sum(-1) == 1).all())


def _hint(shape: tuple[int, ...], size: int) -> str:
    if len(shape) == 1 and shape[0] > size >= 27:
        return (
            " Leave out what is computed for each body, in gymnasium.make: include_cfrc_ext_in_observation=False, and "
            "of Humanoid include_cinert_in_observation, include_cvel_in_observation and "
            "include_qfrc_actuator_in_observation too; or take it in, environment_symmetry(..., bodies=True)."
        )
    return ""
