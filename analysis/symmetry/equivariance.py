"""Equivariance error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from analysis.symmetry.binding import Function, bind, check_output, check_points
from analysis.symmetry.evaluation import Evaluation, PointSums
from analysis.symmetry.group_elements import GroupElements
from analysis.symmetry.output_parts import OutputParts
from bayes_rpp import Group, Rep
from bayes_rpp.representations.rep import Element
from inference import Posterior
from inference.memory import slices_that_fit

Reduction = Literal["mean_of_ratios", "ratio_of_norms", "geometric_mean"]


def equivariance_error(
    f: Posterior | Function,
    x: Float[Tensor, "batch size_in"],
    group: Group | None = None,
    reduction: Reduction = "mean_of_ratios",
    *,
    rep_in: Rep | None = None,
    rep_out: Rep | None = None,
    elements: int | Element = 8,
    per_element: bool = False,
    per_output: bool = False,
    per_column: bool | Sequence[str] = False,
    seed: int = 0,
) -> xr.DataArray:
    r"""How far a function is from commuting with a group.

    For a group element g and a point x, with a = rho_out(g) f(x) and b = f(rho_in(g) x), the error is
    ||a - b|| / (||a|| + ||b||)
    (Finzi, Benton & Wilson, 2021, section 5): 0 for an equivariant function, at most 1. It is reduced over points and
    group elements by

    * "mean_of_ratios": the mean of the errors over the sampled (or given) elements. Of a finite group all elements are
      sampled alike, the identity, whose error is 0, among them: the mean over the others is |G| / (|G| - 1) times it;
    * "ratio_of_norms": sqrt(sum ||a - b||^2) / (sqrt(sum ||a||^2) + sqrt(sum ||b||^2));
    * "geometric_mean": exp of the mean of their logarithms, over elements that move inputs or outputs: the others have
      errors of 0, which would make it 0.

    The error is relative to f. Where the outputs are nearly 0 beside their posterior standard deviation, as those of a
    network fitted to y = 0, it is the ratio of two differences from noise, and says nothing of the data's symmetry.

    Parameters
    ----------
    f : a posterior, measured draw by draw, or a function of batches, row by row; a module is taken in evaluation mode.
        It is called with some rows at a time, so that memory stays bounded.
    x : the points at which to measure, in the domain of the data.
    group : the group to measure against; by default the network's. Another one (a subgroup, say) must have the same d.
    rep_in, rep_out : representations of inputs and outputs, needed for a function that has none of its own; bound to
        ``group`` if unbound.
    elements : how many group elements to draw for each point, once each and independently from point to point; or the
        elements themselves, (element, d, d) or a tuple of such for a direct product, then the same for every point.
    per_element : keep the group elements apart, and use the same ones for every point.
    per_output : keep the pieces of rep_out apart, copy by copy: a piece's error is that of its own coordinates alone,
        with norms taken over them. The error is relative to the piece: where a piece of f is nearly 0, a small
        difference is a large error.
    per_column : keep the single numbers of the output apart; a sequence of strings names them. The error of column j,
        which lies in the piece P of rep_out, is

            |a_j - b_j| / (||a_P|| + ||b_P||),

        with the same denominator for all columns of a piece. So at each point and element the squares of the columns'
        errors e_j add up to the square of the piece's error e_P. The reduced errors do so too by "ratio_of_norms"; by
        "mean_of_ratios" sqrt(sum_j e_j^2) <= e_P <= sum_j e_j; by "geometric_mean" sqrt(sum_j e_j^2) <= e_P. As the
        group mixes the columns of a piece, what breaks in one of them is seen in the others too, though less: if f is
        equivariant but for a constant added to one column of an irreducible orthogonal piece of dimension d, then of
        sum_j e_j^2, by "ratio_of_norms" and over the whole group, that column has (1 + 1/d) / 2 and each other one
        1/(2d).
    seed : of the sample of group elements.

    Returns
    -------
    DataArray with dims (chain, draw) for a posterior and none for a function; then "element" if per_element, where the
    attribute "elements" holds the elements, (element, d, d), block diagonal for a direct product; and last "output" if
    per_output, with the names of the pieces for coordinates: "T(2)", or "Vector 0", "Vector 1" where there are several;
    or "column" if per_column, with the given names or such as "T(2)[0, 1]", and beside them the coordinate "output",
    the piece of each column, so that ``(error**2).groupby("output").sum()`` adds them up.

    Raises
    ------
    ValueError
        If a representation or group is missing or does not fit, the reduction is unknown, all of the group acts as the
        identity and the mean is geometric, both pieces and columns are asked for, or their names do not fit.

    Examples
    --------
    >>> data = inertia(symmetry_breaking=0.3)
    >>> reps = {"rep_in": data.rep_in, "rep_out": data.rep_out}
    >>> float(equivariance_error(data.function, data.test.x, **reps)) < 0.1
    True
    """
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction must be one of {', '.join(get_args(Reduction))}, got {reduction!r}.")
    rep_in, rep_out, dims = bind(f, group, rep_in, rep_out, "equivariance_error")
    x = check_points(f, x, rep_in)
    moving = (rep_in, rep_out) if reduction == "geometric_mean" else ()
    sampled = GroupElements(rep_in.bound_group, elements, len(x), seed, moving, shared=per_element)
    evaluation, parts = Evaluation(f, x), OutputParts(rep_out, per_output, per_column)
    sums = PointSums(evaluation.draws)
    for piece in evaluation.pieces("equivariance errors", sampled.blocks):
        points, elements_there = evaluation.x[piece.rows], sampled.at(piece.rows)
        still = evaluation.values(piece, points)
        check_output(still, rep_out)
        terms = []
        if piece.draws.start == 0:
            # The same for all draws of these points: kept if they fit in memory.
            fit = len(slices_that_fit(slice(0, sampled.count), points.nbytes)) == 1
            images = [rep_in.apply(g, points) for g in elements_there] if fit else None
        for k, g in enumerate(elements_there):
            moved = rep_in.apply(g, points) if images is None else images[k]
            norms = pair_norms(rep_out.apply(g, still), evaluation.values(piece, moved), parts)
            terms.append(point_terms(norms.double(), reduction).sum(-1))
        # For every element (or their sum), term, part of the output, and draw.
        sums.add(piece.draws, torch.stack(terms) if per_element else torch.stack(terms).sum(0, keepdim=True))
    count = len(x) * (1 if per_element else sampled.count)
    values = evaluation.by_chain(reduced(sums.total.movedim(1, 0), count, reduction).movedim(-1, 0))
    values = values if per_element else values.squeeze(len(dims))
    attrs = {"reduction": reduction, "group": str(rep_in.group), "points": len(x)}
    attrs |= {"elements": sampled.at(slice(0, 1))[:, 0].numpy()} if per_element else {}
    return xr.DataArray(
        values.numpy(),
        dims=[*dims, *["element"] * per_element, *parts.dims],
        coords=parts.coords,
        name="equivariance_error",
        attrs=attrs,
    )


def pair_norms(
    a: Float[Tensor, "*batch size"], b: Float[Tensor, "*batch size"], parts: OutputParts | None = None
) -> Float[Tensor, "3 *norms"]:
    """The norms of a - b, a and b; of their parts, if they are given."""
    if parts is None:
        return torch.stack([v.norm(dim=-1) for v in (a - b, a, b)])
    return torch.stack([parts.residuals(a - b), parts.scales(a), parts.scales(b)])


def point_terms(norms: Float[Tensor, "3 *which points"], reduction: Reduction) -> Float[Tensor, "term *which points"]:
    """What is added up over points, of norms of a - b, a and b."""
    if reduction == "ratio_of_norms":
        return norms.square()
    difference, left, right = norms
    ratios = difference / (left + right).clamp_min(torch.finfo(torch.float64).tiny)
    return (ratios if reduction == "mean_of_ratios" else ratios.log())[None]


def reduced(sums: Float[Tensor, "term *which"], count: int, reduction: Reduction) -> Float[Tensor, "*which"]:
    """The error, from sums of ``point_terms`` over as many pairs of a point and an element."""
    if reduction == "ratio_of_norms":
        difference, left, right = sums.sqrt()
        return difference / (left + right).clamp_min(torch.finfo(torch.float64).tiny)
    mean = sums[0] / count
    return mean if reduction == "mean_of_ratios" else mean.exp()


def summarize(values: xr.DataArray | Tensor) -> dict[str, float]:
    """Minimum, median and maximum over all draws: the summary of a small ensemble."""
    flat = np.asarray(values).reshape(-1)
    return {"minimum": float(flat.min()), "median": float(np.median(flat)), "maximum": float(flat.max())}
