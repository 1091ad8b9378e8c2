"""A function with its representations, at points, under group elements: what every diagnostic of symmetry needs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp import Group, Rep, restrict
from bayes_rpp.networks.precision import warn_of_rounded_inputs
from bayes_rpp.representations.factors import SIGN, VECTOR
from bayes_rpp.types import as_tensor
from inference import Posterior

Function = Callable[[Float[Tensor, "batch size_in"]], Float[Tensor, "batch size_out"]]


def bind(
    f: Posterior | Function, group: Group | None, rep_in: Rep | None, rep_out: Rep | None, caller: str
) -> tuple[Rep, Rep, list[str]]:
    """f's representations bound to one group, and the names of the leading dimensions of its values. Raises ValueError
    if a representation or the group is missing, or they do not fit.
    """
    source: object = f.bayesian_model.network if isinstance(f, Posterior) else f
    rep_in, rep_out = rep_in or getattr(source, "rep_in", None), rep_out or getattr(source, "rep_out", None)
    if rep_in is None or rep_out is None:
        raise ValueError(f"{caller} needs rep_in and rep_out: this function does not know its representations.")
    bound = [rep.group for rep in (rep_in, rep_out) if rep.group is not None]
    group = group or max(bound, key=lambda candidate: len(candidate.factors), default=None)
    if group is None:
        raise ValueError(f"{caller} needs a group: pass one, or bound representations.")
    return rebind(rep_in, group), rebind(rep_out, group), ["chain", "draw"] if isinstance(f, Posterior) else []


def rebind(rep: Rep, group: Group) -> Rep:
    """The same representation of another group: lifted to a product, or the same tensors, or restricted."""
    own = rep.group
    if own is None or all(part in group.factors for part in own.factors):
        return rep(group)
    sizes = [[part.d for part in g.factors] for g in (own, group)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"{rep} belongs to {own} on R^{own.d}; {group} acts on R^{group.d}, or by other factors.")
    is_tensor = all(factor.action in (VECTOR.action, SIGN.action) for _, piece in rep.given_terms for factor in piece)
    return Rep(rep.given_terms, group) if is_tensor else restrict(rep, group)


def check_points(
    f: Posterior | Function, x: Float[Tensor, "batch size_in"], rep_in: Rep
) -> Float[Tensor, "batch size_in"]:
    """The points as a tensor, images as rows; raises ValueError if they do not fit, or are not finite. Warns if f is a
    network, and their type keeps too few digits for it; posteriors do so themselves.
    """
    x = as_tensor(x, "x")
    network = f.bayesian_model.network if isinstance(f, Posterior) else f
    if tuple(x.shape[1:]) in getattr(network, "input_shapes", ()):
        x = x.flatten(1)
    if x.ndim != 2 or x.shape[1] != rep_in.size or len(x) == 0:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, but rep_in = {rep_in} of {rep_in.group} needs (batch, {rep_in.size})."
        )
    if not torch.isfinite(x).all():
        raise ValueError("x holds NaN or infinite numbers.")
    warn_of_rounded_inputs(f, x)
    return x


def check_output(value: Float[Tensor, "*draws batch size_out"], rep_out: Rep) -> None:
    """Raise ValueError if f's values are not vectors of ``rep_out``."""
    if value.shape[-1] != rep_out.size:
        raise ValueError(
            f"f gives {value.shape[-1]} numbers a point, but rep_out = {rep_out} of {rep_out.group} has size "
            f"{rep_out.size}."
        )
