"""The symmetries of the MuJoCo environments of Gymnasium.

Each is declared by one matrix for every generator of its group, on the features of an observation and on actions. The
tests check all of them by the simulator; what is said here of errors is measured there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.groups.group import Group
from bayes_rpp.groups.named import D, Z
from bayes_rpp.rl.environment_symmetry import EnvironmentSymmetry, signed_permutation
from bayes_rpp.rl.free_bodies import BLOCKS, BodyBlocks, ant, ant_turned, humanoid_mirror, humanoid_turned

Matrix = Float[Tensor, "size size"]


def environment_symmetry(env_id: str, group: str | None = None, *, bodies: bool = False) -> EnvironmentSymmetry:
    """The symmetry of a MuJoCo environment of Gymnasium, versions 4 and 5.

    The first group of an environment is the default. "Exact" is what ``EnvironmentSymmetry.verify`` finds below 1e-6 in
    version 5; "not the reward" that the task, to go towards x, breaks the symmetry of the dynamics.

    * Swimmer: "Z(2)", the mirror image across x (exact); "Z(2) * Z(2)", with front and back exchanged (approximate, not
      the reward).
    * Hopper: "Z(2)", front and back (approximate, not the reward).
    * HalfCheetah: "Z(2)", front and back (approximate, not the reward).
    * Walker2d: "Z(2)", left and right (exact; version 4 has feet of different friction); "Z(2) * Z(2)", with front and
      back (approximate, not the reward).
    * Ant: "D(4)", quarter turns of the body and mirror images (exact); "Z(4)", quarter turns;
      "SO(2)", rotations of the world about the vertical (exact, not the reward).
    * Humanoid: "Z(2)", left and right (approximate: one knee alone is stiff); "SO(2)", rotations of the world about the
      vertical (exact but for contacts, whose friction has axes; not the reward).

    Parameters
    ----------
    env_id : such as "Walker2d-v5".
    group : one of those above.
    bodies : whether observations of Ant and Humanoid hold numbers for each body: contact forces, and of Humanoid
        inertias, velocities and actuator forces too. They do by default in version 5 (105 and 348 numbers in place of
        27 and 45), and always do in Humanoid-v4 (376).

    Raises
    ------
    ValueError
        If the environment or the group is not among those above.

    Examples
    --------
    >>> symmetry = environment_symmetry("Walker2d-v5")
    >>> print(symmetry.verify(gymnasium.make("Walker2d-v5")))
    Z(2), generator 0: exact (error at most 2e-15).
    """
    name, _, version = env_id.rpartition("-v")
    declared: dict[str, dict[str, Any]] = {**_PLANAR, **_FREE}
    if name not in declared or version not in ("4", "5"):
        known = ", ".join(f"{known}-v5" for known in declared)
        raise ValueError(
            f"no symmetry is declared for {env_id!r}, but for {known} (and -v4). Declare one for another environment "
            "by EnvironmentSymmetry.of_generators, and let its verify check it."
        )
    groups = declared[name]
    chosen = group if group is not None else next(iter(groups))
    if chosen not in groups:
        raise ValueError(f"group must be one of {', '.join(map(repr, groups))} for {env_id}, got {group!r}.")
    if name in _PLANAR and bodies:
        raise ValueError(f"observations of {env_id} hold nothing for each body: leave bodies=False.")
    if name in _PLANAR:
        return _PLANAR[name][chosen]
    return _FREE[name][chosen](BLOCKS[name, version] if bodies else ())


_Z2 = Z(2)
_Z2_Z2 = Group(generators=[torch.diag(torch.tensor(signs)) for signs in ((-1.0, 1.0), (1.0, -1.0))], name="Z(2) * Z(2)")


def _swap(size: int, *exchanged: tuple[int, int], negated: tuple[int, ...] = ()) -> Matrix:
    order = list(range(size))
    for a, b in exchanged:
        order[a], order[b] = b, a
    return signed_permutation(order, negated)


def _all_but(size: int, *kept: int) -> tuple[int, ...]:
    return tuple(k for k in range(size) if k not in kept)


# Observation: angle, two joints, v_x, v_y, three angular velocities.
_SWIMMER_MIRROR = (_swap(8, negated=_all_but(8, 3)), -torch.eye(2).double())


def _swimmer_reversed() -> tuple[Matrix, Matrix]:
    """Front and back exchanged, and seen in the mirror across y: the last link's angle is that of the first."""
    state = _swap(8, (1, 2), (6, 7), negated=(0, 3, 5))
    state[0, :3], state[5, 5:] = -1.0, -1.0
    return state, _swap(2, (0, 1))


# Observation: height, angle, six joints (or three, for Hopper), v_x, v_z, and the velocities of angle and joints.
_WALKER_LEFT_RIGHT = (
    _swap(17, (2, 5), (3, 6), (4, 7), (11, 14), (12, 15), (13, 16)),
    _swap(6, (0, 3), (1, 4), (2, 5)),
)
_WALKER_FRONT_BACK = (_swap(17, negated=_all_but(17, 0, 9)), -torch.eye(6).double())
_HOPPER_FRONT_BACK = (_swap(11, negated=_all_but(11, 0, 6)), -torch.eye(3).double())
_CHEETAH_FRONT_BACK = (_swap(17, negated=_all_but(17, 0, 9)), -torch.eye(6).double())


def _planar(group: Group, *generators: tuple[Matrix, Matrix]) -> EnvironmentSymmetry:
    return EnvironmentSymmetry.of_generators(group, *map(list, zip(*generators, strict=True)))


_PLANAR: dict[str, dict[str, EnvironmentSymmetry]] = {
    "Swimmer": {
        "Z(2)": _planar(_Z2, _SWIMMER_MIRROR),
        "Z(2) * Z(2)": _planar(_Z2_Z2, _SWIMMER_MIRROR, _swimmer_reversed()),
    },
    "Hopper": {"Z(2)": _planar(_Z2, _HOPPER_FRONT_BACK)},
    "HalfCheetah": {"Z(2)": _planar(_Z2, _CHEETAH_FRONT_BACK)},
    "Walker2d": {
        "Z(2)": _planar(_Z2, _WALKER_LEFT_RIGHT),
        "Z(2) * Z(2)": _planar(_Z2_Z2, _WALKER_LEFT_RIGHT, _WALKER_FRONT_BACK),
    },
}
_FREE: dict[str, dict[str, Callable[[BodyBlocks], EnvironmentSymmetry]]] = {
    "Ant": {"D(4)": partial(ant, D(4)), "Z(4)": partial(ant, Z(4)), "SO(2)": ant_turned},
    "Humanoid": {"Z(2)": humanoid_mirror, "SO(2)": humanoid_turned},
}
