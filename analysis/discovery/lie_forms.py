r"""The quadratic form on a Lie algebra that a function's Lie derivatives give.

With L_a f(x) = drho_out(a) f(x) - Df(x)[drho_in(a) x] for a Lie-algebra element a, and an orthonormal basis e_1, ...,
e_k under <a, b> = tr(a^T b) / 2,

    M_ij = sum_x <L_{e_i} f(x), L_{e_j} f(x)> / (4 sum_x ||f(x)||^2).

sqrt(a^T M a) is the local equivariance error along a, as a ratio of norms over all points. The elements that a function
keeps are the null space of M, a Lie algebra. LieGG (Moskalev et al., NeurIPS 2022) takes the singular values of the
same derivatives, for one network and for invariances.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.discovery.limits import check_values
from analysis.symmetry.binding import Function, check_output
from analysis.symmetry.evaluation import Evaluation
from bayes_rpp import Rep
from bayes_rpp.forward_mode import jvp
from inference import Posterior
from inference.memory import AT_ONCE, even_slices

_RANDOM_SEED = 0  # of the directions that no group moves
_ALIKE = 1e-12  # draws, by the spread of their values relative to the values, squared


@dataclass(frozen=True)
class LieForms:
    """M of every draw, and what is common to the draws.

    Attributes
    ----------
    of_draws : (draw, k, k).
    of_mean : (k, k), of the mean function of the draws.
    of_spread : (k, k), the mean of that of the differences of a draw and the mean function, over draws - 1 instead of
        draws.
    of_noise : what sqrt(a^T M a) is on average over a of length 1 if the two terms of L_a f have nothing to do with
        each other: ||drho_out(a) f||^2, and the derivative along random directions as long as drho_in(a) x.
    shape : (chain, draw), or () for a function.
    """

    of_draws: Float[Tensor, "draw k k"]
    of_mean: Float[Tensor, "k k"]
    of_spread: Float[Tensor, "k k"]
    of_noise: float
    shape: tuple[int, ...]


def lie_forms(
    f: Posterior | Function, x: Float[Tensor, "batch size_in"], rep_in: Rep, rep_out: Rep, directions: Tensor
) -> LieForms:
    """The forms on the algebra with an orthonormal basis ``directions`` (k, d, d), from k + 1 forward-mode derivatives
    of every draw. Memory grows with the points as k + 2 times that of f's values at them, not with the draws. Raises
    ValueError if f is 0 at all points, or all draws are alike.
    """
    evaluation = Evaluation(f, x)
    inward = torch.stack([rep_in.drho(a).mT for a in directions]).to(evaluation.x)
    outward = torch.stack([rep_out.drho(a).mT for a in directions]).to(evaluation.x)
    generator = torch.Generator().manual_seed(_RANDOM_SEED)
    moved = (evaluation.x @ inward).square().mean().sqrt()
    random = torch.randn(evaluation.x.shape, generator=generator, dtype=torch.float64).to(evaluation.x) * moved

    def measure(f: Function, x: Float[Tensor, "some size_in"], away: Tensor) -> Float[Tensor, "rows some size_out"]:
        """f, its derivative along random directions, and its Lie derivatives."""
        value, derivative = jvp(f, (x,), (away,))
        check_output(value, rep_out)
        rows = [value, derivative]
        for into, out in zip(inward, outward, strict=True):
            derivative = jvp(f, (x,), (x @ into,))[1]
            rows.append(value @ out.to(value) - derivative)
        return torch.stack(rows)

    k, draws, count = len(directions), evaluation.draws, len(x)
    blocks = even_slices(slice(0, count), AT_ONCE // (8 * (k + 2) * rep_out.size))
    grams, turned = torch.zeros(draws, k + 2, k + 2, dtype=torch.float64), 0.0
    sums = torch.zeros(k + 2, count, rep_out.size, dtype=torch.float64)
    for piece in evaluation.pieces("Lie derivatives", blocks):
        rows = evaluation.measured(piece, measure, random[piece.rows]).double()
        grams[piece.draws] += torch.einsum("dirm,djrm->dij", rows, rows)
        sums[:, piece.rows] += rows.sum(0)
        turned += float((rows[:, 0, None] @ outward.double()).square().sum()) / k
    mean = torch.einsum("irm,jrm->ij", sums, sums) / draws**2
    spread = (grams.mean(0) - mean) * draws / max(1, draws - 1)
    squares = grams[:, 0, 0]
    check_values(squares, evaluation.shape)
    if not torch.isfinite(grams).all():
        raise ValueError("f has derivatives that are NaN or infinite at x.")
    noise = (turned + float(grams[:, 1, 1].sum())) / (4 * float(squares.sum()))
    if evaluation.shape and spread[0, 0] < _ALIKE * mean[0, 0]:
        raise ValueError("all draws of the posterior are alike, so that their spread measures nothing: too few data?")
    unit = 4 * squares.mean()
    return LieForms(
        grams[:, 2:, 2:] / (4 * squares[:, None, None]),
        mean[2:, 2:] / unit,
        spread[2:, 2:] / unit,
        noise**0.5,
        evaluation.shape,
    )
