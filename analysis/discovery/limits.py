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


class Criterion(NamedTuple):
    """What counts as kept: of functions, a tolerance; of posteriors see ``kept_symmetry``.

    Parameters
    ----------
    tolerance : of functions, or None.
    y : observed at x, or None.
    noise_variance : of y; None is that of the model.
    """

    tolerance: float | None = None
    y: Tensor | None = None
    noise_variance: float | None = None


class Limits(NamedTuple):
    """The largest distance from 0 of what is kept by the mean of the draws, and by a single one, whose own spread adds
    1 to the square; of functions, both are the tolerance. And by how much the draws' spread is too small.
    """

    of_mean: float
    of_draw: float
    inflation: float = 1.0


def points_and_limits(
    f: Posterior | Function, x: Float[Tensor, "batch size_in"], rep_in: Rep, criterion: Criterion, caller: str
) -> tuple[Float[Tensor, "batch size_in"], Limits]:
    """The points as numbers, and what counts as kept. Raises ValueError for a posterior of a single draw, or with a
    tolerance, for a function with y, and if the points or y do not fit.
    """
    tolerance = criterion.tolerance
    for name, value in (("tolerance", tolerance), ("noise_variance", criterion.noise_variance)):
        if value is not None and not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be finite and not negative, got {value}.")
    if isinstance(f, Posterior):
        if f.chains * f.draws < 2:
            raise ValueError(f"{caller} compares the draws of a posterior, and this one has a single draw.")
        if tolerance is not None:
            raise ValueError("tolerance is for functions; what a posterior keeps follows from its draws.")
    x = check_points(f, x, rep_in)
    x = x if x.is_floating_point() else x.to(torch.get_default_dtype())
    if isinstance(f, Posterior):
        inflation = 1.0 if criterion.y is None else _inflation(f, x, criterion.y, criterion.noise_variance)
        return x, Limits(_DISTINGUISHABLE, (1 + _DISTINGUISHABLE**2) ** 0.5, inflation)
    if criterion.y is not None:
        raise ValueError("y is for posteriors, whose spread it calibrates; a function has none.")
    allowed = _ROUNDING * torch.finfo(x.dtype).eps ** 0.5 if tolerance is None else tolerance
    return x, Limits(allowed, allowed)


def _inflation(posterior: Posterior, x: Tensor, y: Tensor, noise_variance: float | None) -> float:
    """The root mean square error of the mean prediction over the spread of the draws, at least 1."""
    predicted = posterior.predict(x, keep_samples=False)
    y = torch.as_tensor(y)
    if y.shape != predicted.mean.shape or not torch.isfinite(y).all():
        raise ValueError(f"y must hold finite numbers of shape {tuple(predicted.mean.shape)}, got {tuple(y.shape)}.")
    spread = float(predicted.epistemic.mean())
    if spread == 0:
        raise ValueError("all draws of the posterior are alike, so that their spread measures nothing: too few data?")
    noise = float(predicted.aleatoric.mean()) if noise_variance is None else noise_variance
    error = float((predicted.mean - y.to(predicted.mean)).square().mean()) - noise
    return max(1.0, error / spread) ** 0.5


def check_values(squares: Float[Tensor, " draw"], shape: tuple[int, ...]) -> None:
    """Raise ValueError if f's values, of which these are the sums of squares, are all 0 or not finite."""
    for wrong, words in ((~torch.isfinite(squares), "NaN or infinite"), (squares == 0, "0")):
        if wrong.any():
            draw = f" under draw {int(wrong.nonzero()[0])}" if shape else ""
            raise ValueError(f"f is {words} at {'all' if words == '0' else 'some'} points{draw}.")
