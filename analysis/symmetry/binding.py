"""A function with its representations, at points, under group elements: what every diagnostic of symmetry needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from bayes_rpp import Group, Rep, restrict
from bayes_rpp.networks.precision import warn_of_rounded_inputs
from bayes_rpp.representations.factors import SIGN, VECTOR
from bayes_rpp.representations.rep import Element
from bayes_rpp.representations.tensor_products import terms_text
from bayes_rpp.seeding import later_seed
from bayes_rpp.stateless import StatelessNetwork
from bayes_rpp.types import Params
from inference import Posterior
from inference.posterior.map_draws import map_draws
from inference.posterior.predictive import input_for

Function = Callable[[Float[Tensor, "batch size_in"]], Float[Tensor, "batch size_out"]]

_ROWS_AT_ONCE = 8_192
_ATTEMPTS = 60  # to find elements that move something


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
    """The points as a tensor; raises ValueError if they do not fit, or are not finite. Warns if f is a network, and
    their type keeps too few digits for it; posteriors do so themselves.
    """
    x = torch.as_tensor(x)
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


def sample_elements(
    group: Group, elements: int | Element, points: int, seed: int, moving: tuple[Rep, ...] = ()
) -> Float[Tensor, "element points d d"]:
    """As many elements for each point, drawn independently, or the given ones (element, 1, d, d). Of drawn ones, those
    that act as the identity on all ``moving`` representations are drawn anew; ValueError if there seem to be no others.
    """
    if isinstance(elements, int):
        if elements < 1:
            raise ValueError(f"elements must be at least 1, got {elements}.")
        drawn = group.join(group.sample(elements * points, seed))
        if moving:
            drawn = _redraw_still(group, drawn, seed, moving)
        return drawn.unflatten(0, (elements, points))
    given = group.join(elements) if isinstance(elements, tuple) else torch.as_tensor(elements)
    if given.ndim != 3 or given.shape[1:] != (group.d, group.d):
        raise ValueError(
            f"elements must be a number or have shape (element, {group.d}, {group.d}), got {tuple(given.shape)}."
        )
    return given[:, None]


def _redraw_still(group: Group, drawn: Float[Tensor, "element d d"], seed: int, reps: tuple[Rep, ...]) -> Tensor:
    for attempt in range(_ATTEMPTS):
        still = torch.cat([_acts_trivially(some, reps) for some in drawn.split(_ROWS_AT_ONCE)])
        if not still.any():
            return drawn
        drawn = torch.where(
            still[:, None, None], group.join(group.sample(len(drawn), later_seed(seed, attempt + 1))), drawn
        )
    raise ValueError(
        f"the elements of {group} that were sampled act as the identity on {' and on '.join(map(str, reps))}: there is "
        "nothing to be equivariant to."
    )


def _acts_trivially(g: Float[Tensor, "element d d"], reps: tuple[Rep, ...]) -> Bool[Tensor, " element"]:
    """Whether elements move no vector of any representation, by what they do to one generic vector."""
    still = torch.ones(len(g), dtype=torch.bool)
    for rep in reps:
        generic = torch.arange(1.0, rep.size + 1, dtype=torch.float64).sin()
        still &= (rep.apply(g, generic) - generic).abs().amax(-1) < 1e-9
    return still


def piece_names(rep: Rep) -> list[str]:
    """A name for every copy of every piece: its own, with a number where there are several of the kind."""
    kinds = [terms_text([(1, run.piece)], rep.group) for run in rep.runs for _ in range(run.multiplicity)]
    copies, seen, names = Counter(kinds), Counter[str](), []
    for kind in kinds:
        names.append(f"{kind} {seen[kind]}" if copies[kind] > 1 else kind)
        seen[kind] += 1
    return names


def norms_of(value: Float[Tensor, "*batch size"], rep: Rep | None) -> Float[Tensor, "*pieces batch"]:
    """The norm of every copy of every piece, (piece, *batch); without a representation that of the whole, (*batch)."""
    if rep is None:
        return value.norm(dim=-1)
    parts = (value[..., run.start : run.stop].unflatten(-1, (run.multiplicity, run.piece_size)) for run in rep.runs)
    return torch.cat([part.norm(dim=-1) for part in parts], dim=-1).movedim(-1, 0)


@torch.no_grad()
def over_draws(
    f: Posterior | Function, measure: Callable[..., Float[Tensor, "*values some"]], *rows: Float[Tensor, "batch *each"]
) -> Float[Tensor, "*draws *values batch"]:
    """``measure(f, *rows)``, of a posterior draw by draw in pieces that bound memory; ``rows[0]`` are f's inputs."""
    if not isinstance(f, Posterior):
        return measure(StatelessNetwork(f).module if isinstance(f, nn.Module) else f, *rows)
    model = f.bayesian_model

    def of_draw(params: Params, *some: Tensor) -> Tensor:
        return measure(lambda inputs: model.output(params, inputs), *some)

    draws: Params = {name: value.flatten(0, 1) for name, value in f.samples.items()}
    model.check_inputs(rows[0])
    inputs = input_for(model, draws, rows[0])
    values = map_draws(of_draw, draws, inputs, *rows[1:], at_once=_ROWS_AT_ONCE, dim=-1)
    return values.unflatten(0, (f.chains, f.draws))
