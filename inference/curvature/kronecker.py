r"""Kronecker factors of the Gauss-Newton matrix, a pair for each effective weight, for evidence of structured priors.

For a layer with inputs a_i, whose outputs have the gradients g_ik (row k of F_i^(1/2) J_i, pulled back to them),

    K = sum_ik (g_ik g_ik^T) (x) (a_i a_i^T)  ~  S (x) A,    S = sum_ik g_ik g_ik^T,  A = sum_i a_i a_i^T / N

in the effective weight W, row by row (Martens & Grosse, ICML 2015; Ritter, Botev & Barber, ICLR 2018). The prior of W
has the covariance Sigma = v_b I + sum_k v_k Q_k Q_k^T, which is no Kronecker product: see SpectralBlock for what the
evidence needs of both together. Blocks for the pathways apart would count their common subspace twice; an isotropic
prior on W would not be this one.

"kronecker" takes S and A as they are, at a cost of the structured coordinates squared times the weights. "symmetric"
averages them over the group, S -> mean of rho(g) S rho(g)^T, as if the data had been seen in every orientation. Where
the prior's variances differ between output pieces, it leaves out what S couples of pieces of different types. Then K
commutes with Sigma, and a wide layer costs no more than its forward pass; see CommutingBlock.
"""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayes_rpp import BayesianModel, EquivariantBasis, Rep, equivariant_maps
from bayes_rpp.bases.band_norms import band_norms
from bayes_rpp.networks.layers.pathway_sums import LinearMap, linear_map
from bayes_rpp.networks.layers.roles import PathwayLayer
from bayes_rpp.validation import without_validation
from inference.curvature.gauss_newton import network_model, require_curvature
from inference.curvature.kronecker_blocks import (
    CommutingBlock,
    CurvatureBlock,
    EffectiveWeight,
    SpectralBlock,
    effective_weights,
)
from inference.curvature.layer_statistics import diagonals, layer_statistics, random_slopes
from inference.curvature.names import FactoredCurvature
from inference.density.unconstrained import UnconstrainedDensity
from inference.memory import check_matrix

_EXACT_SHARES = 2**24  # numbers of a basis from which its shares are computed exactly
_ASYMMETRY = 1e-8
_OTHER_USE = 1e-3  # by which gradients differ, relative to the largest; float32 has errors of 1e-5
_NO_GRADIENT = 1e-6  # of the largest: what may be rounding
_PROBES = 256  # random maps of a larger basis, from which they are estimated


def kronecker_blocks(
    density: UnconstrainedDensity,
    z: Float[Tensor, " size"],
    kind: FactoredCurvature = "kronecker",
    generator: torch.Generator | None = None,
) -> list[CurvatureBlock]:
    """The curvature of the data at z, block by block.

    Linear layers (RPPLinear, EquivariantLinear, nn.Linear, and others that keep to networks/layers/pathway_sums.py)
    have a block for the weight, S (x) A, and one for the bias, S, which is exact but for the average over the group.
    Every other parameter has the diagonal. Blocks are not coupled.

    With a ``generator``, the sums over outputs k are estimated, without bias, from one random combination of the D
    outputs of each example: D times cheaper.

    Raises TypeError if the model is a LogDensity, and ValueError if a linear layer is not applied exactly once, or not
    to vectors; its weights are used elsewhere too; a block would not fit into memory; a layer has no group to average
    over; or a layer neither is linear nor says by its roles what its parameters are: its diagonal may miss most of its
    curvature.
    """
    model = network_model(density, "the Kronecker-factored curvature")
    require_curvature(density, z)
    layers = {name: found for name, layer in model.network.named_modules() if (found := linear_map(layer)) is not None}
    blocks: list[CurvatureBlock] = []
    by_piece = {name.rpartition(".")[0] for name, law in model.parameter_priors.items() if law.varies}
    with without_validation():
        sizes = {name: layer.size_out for name, layer in layers.items()}
        inputs, gradients = layer_statistics(density, z, sizes, generator)
        _check_linear(density, z, layers)
        for name, layer in layers.items():
            inner = inputs[name].mT @ inputs[name] / len(inputs[name])
            outer = gradients[name].mT @ gradients[name]
            weights = effective_weights(name, layer.sums, density.shapes)
            blocks += _layer_blocks(name, layer, weights, kind, outer, inner, name in by_piece)
        seen = {name for block in blocks for name in block.names} | set(model.likelihood.constraints())
        left = [name for name in density.shapes if name not in seen]
        _check_roles(model, left, kind)
        others = diagonals(density, z, left, generator)
    return blocks + [SpectralBlock(value.flatten(), {}, name) for name, value in others.items()]


