"""Running normalisation of observations that keeps a symmetry."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from bayes_rpp.rl.environment_symmetry import EnvironmentSymmetry
from bayes_rpp.rl.features import QuaternionFeatures
from bayes_rpp.rl.spaces import acts_by_signed_permutations


class SymmetricVecNormalize(VecNormalize):
    """VecNormalize with moments over observations and all their images, so that it commutes with the symmetry.

    Moments of the observations alone differ between coordinates that change places, and their means between signs. Unit
    quaternions are left as they are.

    Parameters
    ----------
    venv : the environments.
    symmetry : of a finite group that acts on features by signed permutations.
    others : of VecNormalize.

    Raises
    ------
    ValueError
        If the symmetry acts otherwise, or does not fit the observations.

    Examples
    --------
    >>> env = SymmetricVecNormalize(DummyVecEnv([make_env]), environment_symmetry("Walker2d-v5"))
    """

    def __init__(self, venv: VecEnv, symmetry: EnvironmentSymmetry, **others: Any) -> None:
        super().__init__(venv, **others)
        shape = venv.observation_space.shape
        if shape != (symmetry.observation_size,):
            raise ValueError(f"the symmetry acts on observations of {symmetry.observation_size} numbers, got {shape}.")
        if self.norm_obs:
            self.obs_rms = SymmetricMoments(symmetry)  # type: ignore[assignment]

    def __repr__(self) -> str:
        kept = f", {self.obs_rms.symmetry!r}" if isinstance(self.obs_rms, SymmetricMoments) else ""
        return f"SymmetricVecNormalize({self.num_envs} environment(s){kept})"


class SymmetricMoments(RunningMeanStd):
    """Moments over observations and all their images under a finite group."""

    def __init__(self, symmetry: EnvironmentSymmetry) -> None:
        super().__init__(shape=(symmetry.observation_size,))
        if not symmetry.group.is_finite or symmetry.group.elements is None:
            raise ValueError(f"images under all elements need a finite group, got {symmetry.group}.")
        if not acts_by_signed_permutations(symmetry.rep_state):
            raise ValueError(
                "the symmetry must act on features by signed permutations: scales of coordinates keep no other."
            )
        self.symmetry = symmetry

    def update(self, arr: Float[np.ndarray, "batch n"]) -> None:
        """Take in observations and their images."""
        observations = torch.as_tensor(arr, dtype=torch.float64)
        elements = self.symmetry.group.elements
        assert elements is not None
        images = self.symmetry.transform_observation(elements[:, None], observations)
        mean, var = images.mean((0, 1)).numpy(), images.var((0, 1), correction=0).numpy()
        if isinstance(features := self.symmetry.features, QuaternionFeatures):
            place = slice(features.start, features.start + 4)
            mean[place], var[place] = 0.0, 1.0
        self.update_from_moments(mean, var, len(arr))
