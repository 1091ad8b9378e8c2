r"""How far draws of a posterior are from being equivariant under single elements of a group.

With D_g f(x) = f(rho_in(g) x) - rho_out(g) f(x), the error of g is

    sqrt(sum_x ||D_g f(x)||^2) / (sqrt(sum_x ||f(rho_in(g) x)||^2) + sqrt(sum_x ||rho_out(g) f(x)||^2)),

and its distance the norm of the draws' mean D_g over that of their spread around it, in posterior standard deviations.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.discovery.limits import check_values
from analysis.symmetry.binding import Function, check_output
from analysis.symmetry.evaluation import Evaluation
from bayes_rpp import Rep
from inference import Posterior
from inference.posterior.map_draws import assembled
from inference.progress import QUIET_SECONDS, ProgressBar


class ElementDistances(NamedTuple):
    """Of n elements.

    Attributes
    ----------
    errors : (draw, n).
    distances : (n,), of the mean; errors, of a function.
    of_draws : (draw, n), of each draw from 0; errors, of a function.
    units : (n,), the error of one posterior standard deviation; 1 for a function.
    shape : (chain, draw), or () for a function.
    """

    errors: Float[Tensor, "draw n"]
    distances: Float[Tensor, " n"]
    of_draws: Float[Tensor, "draw n"]
    units: Float[Tensor, " n"]
    shape: tuple[int, ...]


def element_distances(
    f: Posterior | Function,
    x: Float[Tensor, "batch size_in"],
    rep_in: Rep,
    rep_out: Rep,
    elements: Float[Tensor, "n d d"],
    inflation: float = 1.0,
) -> ElementDistances:
    """One evaluation of every draw for each element, and one at x. The values at all points, under all draws, are in
    memory about ten times, with what is made of them. ``inflation`` multiplies the spread.
    """
    evaluation = Evaluation(f, x)
    rounding = torch.finfo(evaluation.x.dtype).eps

    def values(points: Tensor) -> Float[Tensor, "draw batch size_out"]:
        pieces = evaluation.pieces("values at images")
        each = ((piece, evaluation.values(piece, points[piece.rows])) for piece in pieces)
        return assembled(each, evaluation.draws, len(points))

    still = values(evaluation.x)
    check_output(still, rep_out)
    check_values(still.double().square().sum((1, 2)), evaluation.shape)
    rows: list[list[Tensor]] = []
    for g in ProgressBar(elements, desc="group elements", delay=QUIET_SECONDS):
        moved, turned = values(rep_in.apply(g, evaluation.x)).double(), rep_out.apply(g, still).double()
        away = moved - turned
        sizes = [part.square().sum((1, 2)) for part in (away, moved, turned)]
        errors = sizes[0].sqrt() / (sizes[1].sqrt() + sizes[2].sqrt()).clamp_min(torch.finfo(torch.float64).tiny)
        mean = away.mean(0)
        spread = (
            inflation**2 * (away - mean).square().sum() / max(1, len(away) - 1) + (10 * rounding) ** 2 * sizes[2].mean()
        )
        unit = spread.sqrt() / (sizes[1].mean().sqrt() + sizes[2].mean().sqrt())
        rows.append([errors, (mean.square().sum() / spread).sqrt(), (sizes[0] / spread).sqrt(), unit])
    errors, distances, of_draws, units = (torch.stack(column, -1) for column in zip(*rows, strict=True))
    if not evaluation.shape:
        distances, of_draws, units = errors[0], errors, torch.ones_like(errors[0])
    return ElementDistances(errors, distances, of_draws, units, evaluation.shape)
