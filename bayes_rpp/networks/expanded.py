"""A network whose weights are summed over their pathways once, and then applied many times."""

from __future__ import annotations

import copy
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.networks.layers.linear import EquivariantLinear, apply_linear
from bayes_rpp.networks.layers.rpp_linear import RPPLinear
from bayes_rpp.stateless import StatelessNetwork
from bayes_rpp.types import Params


class ExpandedNetwork:
    """What a network computes, from weights that ``weights`` has summed.

    Parameters
    ----------
    network : whose linear layers sum their pathways, W = Q beta + B, at every call.

    Examples
    --------
    >>> expanded = ExpandedNetwork(network)
    >>> weights = expanded.weights(network)
    >>> torch.allclose(expanded(weights, x), network(x))
    True
    """

    def __init__(self, network: nn.Module) -> None:
        layers = _summed_layers(network)
        twins = {id(layer): _Summed(layer) for layer in layers.values()}
        self._names = list(layers)
        self._twin, self._layout = StatelessNetwork(copy.deepcopy(network, dict(twins))), _layout(network)

    def weights(self, network: nn.Module) -> Params:
        """The weights of that network, or of a copy of it, as it is now: differentiable in what it holds. Raises
        ValueError if its layers are others than they were.
        """
        if _layout(network) != self._layout:
            raise ValueError("layers of the network were replaced after this was made of it; make it anew.")
        layers = {name: cast(Summing, network.get_submodule(name)) for name in self._names}
        held: Params = dict([*network.named_parameters(), *network.named_buffers()])
        weights = {name: value for name, value in held.items() if name.rpartition(".")[0] not in layers}
        for name, layer in layers.items():
            weights[f"{name}.weight".lstrip(".")] = layer.effective_weight()
            bias = layer.effective_bias()
            if bias is not None:
                weights[f"{name}.bias".lstrip(".")] = bias
        return weights

    def __call__(self, weights: Params, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch m"]:
        """The network's output."""
        return self._twin(weights, x)


Summing = RPPLinear | EquivariantLinear


def _summed_layers(network: nn.Module) -> dict[str, Summing]:
    """Layers that are W x + b and nothing else: of no subclass, without hooks or parametrizations of their parts."""
    return {
        name: layer
        for name, layer in network.named_modules()
        if type(layer) in (RPPLinear, EquivariantLinear)
        and isinstance(layer, Summing)
        and not (layer._forward_hooks or layer._forward_pre_hooks)
    }


def _layout(network: nn.Module) -> dict[str, type]:
    return {name: type(module) for name, module in network.named_modules()}


class _Summed(nn.Module):
    """A linear layer with its weight as a whole."""

    bias: Tensor | None

    def __init__(self, layer: Summing) -> None:
        super().__init__()
        bias = layer.effective_bias()
        self.weight = nn.Parameter(layer.effective_weight().detach())
        self.bias = cast("Tensor | None", None if bias is None else nn.Parameter(bias.detach()))

    def forward(self, x: Tensor) -> Tensor:
        return apply_linear(x, self.weight, self.bias)