def _check_linear(density: UnconstrainedDensity, z: Float[Tensor, " size"], layers: dict[str, LinearMap]) -> None:
    """Raise ValueError if a layer's parameters do something else than W x + b does: their gradients would be others."""
    slopes, in_parameters = random_slopes(density, z, {name: layer.size_out for name, layer in layers.items()})
    largest = max(value.abs().max() for value in in_parameters.values())
    for path, layer in layers.items():
        weights = effective_weights(path, layer.sums, density.shapes)
        for parts, slope in zip(weights, slopes[path], strict=False):
            expected = {name: basis.coordinates(slope.flatten()) for name, basis in parts.structured.items()}
            expected |= {} if parts.whole is None else {parts.whole: slope.flatten()}
            for name, value in expected.items():
                if name not in in_parameters:
                    continue  # a pathway of the prior of a collapsed parameter
                found = in_parameters[name].flatten()
                scale = max(value.abs().max(), found.abs().max(), _NO_GRADIENT * largest)
                if (found - value).abs().max() > _OTHER_USE * scale:
                    raise ValueError(
                        f"the parameter {name!r} acts in the network otherwise than by the layer {path!r} alone: "
                        "another layer shares it, it is used outside of layers, or the layer is not y = W x + b. Use "
                        "curvature='layer', 'full' or 'diagonal'."
                    )


def _check_roles(model: BayesianModel, names: list[str], kind: FactoredCurvature) -> None:
    """Raise ValueError if one of the parameters belongs to a layer that does not say what they are."""
    for path in dict.fromkeys(name.rpartition(".")[0] for name in names):
        layer = model.network.get_submodule(path)
        if not isinstance(layer, PathwayLayer):
            raise ValueError(
                f"curvature={kind!r} has no factors for the layer {path!r} ({type(layer).__name__}), whose weights the "
                "outputs may determine jointly. Use curvature='layer', 'full' or 'diagonal'."
            )


def _layer_blocks(
    path: str,
    layer: LinearMap,
    weights: list[EffectiveWeight],
    kind: FactoredCurvature,
    outer: Tensor,
    inner: Tensor,
    by_piece: bool,
) -> list[CurvatureBlock]:
    """The blocks of a layer's weight and bias; ``by_piece`` if its prior varies between output pieces."""
    if kind == "symmetric" and layer.rep_in is not None and layer.rep_out is not None:
        if not layer.has_equivariant_pathways:
            raise ValueError(
                f"curvature='symmetric' needs pathways of equivariant maps that are orthogonal to each other; those of "
                f"{path!r} are none. Use curvature='kronecker'."
            )
        outer, inner = _averaged(outer, layer.rep_out), _averaged(inner, layer.rep_in)
        sizes = [run.size for run in layer.rep_out.runs] if by_piece else [layer.rep_out.size]
        left, bands = _eigenvectors_by_bands(outer, sizes), sizes
    else:
        left, bands = torch.linalg.eigh(outer), [len(outer)]
    blocks: list[CurvatureBlock] = []
    for parts, factor in zip(weights, (inner, outer.new_ones(1, 1)), strict=False):
        if parts.whole is None and not parts.structured:
            continue
        right = torch.linalg.eigh(factor)
        eigenvalues = torch.outer(left[0].clamp_min(0), right[0].clamp_min(0)).flatten()
        found, representatives = {}, {}
        for name, basis in parts.structured.items():
            if kind == "kronecker":
                what = f"the basis of {name!r} for curvature='kronecker'"
                check_matrix(what, 8 * basis.rank * basis.size, "Use curvature='symmetric' or 'diagonal'.")
                found[name] = _whole_basis(basis, left[1], right[1])
            else:
                found[name] = _shares(basis, left[1], right[1])
                representatives[name] = _representatives(basis, bands, len(right[1]))
        if kind == "kronecker":
            blocks.append(SpectralBlock(eigenvalues, found, parts.whole))
        else:
            blocks.append(CommutingBlock(eigenvalues, found, parts.whole, representatives))
    return blocks


def _eigenvectors_by_bands(matrix: Float[Tensor, "m m"], sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of the diagonal blocks of a matrix, band by band."""
    found = [torch.linalg.eigh(matrix[band, band]) for band in _slices(sizes)]
    return torch.cat([values for values, _ in found]), torch.block_diag(*[vectors for _, vectors in found])


def _slices(sizes: list[int]) -> list[slice]:
    ends = list(itertools.accumulate(sizes))
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _representatives(basis: EquivariantBasis, sizes: list[int], n: int) -> Int[Tensor, " size"]:
    """For every eigenvector, row by row, a coordinate of the basis with maps into its band of rows; 0 if none is."""
    norms = band_norms(basis, sizes, [n])[..., 0]
    return norms.argmax(0).repeat_interleave(torch.tensor(sizes)).repeat_interleave(n)


def _shares(basis: EquivariantBasis, left: Float[Tensor, "m m"], right: Float[Tensor, "n n"]) -> Float[Tensor, " size"]:
    """How much of every u_i w_j^T lies in the span of the basis: the squares of its coordinates, summed. For a large
    basis Q it is the mean of (u_i^T (Q c) w_j)^2 over standard normal c.
    """
    if basis.rank * basis.size <= _EXACT_SHARES:
        return _whole_basis(basis, left, right).square().sum(0)
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


def _whole_basis(
    basis: EquivariantBasis, left: Float[Tensor, "m m"], right: Float[Tensor, "n n"]
) -> Float[Tensor, "rank size"]:
    """Q in the eigenbasis."""
    return _rotated(basis, torch.eye(basis.rank, dtype=left.dtype, device=left.device), left, right)


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
