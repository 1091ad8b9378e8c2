"""Features of observations: coordinates on which a symmetry acts linearly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor


class Features(Protocol):
    """An invertible map from observations to coordinates on which a group acts by matrices."""

    def size(self, observation: int) -> int:
        """How many features observations of a size have."""

    def of(self, observation: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch size"]:
        """The features of observations."""

    def observation(self, features: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch n"]:
        """The observations that have these features."""

    def names(self, observation: list[str]) -> list[str]:
        """The names of the features, from those of the observation's numbers."""


@dataclass(frozen=True)
class RawFeatures:
    """The observation itself."""

    def size(self, observation: int) -> int:
        """See Features."""
        return observation

    def of(self, observation: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """See Features."""
        return observation

    def observation(self, features: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """See Features."""
        return features

    def names(self, observation: list[str]) -> list[str]:
        """See Features."""
        return observation


@dataclass(frozen=True)
class QuaternionFeatures:
    """The observation with the rotation matrix R, row by row, in place of a unit quaternion (w, x, y, z).

    A quaternion and its negative are one rotation, so that no group but its double cover acts on quaternions; R, which
    takes body coordinates to world coordinates, becomes L R for a turned world and R M for a turned body.

    Parameters
    ----------
    start : the index of w in the observation.
    """

    start: int = 1

    def size(self, observation: int) -> int:
        """See Features."""
        return observation + 5

    def of(self, observation: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n_and_5"]:
        """See Features."""
        before, quaternion, after = observation.tensor_split([self.start, self.start + 4], dim=-1)
        return torch.cat([before, rotation_matrix(quaternion).flatten(-2), after], dim=-1)

    def observation(self, features: Float[Tensor, "*batch n_and_5"]) -> Float[Tensor, "*batch n"]:
        """See Features."""
        before, entries, after = features.tensor_split([self.start, self.start + 9], dim=-1)
        return torch.cat([before, quaternion_of(entries.unflatten(-1, (3, 3))), after], dim=-1)

    def names(self, observation: list[str]) -> list[str]:
        """See Features."""
        entries = [f"rotation[{row}, {column}]" for row in "xyz" for column in "xyz"]
        return [*observation[: self.start], *entries, *observation[self.start + 4 :]]


def rotation_matrix(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation of a quaternion (w, x, y, z) of any length but zero."""
    w, x, y, z = torch.nn.functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def quaternion_of(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """The unit quaternion (w, x, y, z) with w >= 0 of a rotation matrix.

    q is the eigenvector of largest eigenvalue of a symmetric matrix that is linear in R (Bar-Itzhack, Journal of
    Guidance, Control, and Dynamics 2000), which has no case to distinguish.
    """
    r = rotation.double()
    trace = r.diagonal(dim1=-2, dim2=-1).sum(-1)
    turn = torch.stack([r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]], dim=-1)
    form = r.new_zeros(*r.shape[:-2], 4, 4)
    form[..., 0, 0], form[..., 0, 1:], form[..., 1:, 0] = trace, turn, turn
    form[..., 1:, 1:] = r + r.mT - trace[..., None, None] * torch.eye(3, dtype=r.dtype, device=r.device)
    q = torch.linalg.eigh(form).eigenvectors[..., -1]
    sign = torch.where(q[..., :1] < 0, -1.0, 1.0)
    return (sign * q).to(rotation)
