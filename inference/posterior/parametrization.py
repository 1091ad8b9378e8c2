"""Draws of one parametrization of a model as draws of the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from bayes_rpp import BayesianModel
from bayes_rpp.bases.equivariant import EquivariantBasis
from bayes_rpp.networks.layers.pathway_layer import check_parametrization
from bayes_rpp.networks.layers.pathway_sums import Parametrization
from bayes_rpp.networks.reparametrize import reparametrized, residual_layers
from bayes_rpp.types import Params
from inference.posterior.draws import Draws, Snapshot

_NUMBERS_AT_ONCE = 4_194_304

D = TypeVar("D", bound=Draws)


def refuse_other_distribution(model: BayesianModel, temperature: float) -> None:
    """Raise ValueError if the two parametrizations have different posteriors, see ``hyperpriors_differ``."""
    if hyperpriors_differ(model, temperature):
        raise ValueError(
            f"at temperature {temperature:g} the two parametrizations are different laws when variances of residual "
            f"layers have hyperpriors, as {', '.join(model.hyperpriors)}: what the split adds depends on them. "
            "Use temperature=1, give numbers, RPPPrior.with_variances({...}), or let samplers use "
            "parametrization='given'."
        )


def hyperpriors_differ(model: BayesianModel, temperature: float) -> bool:
    """Whether tempered posteriors of the sums and of the parts differ by more than coordinates.

    The integral of p(beta, B | v)^(1/T) over the parts of a sum W is p(W | v)^(1/T) times a factor that depends on the
    variances v, unless T = 1: a constant where v is fixed, another posterior of v where it has a hyperprior.
    """
    if temperature == 1:
        return False
    for path, layer in residual_layers(model.network).items():
        prefix = f"{path}." if path else ""
        for parts in layer.sums:
            names = (parts.total, parts.dense, *parts.held) if parts.held else ()
            if any(prefix + name in model.hierarchical for name in names):
                return True
    return False


def in_parametrization(posterior: D, kind: type[D], parametrization: Parametrization, generator: torch.Generator) -> D:
    """See ``Posterior.in_parametrization``. The result is of a plain ``kind``, since what an engine's own type adds is
    in the old coordinates.

    Sums are W = sum_k Q_k beta_k + B. Parts are drawn from beta ~ p(beta | W), exactly, with B = W - Q beta, see
    ``PathwayNormal.split``: the likelihood depends on W alone, so that draws of W become draws of (beta, B).
    """
    check_parametrization(parametrization)
    model = posterior.bayesian_model
    if all(layer.parametrization == parametrization for layer in residual_layers(model.network).values()):
        return posterior
    twin = in_other_parametrization(model, parametrization)
    temperature = posterior.stats.get("temperature", 1.0)
    refuse_other_distribution(model, temperature)
    convert = partial(_converted, model, twin, generator, temperature)
    return kind(
        model=twin,
        samples=convert(posterior.samples),
        stats=dict(posterior.stats),
        history=[Snapshot(old.epoch, convert(old.samples)) for old in posterior.history],
        data=posterior.data,
        sample_stats={name: value for name, value in posterior.sample_stats.items() if name != "lp"},
        partial=[in_parametrization(part, kind, parametrization, generator) for part in posterior.partial],
    )


def in_other_parametrization(model: BayesianModel, parametrization: Parametrization) -> BayesianModel:
    """The model with its network in a parametrization; raises ValueError if it has no residual pathway layers."""
    network = reparametrized(model.network, parametrization)
    return BayesianModel(network, model.prior, model.likelihood, model.num_outputs)


@torch.no_grad()
def _converted(
    model: BayesianModel, twin: BayesianModel, generator: torch.Generator, temperature: float, samples: Params
) -> Params:
    """Samples of a model, name -> (chain, draw, *shape), as samples of its twin."""
    if differing := set(samples) ^ set(model.constraints):
        raise ValueError(
            f"the samples must be those of the model's parameters, {list(model.constraints)}; they have "
            f"{list(samples)}, which differ in {min(differing)!r}."
        )
    variances = {name: samples[name] for name in model.hyperpriors}
    result, layers = dict(samples), residual_layers(twin.network)
    for path, layer in residual_layers(model.network).items():
        prefix = f"{path}." if path else ""
        for parts in layer.sums if layers[path].parametrization != layer.parametrization else ():
            total, names = prefix + parts.total, [prefix + name for name in (*parts.held, parts.dense)]
            if layer.parametrization == "residual":
                add = partial(_added, list(parts.held.values()))
                result |= zip([total], _in_pieces(add, [samples[name] for name in names]), strict=True)
            else:
                split = partial(_split, model, total, list(variances), generator, temperature)
                result |= zip(names, _in_pieces(split, [*variances.values(), samples[total]]), strict=True)
    return {name: result[name] for name in twin.constraints}


def _added(bases: Sequence[EquivariantBasis], *rows: Tensor) -> list[Tensor]:
    """W = sum_k Q_k beta_k + B in float64, of beta_0, beta_1, ... and B."""
    *betas, dense = rows
    total = dense.double()
    for basis, beta in zip(bases, betas, strict=True):
        total = total + basis.expand(beta.double()).reshape(dense.shape)
    return [total.to(dense.dtype)]


def _split(
    model: BayesianModel, name: str, variances: list[str], generator: torch.Generator, temperature: float, *rows: Tensor
) -> list[Tensor]:
    """A draw of beta_0, beta_1, ... (those that have coordinates) and B given W, and given the variances before it."""
    *given, total = rows
    prior = model.distributions(dict(zip(variances, given, strict=True)))[name]
    betas, dense = prior.split(total, generator, temperature)
    return [*(beta for beta, basis in zip(betas, prior.bases, strict=True) if basis.rank), dense]


def _in_pieces(function: Callable[..., list[Tensor]], values: Sequence[Tensor]) -> list[Tensor]:
    """A function of rows, on so many of the draws (chain, draw, *shape) at a time that memory stays bounded."""
    rows = [value.flatten(0, 1) for value in values]
    together = max(1, _NUMBERS_AT_ONCE // max(1, math.prod(rows[-1].shape[1:])))
    pieces = zip(*(value.split(together) for value in rows), strict=True)
    results: list[Tensor] = []
    for index, found in enumerate(function(*piece) for piece in pieces):
        results = results or [part.new_empty((len(rows[-1]), *part.shape[1:])) for part in found]
        for result, part in zip(results, found, strict=True):
            result[index * together : index * together + len(part)] = part
    return [result.unflatten(0, values[-1].shape[:2]) for result in results]
