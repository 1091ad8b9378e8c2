"""The equivariance error of every layer of a network."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor, nn

from analysis.symmetry.binding import Function, bind, check_points, rebind
from analysis.symmetry.equivariance import pair_norms, point_terms, reduced
from analysis.symmetry.evaluation import Evaluation, PointSums
from analysis.symmetry.group_elements import GroupElements
from bayes_rpp import MLP, Group, Rep
from bayes_rpp.representations.rep import Element
from bayes_rpp.stateless import StatelessNetwork
from inference import Posterior

Kind = Literal["cumulative", "own"]
Elements = Float[Tensor, "element batch d d"]
LayerNorms = Float[Tensor, "layer 3 element batch"]


@dataclass(frozen=True)
class SymmetricLayer:
    """A module whose inputs and outputs carry representations."""

    module: nn.Module
    rep_in: Rep
    rep_out: Rep


def layer_equivariance_error(
    f: Posterior | nn.Module,
    x: Float[Tensor, "batch size_in"],
    group: Group | None = None,
    *,
    kind: Kind = "cumulative",
    elements: int | Element = 8,
    seed: int = 0,
) -> xr.DataArray:
    r"""In which layer a network leaves the symmetry.

    Layers are the innermost modules whose inputs and outputs carry representations: the linear, bilinear and gated
    parts of every block, by their names in the network. With h_l(x) the activations after layer l, the error is the
    mean over points and group elements of ||a - b|| / (||a|| + ||b||), see ``equivariance_error``, with

    * "cumulative": a = rho_l(g) h_l(x) and b = h_l(rho_in(g) x), of the map from the network's input to the layer's
      output. Of a network without a wrapper, the last layer has the network's own error;
    * "own": a = rho_l(g) layer(u) and b = layer(rho(g) u), of the layer alone, where u is what the network feeds it at
      x. It is 0 for every layer that is equivariant, whatever came before.

    Parameters
    ----------
    f : a posterior, measured draw by draw, or a network, with the parameters that it has.
    x, group, elements, seed : see ``equivariance_error``.

    Returns
    -------
    DataArray with dims (chain, draw, layer) for a posterior and (layer,) for a network.

    Raises
    ------
    ValueError
        If the network has no such layers, as an MLP, whose hidden units carry no representation; if it does not call
        every layer once; or if x, the group, the elements or the kind do not fit.

    Examples
    --------
    >>> network = RPPEMLP(Vector, Vector, SO(3), channels=8, layers=1)
    >>> layer_equivariance_error(network, torch.randn(5, 3), kind="own").layer.values.tolist()
    ['network.0.linear', 'network.0.bilinear', 'network.0.nonlinearity', 'network.1']
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be 'cumulative' or 'own', got {kind!r}.")
    network = (f.bayesian_model.stateless if isinstance(f, Posterior) else StatelessNetwork(f)).module
    rep_in, _, dims = bind(f, group, None, None, "layer_equivariance_error")
    x, group = check_points(f, x, rep_in), rep_in.bound_group
    layers = {
        name: SymmetricLayer(layer.module, rebind(layer.rep_in, group), rebind(layer.rep_out, group))
        for name, layer in symmetric_layers(network).items()
    }
    if not layers:
        raise ValueError(
            f"{type(network).__name__} has no layers whose activations carry a representation, as the hidden units of "
            "an MLP carry none: equivariance_error measures it as a whole."
        )
    sampled = GroupElements(group, elements, len(x), seed)
    measure = partial(_cumulative if kind == "cumulative" else _own, layers=layers, rep_in=rep_in)
    evaluation = Evaluation(f if isinstance(f, Posterior) else network.__call__, x)
    sums = PointSums(evaluation.draws)
    for piece in evaluation.pieces("layer errors", sampled.blocks):
        norms = evaluation.measured(piece, measure, sampled.at(piece.rows)).double()
        # (draw, layer, 3, element, some) -> (3, layer, draw, element, some).
        terms = point_terms(norms.permute(2, 1, 0, 3, 4), "mean_of_ratios")
        sums.add(piece.draws, terms.sum((-2, -1)))
    values = reduced(sums.total, len(x) * sampled.count, "mean_of_ratios").mT
    return xr.DataArray(
        evaluation.by_chain(values).numpy(),
        dims=[*dims, "layer"],
        coords={"layer": list(layers)},
        name="layer_equivariance_error",
        attrs={"kind": kind, "group": str(group), "points": len(x)},
    )


def symmetric_layers(network: nn.Module) -> dict[str, SymmetricLayer]:
    """Innermost modules that know their representations, by name; an MLP beside others is one, MLPs alone are none."""
    known = {name: (module, reps) for name, module in network.named_modules() if (reps := _reps(module)) is not None}
    inner = {
        name: SymmetricLayer(module, *reps)
        for name, (module, reps) in known.items()
        if not any(other != name and other.startswith(f"{name}." if name else "") for other in known)
    }
    return {} if all(isinstance(layer.module, MLP) for layer in inner.values()) else inner


def _reps(module: nn.Module) -> tuple[Rep, Rep] | None:
    rep_in, rep_out = getattr(module, "rep_in", None), getattr(module, "rep_out", None)
    return (rep_in, rep_out) if isinstance(rep_in, Rep) and isinstance(rep_out, Rep) else None


def _cumulative(f: Function, x: Tensor, gs: Elements, layers: dict[str, SymmetricLayer], rep_in: Rep) -> LayerNorms:
    def activations(points: Tensor) -> dict[str, Tensor]:
        return _of_layers(f, points, layers, lambda layer, given, output: output)

    still, rows = activations(x), []
    for g in gs:
        moved = activations(rep_in.apply(g, x))
        pairs = ((layer.rep_out.apply(g, still[name]), moved[name]) for name, layer in layers.items())
        rows.append(torch.stack([pair_norms(a, b) for a, b in pairs]))
    return torch.stack(rows, dim=2)


def _own(f: Function, x: Tensor, gs: Elements, layers: dict[str, SymmetricLayer], rep_in: Rep) -> LayerNorms:
    def norms(layer: SymmetricLayer, given: Tensor, output: Tensor) -> Tensor:
        # `forward` itself, since a call would come back here.
        images = (layer.module.forward(layer.rep_in.apply(g, given)) for g in gs)
        moved = (layer.rep_out.apply(g, output) for g in gs)
        return torch.stack([pair_norms(a, b) for a, b in zip(moved, images, strict=True)], dim=1)

    found = _of_layers(f, x, layers, norms)
    return torch.stack([found[name] for name in layers])


def _of_layers(
    f: Function,
    x: Tensor,
    layers: dict[str, SymmetricLayer],
    function: Callable[[SymmetricLayer, Tensor, Tensor], Tensor],
) -> dict[str, Tensor]:
    """A function of every layer, its input and its output, while the network runs."""
    found: dict[str, Tensor] = {}
    calls = dict.fromkeys(layers, 0)

    def note(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls[name] += 1
        found[name] = function(layers[name], inputs[0], output)

    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.callback(layer.module.register_forward_hook(partial(note, name)).remove)
        f(x)
    wrong = [f"{name} ({count} times)" for name, count in calls.items() if count != 1]
    if wrong:
        raise ValueError(
            f"every layer must be called once in a pass through the network, but not so: {', '.join(wrong)}. "
            "equivariance_error measures the network as a whole."
        )
    return found
