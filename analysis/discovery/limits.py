"""What counts as kept: by the draws of a posterior, or of a function by a tolerance."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.symmetry.binding import Function, check_points
from bayes_rpp import Rep
from inference import Posterior

_DISTINGUISHABLE = 1.5  # posterior standard deviations
_ROUNDING = 10  # times the square root of the machine epsilon


class Limits(NamedTuple):
    """The largest distance from 0 of what is kept by the mean of the draws, and by a single one, whose own spread adds
    1 to the square; of functions, both are the tolerance.
    """

    of_mean: float
    of_draw: float


def points_and_limits(
    f: Posterior | Function, x: Float[Tensor, "batch size_in"], rep_in: Rep, tolerance: float | None, caller: str
) -> tuple[Float[Tensor, "batch size_in"], Limits]:
    """The points as numbers, and what counts as kept. Raises ValueError for a posterior of a single draw, or with a
    tolerance, and if the points do not fit.
    """
    if isinstance(f, Posterior):
        if f.chains * f.draws < 2:
            raise ValueError(f"{caller} compares the draws of a posterior, and this one has a single draw.")
        if tolerance is not None:
            raise ValueError("tolerance is for functions; what a posterior keeps follows from its draws.")
    x = check_points(f, x, rep_in)
    x = x if x.is_floating_point() else x.to(torch.get_default_dtype())
    if isinstance(f, Posterior):
        return x, Limits(_DISTINGUISHABLE, (1 + _DISTINGUISHABLE**2) ** 0.5)
    allowed = _ROUNDING * torch.finfo(x.dtype).eps ** 0.5 if tolerance is None else tolerance
    return x, Limits(allowed, allowed)
