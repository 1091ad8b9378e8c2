r"""Kronecker factors of the Gauss-Newton matrix, one pair for each effective weight, under structured priors.

For a layer with inputs a_i, whose outputs have the gradients g_ik (row k of F_i^(1/2) J_i, pulled back to them),

    K = sum_ik (g_ik g_ik^T) (x) (a_i a_i^T)  ~  S (x) A,    S = sum_ik g_ik g_ik^T,  A = sum_i a_i a_i^T / N

in the effective weight W, row by row (Martens & Grosse, ICML 2015; Ritter, Botev & Barber, ICLR 2018). The prior of W
has the covariance Sigma = v_b I + sum_k v_k Q_k Q_k^T, no Kronecker product; but what the evidence needs of it,

    log det(I + Sigma K) = log det(I + v_b K) + log det(I + V^(1/2) Q^T K (I + v_b K)^-1 Q V^(1/2)),

takes the eigenvalues of S and A, and one matrix as large as the number of structured coordinates. It is the same in
both parametrizations, and differentiable in the variances. Blocks for the pathways apart would count their common
subspace twice; an isotropic prior on W would not be this one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import Distribution
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vjp, vmap

from bayes_rpp import EquivariantBasis, RPPLinear
from bayes_rpp.networks.linear import EquivariantLinear
from bayes_rpp.networks.residual_linear import PathwaySum
from inference.curvature import curvature_roots, network_model
from inference.gaussian_approximation import LARGEST_MATRIX
from inference.target import Target

_NUMBERS_AT_ONCE = 2**24


@dataclass(frozen=True)
class SpectralBlock:
    """The curvature of one effective weight, bias or other parameter, in its eigenbasis.

    Attributes
    ----------
    eigenvalues : of K, (size,).
    rows : names of structured coordinates -> the basis Q_k in the eigenbasis of K, (rank, size).
    whole : the name of the parameter that has all coordinates, dense or collapsed; None in an equivariant layer.
    """

    eigenvalues: Float[Tensor, " size"]
    rows: dict[str, Float[Tensor, "rank size"]]
    whole: str | None

    def scaled(self, factor: float | Tensor) -> SpectralBlock:
        """That of factor x K."""
        return SpectralBlock(self.eigenvalues * factor, self.rows, self.whole)

    def log_determinant(self, priors: Mapping[str, Distribution]) -> Float[Tensor, ""]:
        """log det(I + Sigma K), differentiable in the variances of the priors."""
        dense, broad = self._variances(priors)
        stretch = 1 + dense * self.eigenvalues
        result = stretch.log().sum()
        if not self.rows:
            return result
        roots = torch.cat([v.sqrt() * rows for v, rows in zip(broad, self.rows.values(), strict=True)])
        inside = (roots * (self.eigenvalues / stretch)) @ roots.mT
        cholesky = torch.linalg.cholesky(inside + torch.eye(len(inside)).to(inside))
        return result + 2 * cholesky.diagonal().log().sum()

    def _variances(self, priors: Mapping[str, Distribution]) -> tuple[Tensor, list[Tensor]]:
        """v_b, and the v_k."""
        like = self.eigenvalues
        own = priors[self.whole] if self.whole is not None else None
        dense = like.new_zeros(()) if own is None else own.dense_variance.to(like)
        if own is not None and own.bases:  # collapsed
            held = [v for v, basis in zip(own.pathway_variances, own.bases, strict=True) if basis.rank]
            return dense, [variance.to(like) for variance in held]
        return dense, [priors[name].dense_variance.to(like) for name in self.rows]


def kronecker_blocks(target: Target, z: Float[Tensor, " size"]) -> list[SpectralBlock]:
    """The curvature of the data at z, block by block.

    Linear layers (RPPLinear, EquivariantLinear, nn.Linear) have a block for the weight, S (x) A, and one for the bias,
    S, which is exact. Every other parameter has the diagonal. Blocks are not coupled.

    Raises
    ------
    TypeError
        If the target is a LogDensity.
    ValueError
        If a linear layer is applied more than once, or not to vectors; or a block would not fit into memory.
    """
    model = network_model(target, "the Kronecker-factored curvature")
    layers = {name: layer for name, layer in model.network.named_modules() if _is_linear(layer)}
    _check_memory(layers)
    with pyro.validation_enabled(False):
        inputs, gradients = _factors(target, z, layers)
        blocks = []
        for name, layer in layers.items():
            count = len(inputs[name])
            outer = torch.linalg.eigh(gradients[name].mT @ gradients[name])
            inner = torch.linalg.eigh(inputs[name].mT @ inputs[name] / count)
            both = zip(_sums(name, layer), (inner, None), strict=True)
            blocks += [_spectral_block(parts, outer, right) for parts, right in both if _is_held(parts)]
        seen = {part for block in blocks for part in (*block.rows, block.whole)}
        own = model.likelihood.constraints()
        rest = [name for name in target.shapes if name not in seen and name not in own]
        diagonals = _diagonals(target, z, rest)
    return blocks + [SpectralBlock(diagonals[name].flatten(), {}, name) for name in rest]


def _is_linear(layer: nn.Module) -> bool:
    return isinstance(layer, RPPLinear | EquivariantLinear | nn.Linear)


def _sums(path: str, layer: nn.Module) -> list[PathwaySum]:
    """The effective weight and bias of a layer, by the full names of their parameters; names that are not held are
    empty.
    """
    held = {name for name, _ in layer.named_parameters(recurse=False)}
    if isinstance(layer, RPPLinear):
        given = [*layer.sums, PathwaySum("", "", {})][:2]
    elif isinstance(layer, EquivariantLinear):
        bias = {} if layer.bias_beta is None else {"bias_beta": layer.bias_basis}
        given = [PathwaySum("", "", {"beta": layer.basis}), PathwaySum("", "", bias)]
    else:
        given = [PathwaySum("weight", "", {}), PathwaySum("bias", "", {})]
    result = []
    for parts in given:
        whole = next((f"{path}.{name}".lstrip(".") for name in (parts.total, parts.dense) if name in held), "")
        structured = {f"{path}.{name}".lstrip("."): basis for name, basis in parts.held.items()}
        result.append(PathwaySum(whole, "", structured))
    return result


def _is_held(parts: PathwaySum) -> bool:
    return bool(parts.total or parts.structured)


def _spectral_block(parts: PathwaySum, outer: Any, inner: Any | None) -> SpectralBlock:
    """From the eigenvalues and eigenvectors of S and A; of S alone for a bias."""
    ones = outer[0].new_ones(1)
    (left, left_vectors), (right, right_vectors) = outer, inner or (ones, ones[None])
    rows = {name: _rotated(basis, left_vectors, right_vectors) for name, basis in parts.structured.items()}
    values = torch.outer(left.clamp_min(0), right.clamp_min(0)).flatten()
    return SpectralBlock(values, rows, parts.total or None)


def _rotated(
    basis: EquivariantBasis, left: Float[Tensor, "m m"], right: Float[Tensor, "n n"]
) -> Float[Tensor, "rank size"]:
    """(U_S (x) U_A)^T Q, a row for each coordinate."""
    maps = basis.expand(torch.eye(basis.rank, dtype=left.dtype, device=left.device))
    maps = maps.reshape(basis.rank, len(left), len(right))
    return (left.mT @ maps @ right).flatten(1)


def _factors(
    target: Target, z: Tensor, layers: Mapping[str, nn.Module]
) -> tuple[dict[str, Float[Tensor, "batch n"]], dict[str, Float[Tensor, "rows m"]]]:
    """The inputs of every layer, and the gradients of F^(1/2) f in its outputs, an output of the network a row."""
    model = network_model(target, "the Kronecker-factored curvature")
    assert target.pair is not None
    x, y = target.pair
    params = target.params(z)
    weights = {name: value for name, value in params.items() if name not in model.likelihood.constraints()}
    sizes = _output_sizes(model.network, layers, weights, x[:1])
    probes = {name: x.new_zeros(len(x), sizes[name], dtype=z.dtype) for name in layers}

    def probed(moved: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        inputs: dict[str, Tensor] = {}
        hooks = [layer.register_forward_hook(partial(_add, name, moved, inputs)) for name, layer in layers.items()]
        try:
            return functional_call(model.network, weights, (x,)), inputs
        finally:
            for hook in hooks:
                hook.remove()

    traced: Any = vjp(probed, probes, has_aux=True)
    outputs, pull, inputs = traced
    roots = curvature_roots(model, outputs, y, params) / target.temperature**0.5
    (gradients,) = vmap(pull)(roots.transpose(0, 1).reshape(-1, *outputs.shape))
    detached = {name: value.detach() for name, value in inputs.items()}
    return detached, {name: value.detach().flatten(0, 1) for name, value in gradients.items()}


def _add(
    name: str, moved: dict[str, Tensor], inputs: dict[str, Tensor], _: nn.Module, given: Any, out: Tensor
) -> Tensor:
    if name in inputs:
        raise ValueError(f"the layer {name!r} is applied more than once; use curvature='layer' or 'diagonal'.")
    inputs[name] = given[0]
    return out + moved[name]


def _output_sizes(
    network: nn.Module, layers: Mapping[str, nn.Module], weights: dict[str, Tensor], x: Tensor
) -> dict[str, int]:
    sizes: dict[str, int] = {}

    def note(name: str, _: nn.Module, given: Any, out: Tensor) -> None:
        if out.ndim != 2:
            raise ValueError(
                f"the layer {name!r} is applied to inputs of shape {tuple(given[0].shape)}, not to one vector for each "
                "example; use curvature='layer' or 'diagonal'."
            )
        sizes[name] = out.shape[-1]

    hooks = [layer.register_forward_hook(partial(note, name)) for name, layer in layers.items()]
    try:
        functional_call(network, weights, (x,))
    finally:
        for hook in hooks:
            hook.remove()
    return sizes


def _diagonals(target: Target, z: Tensor, names: list[str]) -> dict[str, Tensor]:
    """The diagonal of the Gauss-Newton matrix in some parameters."""
    model = network_model(target, "the Kronecker-factored curvature")
    assert target.pair is not None
    params = target.params(z)
    some = {name: params[name] for name in names}
    result = {name: torch.zeros_like(value) for name, value in some.items()}
    if not names:
        return result

    def squares(x: Tensor, y: Tensor) -> dict[str, Tensor]:
        output = model.output(params, x[None])
        root = curvature_roots(model, output, y[None], params)[0]
        slopes = jacrev(lambda part: model.output({**params, **part}, x[None]).flatten())(some)
        return {name: torch.tensordot(root, slope, 1).square().sum(0) for name, slope in slopes.items()}

    numbers = sum(value.numel() for value in some.values()) * model.num_outputs
    for batch in _chunks(target.pair, max(1, _NUMBERS_AT_ONCE // numbers)):
        for name, value in vmap(squares)(*batch).items():
            result[name] += value.sum(0).detach() / target.temperature
    return result


def _chunks(pair: tuple[Tensor, Tensor], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(pair[0].split(size), pair[1].split(size), strict=True)


def _check_memory(layers: Mapping[str, nn.Module]) -> None:
    for name, layer in layers.items():
        for parts in _sums(name, layer):
            needed = 8 * sum(basis.rank * basis.size for basis in parts.structured.values())
            if needed > LARGEST_MATRIX:
                raise ValueError(
                    f"the Kronecker-factored curvature of {name!r} needs {needed:,} bytes for the basis of its "
                    f"equivariant maps; the limit is {LARGEST_MATRIX:,}. Use curvature='diagonal'."
                )
