"""The same network with its residual pathway layers in another parametrization."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from bayes_rpp.networks.rpp_linear import Parametrization, RPPLinear, check_parametrization

_Network = TypeVar("_Network", bound=nn.Module)


def residual_layers(network: nn.Module) -> dict[str, RPPLinear]:
    """Every RPPLinear in a network, by its name; raises ValueError if there is none, or two share a parameter."""
    layers = {name: module for name, module in network.named_modules() if isinstance(module, RPPLinear)}
    if not layers:
        raise ValueError(
            f"this {type(network).__name__} has no residual pathway layers (RPPLinear), so it has one parametrization "
            "only; RPPEMLP has two."
        )
    held = [id(parameter) for layer in layers.values() for parameter in layer.parameters()]
    if len(set(held)) < len(held):
        raise ValueError("two layers of this network share a parameter; their sums would not. Share whole layers.")
    return layers


@torch.no_grad()
def reparametrized(network: _Network, parametrization: Parametrization) -> _Network:
    """A copy of a network that holds the same weights in another parametrization, on the same bases.

    A sum is split with as much as possible in the first pathway and as little as possible in the dense one: beta_0 =
    Q_0^T W, beta_1 = Q_1^T (W - Q_0 beta_0), ..., and B is the rest. That needs no prior; the distribution of the parts
    given their sum does, see ``PathwayNormal.split``. Raises ValueError if the parametrization is unknown, or as
    ``residual_layers``.
    """
    check_parametrization(parametrization)
    bases = [basis for layer in residual_layers(network).values() for basis in (*layer.bases, *layer.bias_bases)]
    copied = copy.deepcopy(network, {id(basis): basis for basis in bases})
    for layer in residual_layers(copied).values():
        if layer.parametrization != parametrization:
            _convert(layer, parametrization)
    return copied


def _convert(layer: RPPLinear, parametrization: Parametrization) -> None:
    totals = [total for total in (layer.effective_weight(), layer.effective_bias()) if total is not None]
    layer.hold(parametrization)
    layer.to(totals[0])
    for parts, rest in zip(layer.sums, totals, strict=True):
        if parametrization == "collapsed":
            layer.get_parameter(parts.total).copy_(rest)
            continue
        for name, basis in parts.held.items():
            beta = layer.get_parameter(name).copy_(basis.coordinates(rest.flatten()))
            rest = rest - basis.expand(beta).reshape(rest.shape)
        layer.get_parameter(parts.dense).copy_(rest)
