"""From a model's curvature to a metric, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pyro.distributions import Distribution
from torch import Tensor
from torch.func import vmap

from bayes_rpp import BayesianModel, RPPLinear
from bayes_rpp.bases.equivariant import EquivariantBasis
from bayes_rpp.bases.joint_span import are_orthogonal
from inference.curvature.block_structure import Structure, spans_of
from inference.curvature.covariance_root import BlockRoot, CovarianceRoot, FormedRoot, formed_root
from inference.curvature.gauss_newton import beside_network, hessian_at_fixed_outputs, network_model, probe_rows
from inference.curvature.hessian_blocks import gauss_newton_blocks, parameter_precision, prior_precision
from inference.curvature.names import MetricName
from inference.density.unconstrained import UnconstrainedDensity
from inference.metrics.metric import CollapsedMetric, ResidualMetric

_PROBES = 256  # an entry of the diagonal is then known to 9 percent
_FULL_BY_DEFAULT = 1_500
_BLOCKS_AT_ONCE = 16  # each holds the outputs of all examples
_LARGEST_BLOCK = 8_000


def build_metric(
    name: MetricName | None, density: UnconstrainedDensity, z: Float[Tensor, "start size"], seed: int = 0
) -> CovarianceRoot | None:
    """A metric from the Gauss-Newton matrix and the prior's precision, on average over some positions.

    Parameters
    ----------
    name : "diagonal"; "layer", a dense block for each layer; "full", one dense matrix; "pathway", diagonal along the
        pathways of each residual layer and constant elsewhere, which serves both parametrizations alike; "identity".
        None takes "full" up to 1,500 coordinates and "pathway" (in non-centred coordinates, "diagonal") beyond, and
        "identity" for a LogDensity.
    density : of a BayesianModel.
    z : the positions.
    seed : of the probes that estimate diagonals.

    Returns
    -------
    The metric; None for the identity.

    Raises
    ------
    TypeError
        If the model is a LogDensity, except for the identity.
    ValueError
        If a dense block would be too large (the message says how large), or "pathway" is to be that of non-centred
        coordinates.
    """
    if name is None and isinstance(density.model, BayesianModel):
        large: MetricName = "pathway" if density.centred else "diagonal"
        name = "full" if density.size <= _FULL_BY_DEFAULT else large
    if name is None or name == "identity":
        return None
    model = network_model(density, f'metric="{name}"')
    if name == "pathway" and not density.centred:
        raise ValueError("metric='pathway' is for centred coordinates; with centred=False take 'full' or 'diagonal'.")
    if name in ("layer", "full"):
        return _dense(name, density, z)
    generator = torch.Generator(z.device).manual_seed(seed)
    rows = torch.cat(list(probe_rows(density, z, -(-_PROBES // len(z)), generator)))
    spans = spans_of(density)
    groups, laws = _pathway_groups(model) if name == "pathway" else {}, density.priors(z.mean(0))
    where, parts = [], []
    for names in _grouped(list(density.shapes), groups):
        where.append(slice(spans[names[0]].start, spans[names[-1]].stop))
        part = rows[:, where[-1]]
        layer = groups.get(names[0])
        metric = _diagonal(density, names, part, z) if layer is None else layer.metric(laws, part, density.temperature)
        parts.append(metric)
    return BlockRoot(where, parts)


def _dense(name: Literal["layer", "full"], density: UnconstrainedDensity, z: Float[Tensor, "start size"]) -> BlockRoot:
    """A dense block for each layer, or one for all."""
    model, structure, middle = network_model(density, "a metric"), Structure.of(density, name), z.mean(0)
    if (largest := max(structure.sizes)) > _LARGEST_BLOCK:
        raise ValueError(
            f"a dense metric of {largest:,} coordinates takes {8 * largest**2:,} bytes for each of its two "
            f"factors (the limit is {_LARGEST_BLOCK:,} coordinates); use metric='diagonal' or 'pathway'."
        )
    data = gauss_newton_blocks(density, z, structure, progress=False)
    prior = prior_precision(density, middle, structure, density.priors(middle))
    spans, parts = spans_of(density), []
    for span, names, matrix, added in zip(structure.spans, structure.names, data, prior, strict=True):
        for own in set(beside_network(model)) & set(names):
            inside = slice(spans[own].start - span.start, spans[own].stop - span.start)
            added[inside, inside] = _beside_network(density, own, z).double()
        parts.append(formed_root(matrix + added, density.dtype))
    return BlockRoot(structure.spans, parts)


def _beside_network(
    density: UnconstrainedDensity, name: str, z: Float[Tensor, "start size"]
) -> Float[Tensor, "size size"]:
    """The curvature in a parameter of the likelihood or a variance, which may be negative far from the mode: by the
    absolute values of its eigenvalues; the mean over the positions, since at their mean the network fits nothing.
    """
    blocks = vmap(lambda position: hessian_at_fixed_outputs(density, name, position), chunk_size=_BLOCKS_AT_ONCE)(z)
    values, vectors = torch.linalg.eigh(blocks)
    return ((vectors * values.abs().clamp_min(1e-6)[:, None]) @ vectors.mT).mean(0)


def _diagonal(
    density: UnconstrainedDensity, names: Sequence[str], rows: Float[Tensor, "row size"], z: Float[Tensor, "start size"]
) -> FormedRoot:
    model = network_model(density, "a metric")
    own, laws, parts = beside_network(model), density.priors(z.mean(0)), []
    for name in names:
        if name in own:
            parts.append(_beside_network(density, name, z).diagonal())
        else:
            parts.append(parameter_precision(density, name, laws[name], z.mean(0), diagonal=True))
    return formed_root(rows.square().sum(0) + torch.cat(parts).to(rows), rows.dtype)


class _PathwayGroup:
    """The parameters of one effective weight or bias, in either parametrization."""

    def __init__(self, names: list[str], bases: Sequence[EquivariantBasis], collapsed: bool) -> None:
        self.names, self.bases, self.collapsed = names, list(bases), collapsed

    def metric(self, laws: Mapping[str, Distribution], rows: Tensor, temperature: float) -> CovarianceRoot:
        """Precisions along and off the pathways, from the rows of these parameters and their priors."""
        own = laws[self.names[-1]]
        dense = float(own.dense_variance)
        if self.collapsed:
            variances = [float(variance) for variance in own.pathway_variances]
        else:
            variances = [float(laws[name].dense_variance) for name in self.names[:-1]]
        rows = rows[:, rows.shape[1] - self.bases[0].size :]  # a change of B is one of W
        left, total = self.bases[0].size, rows.square().sum()
        precisions = []
        for basis, variance in zip(self.bases, variances, strict=True):
            along = basis.coordinates(rows).square().sum(0)
            left, total = left - basis.rank, total - along.sum()
            precisions.append(along + 1 / (temperature * (variance + dense)))
        off = total.clamp_min(0) / max(left, 1) + 1 / (temperature * dense)
        effective = CollapsedMetric(self.bases, precisions, off)
        return effective if self.collapsed else ResidualMetric(self.bases, variances, dense, effective, temperature)


def _pathway_groups(model: BayesianModel) -> dict[str, _PathwayGroup]:
    """The first parameter of every group -> the group; weights whose pathways are not orthogonal are left out."""
    groups = {}
    for path, module in model.network.named_modules():
        if not isinstance(module, RPPLinear):
            continue
        for prefix, whole, bases in (("", "weight", module.bases), ("bias_", "bias", module.bias_bases)):
            held = [
                name for name, _ in module.named_parameters(recurse=False) if name.startswith("bias") == bool(prefix)
            ]
            used = [basis for basis in bases if basis.rank]
            if held and used and are_orthogonal(used):
                names = [f"{path}.{name}" if path else name for name in held]
                groups[names[0]] = _PathwayGroup(names, used, whole in held)
    return groups


def _grouped(names: list[str], groups: dict[str, _PathwayGroup]) -> Iterator[list[str]]:
    """All parameters in order, those of a group together."""
    start = 0
    while start < len(names):
        group = groups.get(names[start])
        taken = group.names if group is not None else [names[start]]
        yield taken
        start += len(taken)
