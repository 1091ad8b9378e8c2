"""The symmetries of robots with a free root, Ant and Humanoid, whose observations hold a quaternion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.groups.group import Group
from bayes_rpp.groups.named import SO, Z
from bayes_rpp.rl.environment_symmetry import EnvironmentSymmetry, signed_permutation
from bayes_rpp.rl.features import QuaternionFeatures
from bayes_rpp.rl.simulator_states import set_positions_and_velocities

Matrix = Float[Tensor, "size size"]

# What observations may hold after the velocities: for how many bodies, the world among them or not.
BodyBlocks = tuple[tuple[str, int], ...]
_HUMANOID_BLOCKS = ("inertias", "velocities", "actuators", "forces")
BLOCKS: dict[tuple[str, str], BodyBlocks] = {
    ("Ant", "4"): (("forces", 14),),
    ("Ant", "5"): (("forces", 13),),
    ("Humanoid", "4"): tuple(zip(_HUMANOID_BLOCKS, (14, 14, 23, 14), strict=True)),
    ("Humanoid", "5"): tuple(zip(_HUMANOID_BLOCKS, (13, 13, 17, 13), strict=True)),
}

_NUMBERS = {
    "inertias": ("I_xx", "I_yy", "I_zz", "I_xy", "I_xz", "I_yz", "moment_x", "moment_y", "moment_z", "mass"),
    "velocities": ("omega_x", "omega_y", "omega_z", "v_x", "v_y", "v_z"),
    "forces": ("torque_x", "torque_y", "torque_z", "force_x", "force_y", "force_z"),
}

_EYE = torch.eye(3, dtype=torch.float64)
_MIRROR = torch.diag(torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64))
_QUARTER = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
_TURNING = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)


@dataclass(frozen=True)
class _Image:
    """What an element does to a robot: to the axes of the world and of the body, to the joints, and which body, the
    world left out, each one then is.
    """

    world: Matrix
    body: Matrix
    joints: Matrix
    bodies: tuple[int, ...]

    def on_features(self, blocks: BodyBlocks) -> Matrix:
        """The matrix on height, R -> world R body^T, joints, v -> world v, omega -> det(body) body omega in the body's
        frame, the velocities of the joints, and what there is for each body.
        """
        one = torch.eye(1, dtype=torch.float64)
        state = (one, torch.kron(self.world, self.body), self.joints, self.world, _axial(self.body), self.joints)
        return torch.block_diag(*state, *(self._block(name, count) for name, count in blocks))

    def _block(self, name: str, count: int) -> Matrix:
        """Inertias are (xx, yy, zz, xy, xz, yz, three moments, mass) of every body about the centre of mass, velocities
        (omega, v) and forces (torque, force), all along the axes of the world.
        """
        if name == "actuators":
            root = torch.block_diag(self.world, _axial(self.body)) if count > len(self.joints) else self.world[:0, :0]
            return torch.block_diag(root, self.joints)
        motion = torch.block_diag(_axial(self.world), self.world)
        if name == "inertias":
            motion = torch.block_diag(_on_symmetric(self.world), self.world, torch.eye(1, dtype=torch.float64))
        order = self.bodies if count == len(self.bodies) else (0, *(1 + k for k in self.bodies))
        return torch.kron(signed_permutation(order), motion)


def _axial(matrix: Matrix) -> Matrix:
    return torch.linalg.det(matrix) * matrix


def _on_symmetric(matrix: Matrix) -> Matrix:
    """S -> matrix S matrix^T on (xx, yy, zz, xy, xz, yz)."""
    rows, columns = [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]
    units = torch.zeros(6, 3, 3, dtype=torch.float64)
    units[range(6), rows, columns] = units[range(6), columns, rows] = 1.0
    return (matrix @ units @ matrix.mT)[:, rows, columns].mT


@dataclass(frozen=True)
class _Robot:
    """The names of its joints and bodies."""

    joints: tuple[str, ...]
    bodies: tuple[str, ...]

    def symmetry(
        self, group: Group, images: list[_Image], actions: list[Matrix], blocks: BodyBlocks
    ) -> EnvironmentSymmetry:
        """The symmetry with these images of the generators."""
        states = [image.on_features(blocks) for image in images]
        return EnvironmentSymmetry.of_generators(group, states, actions, **self._observations(blocks))

    def turned_world(self, blocks: BodyBlocks) -> EnvironmentSymmetry:
        """Rotations of the world about the vertical, which leave the joints and the actions."""
        count = len(self.joints)

        def features(angle: Tensor) -> Matrix:
            world, joints = torch.linalg.matrix_exp(angle * _TURNING), torch.eye(count, dtype=torch.float64)
            return _Image(world, _EYE, joints, tuple(range(len(self.bodies)))).on_features(blocks)

        derivative = torch.func.jacfwd(features)(torch.zeros((), dtype=torch.float64))
        still = torch.zeros(count, count, dtype=torch.float64)
        return EnvironmentSymmetry.of_generators(
            SO(2), state_algebra=[derivative], action_algebra=[still], **self._observations(blocks)
        )

    def _observations(self, blocks: BodyBlocks) -> dict[str, Any]:
        """Height, quaternion, joints, v, omega and the velocities of the joints; what follows depends on these."""
        count = 11 + 2 * len(self.joints)

        def put(env: Any, observation: Float[np.ndarray, " n"]) -> None:
            set_positions_and_velocities(env, observation[:count])

        motion = [*(f"v_{axis}" for axis in "xyz"), *(f"omega_{axis}" for axis in "xyz")]
        names = ["height", *(f"quaternion {axis}" for axis in "wxyz"), *self.joints, *motion]
        names += [f"{joint} velocity" for joint in self.joints]
        for name, bodies in blocks:
            if name == "actuators":
                names += [f"actuator force {k}" for k in range(bodies)]
            else:
                where = self.bodies if bodies == len(self.bodies) else ("world", *self.bodies)
                names += [f"{what} of {body}" for body in where for what in _NUMBERS[name]]
        return {"features": QuaternionFeatures(), "set_observation": put, "names": tuple(names)}


# Legs of the ant: front left, front right, back left (named back), back right, around the body; each has a hip and an
# ankle, whose axes point along the legs' sides so that two ankles bend with the other sign, and three bodies. Actions
# begin with the last leg.
_ANT = _Robot(
    tuple(f"{joint}_{leg}" for leg in range(1, 5) for joint in ("hip", "ankle")),
    ("torso", *(f"{part} of leg {leg}" for leg in range(1, 5) for part in ("root", "hip", "foot"))),
)
_ANKLES = (1.0, -1.0, -1.0, 1.0)
_ACTIONS = signed_permutation([6, 7, 0, 1, 2, 3, 4, 5])


def _ant_image(world: Matrix, body: Matrix, legs: tuple[int, ...], hip: float) -> _Image:
    """Leg k is then what leg legs_k was, and the angles of hips take a sign."""
    joints = torch.zeros(8, 8, dtype=torch.float64)
    for new, old in enumerate(legs):
        joints[2 * new, 2 * old], joints[2 * new + 1, 2 * old + 1] = hip, _ANKLES[new] * _ANKLES[old]
    return _Image(world, body, joints, (0, *(1 + 3 * leg + part for leg in legs for part in range(3))))


def ant(group: Group, blocks: BodyBlocks) -> EnvironmentSymmetry:
    """Quarter turns of the body, and for D(4) the mirror image too."""
    images = [_ant_image(_EYE, _QUARTER, (3, 0, 1, 2), 1.0), _ant_image(_MIRROR, _MIRROR, (3, 2, 1, 0), -1.0)]
    images = images[: len(group.generators)]
    return _ANT.symmetry(group, images, [_ACTIONS @ image.joints @ _ACTIONS.mT for image in images], blocks)


def ant_turned(blocks: BodyBlocks) -> EnvironmentSymmetry:
    """Rotations of the world about the vertical."""
    return _ANT.turned_world(blocks)


_SIDES = ("right", "left")
_HUMANOID = _Robot(
    (
        *("abdomen_z", "abdomen_y", "abdomen_x"),
        *(f"{side}_{joint}" for side in _SIDES for joint in ("hip_x", "hip_z", "hip_y", "knee")),
        *(f"{side}_{joint}" for side in _SIDES for joint in ("shoulder1", "shoulder2", "elbow")),
    ),
    (
        *("torso", "lwaist", "pelvis"),
        *(f"{side}_{part}" for side in _SIDES for part in ("thigh", "shin", "foot")),
        *(f"{side}_{part}" for side in _SIDES for part in ("upper_arm", "lower_arm")),
    ),
)


def humanoid_mirror(blocks: BodyBlocks) -> EnvironmentSymmetry:
    """Joints: abdomen (z, y, x), in actions (y, z, x); hip (x, z, y) and knee on the right, then on the left; two
    shoulders and elbow likewise. Bodies: three of the trunk, three a leg, two an arm.
    """

    def joints(abdomen: tuple[int, int]) -> Matrix:
        exchanged = [3, 4, 5, 6], [7, 8, 9, 10], [11, 12, 13], [14, 15, 16]
        order = [0, 1, 2, *exchanged[1], *exchanged[0], *exchanged[3], *exchanged[2]]
        return signed_permutation(order, negated=[*abdomen, 11, 12, 14, 15])

    image = _Image(_MIRROR, _MIRROR, joints((0, 2)), (0, 1, 2, 6, 7, 8, 3, 4, 5, 11, 12, 9, 10))
    return _HUMANOID.symmetry(Z(2), [image], [joints((1, 2))], blocks)


def humanoid_turned(blocks: BodyBlocks) -> EnvironmentSymmetry:
    """Rotations of the world about the vertical."""
    return _HUMANOID.turned_world(blocks)
