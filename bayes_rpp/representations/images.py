"""Flattened images as representations: cyclic shifts, quarter turns and reflections move their positions."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from jaxtyping import Int

from bayes_rpp.groups.group import Group
from bayes_rpp.groups.named import Z
from bayes_rpp.representations.rep import Rep, Vector

ImageGroup = Literal["shifts", "p4", "p4m"]


def image_rep(image: tuple[int, int, int], group: ImageGroup = "shifts") -> Rep:
    """The representation on images (channels, height, width), flattened.

    Parameters
    ----------
    image : (channels, height, width).
    group : "shifts" along both axes, where what leaves on one side enters on the other, Z(height) * Z(width); quarter
        turns about the centre, "p4"; or these and reflections, "p4m".

    Raises
    ------
    ValueError
        If the group is unknown, or quarter turns are asked for of images that are not square.

    Examples
    --------
    >>> rep = image_rep((3, 8, 8))
    >>> float(equivariance_error(network, x.flatten(1), rep_in=rep, rep_out=10 * Scalar))
    """
    channels, height, width = image
    if group not in get_args(ImageGroup):
        raise ValueError(f"group must be one of {', '.join(get_args(ImageGroup))}, got {group!r}.")
    if group == "shifts":
        shifts = Z(height) * Z(width)
        return channels * (Vector.on(shifts, 0) * Vector.on(shifts, 1))
    if height != width:
        raise ValueError(f"quarter turns need square images, got {height} x {width}.")
    turn, reflection = turned_positions(height)
    moves = [turn, reflection] if group == "p4m" else [turn]
    name = {"p4": "quarter turns", "p4m": "quarter turns and reflections"}[group]
    acting = Group.from_permutations([move.tolist() for move in moves], name=f"{name} of {height} x {width}")
    return channels * Vector(acting)


def turned_positions(size: int) -> list[Int[np.ndarray, " position"]]:
    """Where the quarter turn (row, column) -> (size - 1 - column, row) and the reflection of columns take every
    position of a square image, row by row.
    """
    rows, columns = np.divmod(np.arange(size * size), size)
    return [(size - 1 - columns) * size + rows, rows * size + (size - 1 - columns)]
