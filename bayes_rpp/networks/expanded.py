"""A network whose weights are summed over their pathways once, and then applied many times."""

from __future__ import annotations

import copy
from typing import Protocol, cast, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.networks.layers.linear import apply_linear
from bayes_rpp.stateless import StatelessNetwork
from bayes_rpp.types import Params


@runtime_checkable
class SummedLayer(Protocol):
    """A linear layer whose weight is a sum over pathways: RPPLinear, EquivariantLinear."""

    def effective_weight(self) -> Float[Tensor, "m n"]:
        """The matrix that the layer applies."""

    def effective_bias(self) -> Float[Tensor, " m"] | None:
        """The vector that the layer adds."""


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
        twins = {id(layer): _Summed(layer) for layer in _summed_layers(network).values()}
        self._twin = StatelessNetwork(copy.deepcopy(network, dict(twins)))

    def weights(self, network: nn.Module) -> Params:
        """The weights of that network, or of a copy of it, as it is now: differentiable in what it holds."""
        layers = _summed_layers(network)
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


def _summed_layers(network: nn.Module) -> dict[str, SummedLayer]:
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, SummedLayer)}


class _Summed(nn.Module):
    """A linear layer with its weight as a whole."""

    bias: Tensor | None

    def __init__(self, layer: SummedLayer) -> None:
        super().__init__()
        bias = layer.effective_bias()
        self.weight = nn.Parameter(layer.effective_weight().detach())
        self.bias = cast("Tensor | None", None if bias is None else nn.Parameter(bias.detach()))

    def forward(self, x: Tensor) -> Tensor:
        return apply_linear(x, self.weight, self.bias)
