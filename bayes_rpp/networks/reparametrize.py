"""The same network with its residual pathway layers in another parametrization."""

from __future__ import annotations

import copy
from typing import TypeVar, cast

import torch
from torch import nn

from bayes_rpp.networks.layers.pathway_layer import check_parametrization
from bayes_rpp.networks.layers.pathway_sums import Parametrization, ResidualPathwayLayer, pathway_total

_Network = TypeVar("_Network", bound=nn.Module)


def residual_layers(network: nn.Module) -> dict[str, ResidualPathwayLayer]:
    """Every residual pathway layer in a network, by its name, but for frozen ones; raises ValueError if there is none,
    a layer is frozen in part, or two share a parameter.
    """
    found = {name: layer for name, layer in network.named_modules() if isinstance(layer, ResidualPathwayLayer)}
    modules = {name: cast(nn.Module, layer) for name, layer in found.items()}
    if not found:
        raise ValueError(
            f"this {type(network).__name__} has no residual pathway layers (RPPLinear), so it has one parametrization "
            "only; RPPEMLP has two."
        )
    for name, module in modules.items():
        if len({parameter.requires_grad for parameter in module.parameters()}) > 1:
            raise ValueError(
                f"the layer {name!r} is frozen in part, so that it has one parametrization only. Freeze or free the "
                "whole layer, or use parametrization='given'."
            )
    held = [id(parameter) for module in modules.values() for parameter in module.parameters()]
    if len(set(held)) < len(held):
        raise ValueError("two layers of this network share a parameter; their sums would not. Share whole layers.")
    free = {name: layer for name, layer in found.items() if any(p.requires_grad for p in modules[name].parameters())}
    if not free:
        raise ValueError(f"all residual pathway layers of this {type(network).__name__} are frozen.")
    return free


@torch.no_grad()
def reparametrized(network: _Network, parametrization: Parametrization) -> _Network:
    """A copy of a network that holds the same weights in another parametrization, on the same bases.

    A sum is split with as much as possible in the first pathway and as little as possible in the dense one: beta_0 =
    Q_0^T W, beta_1 = Q_1^T (W - Q_0 beta_0), ..., and B is the rest. That needs no prior; the distribution of the parts
    given their sum does, see ``PathwayNormal.split``. Raises ValueError if the parametrization is unknown, or as
    ``residual_layers``.
    """
    check_parametrization(parametrization)
    sums = [parts for layer in residual_layers(network).values() for parts in layer.sums]
    bases = [basis for parts in sums for basis in parts.structured.values()]
    copied = copy.deepcopy(network, {id(basis): basis for basis in bases})
    for layer in residual_layers(copied).values():
        if layer.parametrization != parametrization:
            _convert(layer, parametrization)
    return copied


def _convert(layer: ResidualPathwayLayer, parametrization: Parametrization) -> None:
    module = cast(nn.Module, layer)
    totals = [pathway_total(layer, parts, module.get_parameter) for parts in layer.sums]
    layer.hold(parametrization)
    module.to(totals[0])
    for parts, rest in zip(layer.sums, totals, strict=True):
        if parametrization == "collapsed":
            module.get_parameter(parts.total).copy_(rest)
            continue
        for name, basis in parts.held.items():
            beta = module.get_parameter(name).copy_(basis.coordinates(rest.flatten()))
            rest = rest - basis.expand(beta).reshape(rest.shape)
        module.get_parameter(parts.dense).copy_(rest)
