"""Equivariance error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from bayes_rpp import Group, Rep, restrict
from bayes_rpp.factors import SIGN, VECTOR
from bayes_rpp.representations import Element
from inference import Posterior

Reduction = Literal["mean_of_ratios", "ratio_of_norms", "geometric_mean"]
Function = Callable[[Float[Tensor, "batch size_in"]], Float[Tensor, "batch size_out"]]


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
    seed: int = 0,
) -> xr.DataArray:
    r"""How far a function is from commuting with a group.

    For a group element g and a point x, with a = rho_out(g) f(x) and b = f(rho_in(g) x), the error is
    ||a - b|| / (||a|| + ||b||)
    (Finzi, Benton & Wilson, 2021, section 5): 0 for an equivariant function, at most 1. It is reduced over points and
    group elements by

    * "mean_of_ratios": the mean of the errors;
    * "ratio_of_norms": sqrt(sum ||a - b||^2) / (sqrt(sum ||a||^2) + sqrt(sum ||b||^2));
    * "geometric_mean": exp of the mean of their logarithms.

    Parameters
    ----------
    f : a posterior, measured draw by draw, or a function of batches.
    x : the points at which to measure, in the domain of the data.
    group : the group to measure against; by default the network's. Another one (a subgroup, say) must have the same d.
    reduction : see above.
    rep_in, rep_out : representations of inputs and outputs, needed for a function that has none of its own; bound to
        ``group`` if unbound.
    elements : how many group elements to draw for each point, independently from point to point; or the elements
        themselves, (element, d, d) or a tuple of such for a direct product, then the same for every point.
    per_element : keep the group elements apart, and use the same ones for every point.
    seed : of the sample of group elements.

    Returns
    -------
    DataArray with dims (chain, draw) for a posterior and none for a function, and last "element" if per_element; the
    elements themselves are then in the attribute "elements", (element, d, d); block diagonal for a direct product.

    Raises
    ------
    ValueError
        If a representation or group is missing or does not fit, or the reduction is unknown.

    Examples
    --------
    >>> data = inertia(symmetry_breaking=0.3)
    >>> reps = {"rep_in": data.rep_in, "rep_out": data.rep_out}
    >>> float(equivariance_error(data.function, data.test.x, **reps)) < 0.1
    True
    """
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction must be one of {', '.join(get_args(Reduction))}, got {reduction!r}.")
    x = torch.as_tensor(x)
    evaluate, rep_in, rep_out, dims = _prepare(f, group, rep_in, rep_out)
    if x.ndim != 2 or x.shape[1] != rep_in.size or len(x) == 0:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, but rep_in = {rep_in} of {rep_in.group} needs (batch, {rep_in.size})."
        )
    if not torch.isfinite(x).all():
        raise ValueError("x holds NaN or infinite numbers.")
    sampled = _sample(rep_in.bound_group, elements, 1 if per_element else len(x), seed)
    untransformed = evaluate(x)
    if untransformed.shape[-1] != rep_out.size:
        raise ValueError(
            f"f gives {untransformed.shape[-1]} numbers a point, but rep_out = {rep_out} of {rep_out.group} has size "
            f"{rep_out.size}."
        )
    pairs = ((rep_out.apply(g, untransformed), evaluate(rep_in.apply(g, x))) for g in sampled)
    # The norms of a - b, a and b for every element, draw and point: (3, element, *draws, batch).
    norms = torch.stack([torch.stack([(a - b).norm(dim=-1), a.norm(dim=-1), b.norm(dim=-1)]) for a, b in pairs], dim=1)
    norms = norms.double() if per_element else norms.double().movedim(1, -2).flatten(-2)[:, None]
    values = _reduce(norms, reduction).movedim(0, -1)
    if not per_element:
        values = values[..., 0]
    attrs = {"reduction": reduction, "group": str(rep_in.group), "points": len(x)}
    if per_element:
        attrs["elements"] = sampled[:, 0].numpy()
    return xr.DataArray(
        values.numpy(), dims=[*dims, *(["element"] if per_element else [])], name="equivariance_error", attrs=attrs
    )


def _sample(group: Group, elements: int | Element, points: int, seed: int) -> Float[Tensor, "element points d d"]:
    if isinstance(elements, int):
        if elements < 1:
            raise ValueError(f"elements must be at least 1, got {elements}.")
        return group.join(group.sample(elements * points, seed)).unflatten(0, (elements, points))
    given = group.join(elements) if isinstance(elements, tuple) else torch.as_tensor(elements)
    if given.ndim != 3 or given.shape[1:] != (group.d, group.d):
        raise ValueError(
            f"elements must be a number or have shape (element, {group.d}, {group.d}), got {tuple(given.shape)}."
        )
    return given[:, None]


def _prepare(
    f: Posterior | Function, group: Group | None, rep_in: Rep | None, rep_out: Rep | None
) -> tuple[Function, Rep, Rep, list[str]]:
    """The function to evaluate, bound representations, and the names of the leading dimensions of its values."""
    source: object = f.bayesian_model.network if isinstance(f, Posterior) else f
    evaluate: Function = f.outputs if isinstance(f, Posterior) else torch.no_grad()(f)
    dims = ["chain", "draw"] if isinstance(f, Posterior) else []
    rep_in, rep_out = rep_in or getattr(source, "rep_in", None), rep_out or getattr(source, "rep_out", None)
    if rep_in is None or rep_out is None:
        raise ValueError(
            "equivariance_error needs rep_in and rep_out: this function does not know its representations."
        )
    bound = [rep.group for rep in (rep_in, rep_out) if rep.group is not None]
    group = group or max(bound, key=lambda candidate: len(candidate.factors), default=None)
    if group is None:
        raise ValueError("equivariance_error needs a group: pass one, or bound representations.")
    return evaluate, _rebind(rep_in, group), _rebind(rep_out, group), dims


def _rebind(rep: Rep, group: Group) -> Rep:
    """The same representation of another group: lifted to a product, or the same tensors, or restricted."""
    own = rep.group
    if own is None or all(part in group.factors for part in own.factors):
        return rep(group)
    sizes = [[part.d for part in g.factors] for g in (own, group)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"{rep} belongs to {own} on R^{own.d}; {group} acts on R^{group.d}, or by other factors.")
    is_tensor = all(factor.action in (VECTOR.action, SIGN.action) for _, piece in rep.given_terms for factor in piece)
    return Rep(rep.given_terms, group) if is_tensor else restrict(rep, group)


def _reduce(norms: Tensor, reduction: Reduction) -> Tensor:
    """Reduce (3, element, *draws, points) over points."""
    difference, left, right = norms
    if reduction == "ratio_of_norms":
        sizes = [norm.square().sum(-1).sqrt() for norm in (difference, left, right)]
        return sizes[0] / (sizes[1] + sizes[2]).clamp_min(torch.finfo(torch.float64).tiny)
    ratios = difference / (left + right).clamp_min(torch.finfo(torch.float64).tiny)
    return ratios.mean(-1) if reduction == "mean_of_ratios" else ratios.log().mean(-1).exp()


def summarize(values: xr.DataArray) -> dict[str, float]:
    """Minimum, median and maximum over all draws: the summary of a small ensemble."""
    flat = np.asarray(values).reshape(-1)
    return {"minimum": float(flat.min()), "median": float(np.median(flat)), "maximum": float(flat.max())}
