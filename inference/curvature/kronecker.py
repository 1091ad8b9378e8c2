r"""Kronecker factors of the Gauss-Newton matrix, a pair for each effective weight, for evidence of structured priors.

For a layer with inputs a_i, whose outputs have the gradients g_ik (row k of F_i^(1/2) J_i, pulled back to them),

    K = sum_ik (g_ik g_ik^T) (x) (a_i a_i^T)  ~  S (x) A,    S = sum_ik g_ik g_ik^T,  A = sum_i a_i a_i^T / N

in the effective weight W, row by row (Martens & Grosse, ICML 2015; Ritter, Botev & Barber, ICLR 2018). The prior of W
has the covariance Sigma = v_b I + sum_k v_k Q_k Q_k^T, which is no Kronecker product: see SpectralBlock for what the
evidence needs of both together. Blocks for the pathways apart would count their common subspace twice; an isotropic
prior on W would not be this one.

"kronecker" takes S and A as they are, at a cost of the structured coordinates squared times the weights. "symmetric"
averages them over the group, S -> mean of rho(g) S rho(g)^T, as if the data had been seen in every orientation. Then K
commutes with all projectors on equivariant maps, and a wide layer costs no more than its forward pass; see
CommutingBlock.
"""

from __future__ import annotations

import pyro
import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp import EquivariantBasis, Rep, RPPLinear, equivariant_maps
from bayes_rpp.bases.joint_span import are_orthogonal
from bayes_rpp.networks.linear import EquivariantLinear
from bayes_rpp.networks.rpp_linear import PathwaySum
from inference.curvature.gauss_newton import network_model
from inference.curvature.kronecker_blocks import CommutingBlock, CurvatureBlock, SpectralBlock
from inference.curvature.layer_statistics import diagonals, is_linear, layer_statistics
from inference.curvature.names import FactoredCurvature
from inference.density.unconstrained import UnconstrainedDensity
from inference.memory import check_matrix

_Eigen = tuple[Tensor, Tensor]

_EXACT_SHARES = 2**24  # numbers of a basis from which its shares are computed exactly
_ASYMMETRY = 1e-8
_PROBES = 256  # random maps of a larger basis, from which they are estimated


def kronecker_blocks(
    density: UnconstrainedDensity,
    z: Float[Tensor, " size"],
    kind: FactoredCurvature = "kronecker",
    generator: torch.Generator | None = None,
) -> list[CurvatureBlock]:
    """The curvature of the data at z, block by block.

    Linear layers (RPPLinear, EquivariantLinear, nn.Linear) have a block for the weight, S (x) A, and one for the bias,
    S, which is exact but for the average over the group. Every other parameter has the diagonal. Blocks are not
    coupled.

    Parameters
    ----------
    generator : if given, the sums over outputs k are estimated, without bias, from one random combination of the
        outputs for each example: D times cheaper for D outputs.

    Raises
    ------
    TypeError
        If the model is a LogDensity.
    ValueError
        If a linear layer is applied more than once, or not to vectors; a block would not fit into memory; or a layer
        has no group to average over.
    """
    model = network_model(density, "the Kronecker-factored curvature")
    layers = {name: layer for name, layer in model.network.named_modules() if is_linear(layer)}
    blocks: list[CurvatureBlock] = []
    with pyro.validation_enabled(False):
        inputs, gradients = layer_statistics(density, z, layers, generator)
        for name, layer in layers.items():
            inner = inputs[name].mT @ inputs[name] / len(inputs[name])
            blocks += _layer_blocks(name, layer, kind, gradients[name].mT @ gradients[name], inner)
        seen = {name for block in blocks for name in block.names} | set(model.likelihood.constraints())
        others = diagonals(density, z, [name for name in density.shapes if name not in seen], generator)
    return blocks + [SpectralBlock(value.flatten(), {}, name) for name, value in others.items()]


