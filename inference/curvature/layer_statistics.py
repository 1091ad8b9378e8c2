"""The inputs of the linear layers of a network, and the gradients of the network's outputs in theirs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import jacrev, vjp, vmap

from bayes_rpp.types import Params
from inference.curvature.gauss_newton import beside_network, curvature_roots, network_and_data, network_model
from inference.density.unconstrained import UnconstrainedDensity

_NUMBERS_AT_ONCE = 2**24
_PURPOSE = "the Kronecker-factored curvature"


def layer_statistics(
    density: UnconstrainedDensity,
    z: Float[Tensor, " size"],
    sizes: Mapping[str, int],
    generator: torch.Generator | None,
) -> tuple[dict[str, Float[Tensor, "batch n"]], dict[str, Float[Tensor, "row m"]]]:
    """The inputs of linear layers, which are given by their names and the sizes of their outputs, and the gradients in
    these outputs of every row of F_i^(1/2) f_i, (batch x output) of them; with a generator, of one random combination
    of these rows for each example. Raises ValueError if a layer is not applied exactly once, or not to vectors.
    """
    model, _, y = network_and_data(density, _PURPOSE)
    outputs, pull, inputs = _traced(density, z, sizes)
    rows = _rows(curvature_roots(model, outputs, y, density.params(z)), generator) / density.temperature**0.5
    (gradients,) = vmap(pull)(rows.transpose(0, 1).reshape(-1, *outputs.shape))
    detached = {name: value.detach() for name, value in inputs.items()}
    return detached, {name: value.detach().flatten(0, 1) for name, value in gradients.items()}


def random_slopes(
    density: UnconstrainedDensity, z: Float[Tensor, " size"], sizes: Mapping[str, int]
) -> tuple[dict[str, tuple[Float[Tensor, "m n"], Float[Tensor, " m"]]], Params]:
    """The gradients of one random combination of all outputs: in W and b of every layer if it is y = W x + b, and in
    every parameter of the network. Raises as ``layer_statistics``.
    """
    model, x, _ = network_and_data(density, _PURPOSE)
    outputs, pull, inputs = _traced(density, z, sizes)
    generator = torch.Generator().manual_seed(0)
    combination = torch.randn(outputs.shape, generator=generator, dtype=torch.float64).to(outputs)
    (gradients,) = pull(combination)
    pulled: Any = vjp(lambda own: model.stateless(own, x), _weights(density, z))
    (in_parameters,) = pulled[1](combination)
    return {name: (gradients[name].mT @ inputs[name], gradients[name].sum(0)) for name in sizes}, in_parameters


def _weights(density: UnconstrainedDensity, z: Float[Tensor, " size"]) -> Params:
    """The network's parameters."""
    others = beside_network(network_model(density, _PURPOSE))
    return {name: value for name, value in density.params(z).items() if name not in others}


def _traced(density: UnconstrainedDensity, z: Float[Tensor, " size"], sizes: Mapping[str, int]) -> Any:
    """The outputs, what pulls their gradients back to the outputs of layers, and the inputs of these layers."""
    model, x, _ = network_and_data(density, _PURPOSE)
    layers, weights = {name: model.stateless.module.get_submodule(name) for name in sizes}, _weights(density, z)
    probes = {name: next(iter(weights.values())).new_zeros(len(x), size) for name, size in sizes.items()}

    def probed(moved: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        inputs: dict[str, Tensor] = {}
        with ExitStack() as hooks:
            for name, layer in layers.items():
                hooks.enter_context(layer.register_forward_hook(partial(_add, moved, inputs, name)))
            outputs = model.stateless(weights, x)
        if missing := [name for name in layers if name not in inputs]:
            raise ValueError(
                f"the layer {missing[0]!r} is never applied: the network has no use for it, or takes its weights "
                "without it, as rollouts do, which sum them once and apply them many times; use curvature='layer' or "
                "'diagonal', as in LaplaceEvidence('layer') and EmpiricalBayes(curvature='layer')."
            )
        return outputs, inputs

    return vjp(probed, probes, has_aux=True)


def diagonals(
    density: UnconstrainedDensity, z: Float[Tensor, " size"], names: list[str], generator: torch.Generator | None
) -> Params:
    """The diagonal of the Gauss-Newton matrix in some parameters; estimated with a generator, as above."""
    model, x, y = network_and_data(density, _PURPOSE)
    params = density.params(z)
    some = {name: params[name] for name in names}
    result = {name: torch.zeros_like(value) for name, value in some.items()}
    if not names:
        return result
    roots = curvature_roots(model, model.output(params, x), y, params)
    rows = _rows(roots, generator) / density.temperature**0.5

    def squares(example: Tensor, root: Tensor) -> Params:
        slopes = jacrev(lambda part: root @ model.output({**params, **part}, example[None]).flatten())(some)
        return {name: slope.square().sum(0) for name, slope in slopes.items()}

    numbers = sum(value.numel() for value in some.values()) * rows.shape[1]
    at_once = max(1, _NUMBERS_AT_ONCE // numbers)
    for batch in zip(x.split(at_once), rows.split(at_once), strict=True):
        for name, value in vmap(squares)(*batch).items():
            result[name] += value.sum(0).detach()
    return result


def _rows(
    roots: Float[Tensor, "batch output output"], generator: torch.Generator | None
) -> Float[Tensor, "batch row output"]:
    """The rows of F_i^(1/2), or one random combination of them."""
    if generator is None:
        return roots
    shape = (len(roots), 1, roots.shape[1])
    signs = torch.randint(2, shape, generator=generator, device=generator.device).to(roots) * 2 - 1
    return signs @ roots


def _add(moved: Params, inputs: Params, name: str, _: nn.Module, given: Any, output: Tensor) -> Tensor:
    if name in inputs:
        raise ValueError(f"the layer {name!r} is applied more than once; use curvature='layer' or 'diagonal'.")
    if output.ndim != 2:
        raise ValueError(
            f"the layer {name!r} is applied to inputs of shape {tuple(given[0].shape)}, not to one vector for each "
            "example; use curvature='layer' or 'diagonal'."
        )
    inputs[name] = given[0]
    return output + moved[name]