def _layer_blocks(
    path: str, layer: nn.Module, kind: FactoredCurvature, outer: Tensor, inner: Tensor
) -> list[CurvatureBlock]:
    """The blocks of a layer's weight and bias."""
    weight, bias = _sums(path, layer)
    one = outer.new_ones(1, 1)
    pairs = [(parts, right) for parts, right in ((weight, inner), (bias, one)) if parts.total or parts.structured]
    if kind == "kronecker":
        return [_spectral(parts, torch.linalg.eigh(outer), torch.linalg.eigh(right)) for parts, right in pairs]
    if isinstance(layer, RPPLinear | EquivariantLinear):
        _check_commuting(path, layer)
        outer = _averaged(outer, layer.rep_out)
        pairs = [(parts, _averaged(right, layer.rep_in) if parts is weight else right) for parts, right in pairs]
    return [_commuting(parts, torch.linalg.eigh(outer), torch.linalg.eigh(right)) for parts, right in pairs]


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


def _spectral(parts: PathwaySum, outer: _Eigen, inner: _Eigen) -> SpectralBlock:
    for name, basis in parts.structured.items():
        what = f"the basis of {name!r} for curvature='kronecker'"
        check_matrix(what, 8 * basis.rank * basis.size, "Use curvature='symmetric' or 'diagonal'.")
    rows = {
        name: _rotated(basis, _eye(basis, outer[1]), outer[1], inner[1]) for name, basis in parts.structured.items()
    }
    return SpectralBlock(_products(outer, inner), rows, parts.total or None)


def _commuting(parts: PathwaySum, outer: _Eigen, inner: _Eigen) -> CommutingBlock:
    shares = {name: _shares(basis, outer[1], inner[1]) for name, basis in parts.structured.items()}
    return CommutingBlock(_products(outer, inner), shares, parts.total or None)


def _products(outer: _Eigen, inner: _Eigen) -> Float[Tensor, " size"]:
    return torch.outer(outer[0].clamp_min(0), inner[0].clamp_min(0)).flatten()


def _shares(basis: EquivariantBasis, left: Float[Tensor, "m m"], right: Float[Tensor, "n n"]) -> Float[Tensor, " size"]:
    """How much of every u_i w_j^T lies in the span of the basis: the squares of its coordinates, summed.

    Of a large basis Q, the mean of (u_i^T (Q c) w_j)^2 over standard normal c.
    """
    if basis.rank * basis.size <= _EXACT_SHARES:
        return _rotated(basis, _eye(basis, left), left, right).square().sum(0)
    generator = torch.Generator(left.device).manual_seed(basis.rank)
    noise = torch.randn(_PROBES, basis.rank, generator=generator, dtype=left.dtype, device=left.device)
    total = left.new_zeros(basis.size)
    for some in noise.split(max(1, _EXACT_SHARES // basis.size)):
        total += _rotated(basis, some, left, right).square().sum(0)
    return total / _PROBES


def _rotated(
    basis: EquivariantBasis,
    coordinates: Float[Tensor, "row rank"],
    left: Float[Tensor, "m m"],
    right: Float[Tensor, "n n"],
) -> Float[Tensor, "row size"]:
    """(U (x) W)^T Q c for every row c."""
    maps = basis.expand(coordinates).reshape(-1, len(left), len(right))
    return (left.mT @ maps @ right).flatten(1)


def _eye(basis: EquivariantBasis, like: Tensor) -> Float[Tensor, "rank rank"]:
    return torch.eye(basis.rank, dtype=like.dtype, device=like.device)


def _averaged(matrix: Float[Tensor, "n n"], rep: Rep) -> Float[Tensor, "n n"]:
    """The mean of rho(g) M rho(g)^T: the projection on what commutes with the group. It is positive if the group is
    closed under transposes, even if there is no mean over the group.
    """
    result = equivariant_maps(rep, rep).project(matrix.flatten()).reshape(matrix.shape)
    if (result - result.mT).abs().max() > _ASYMMETRY * matrix.abs().max():
        raise ValueError(
            f"curvature='symmetric' needs a group that is closed under transposes; {rep.group} is none. Use "
            "curvature='kronecker'."
        )
    return result


def _check_commuting(path: str, layer: RPPLinear | EquivariantLinear) -> None:
    if isinstance(layer, RPPLinear) and not (layer.is_equivariant and are_orthogonal(layer.bases)):
        raise ValueError(
            f"curvature='symmetric' needs pathways of equivariant maps that are orthogonal to each other; those of "
            f"{path!r} are none. Use curvature='kronecker'."
        )
