"""From a model's curvature to a metric, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from pyro.distributions import Distribution
from torch import Tensor
from torch.func import vmap

from bayes_rpp import BayesianModel
from bayes_rpp.bases.joint_span import are_orthogonal
from bayes_rpp.networks.layers.pathway_sums import ResidualPathwayLayer
from bayes_rpp.seeding import seeded_generator
from inference.curvature.block_structure import Structure, spans_of
from inference.curvature.covariance_root import BlockRoot, CovarianceRoot, FormedRoot, PermutedRoot, formed_root
from inference.curvature.gauss_newton import beside_network, hessian_at_fixed_outputs, network_model, probe_rows
from inference.curvature.hessian_blocks import gauss_newton_blocks, parameter_precision, prior_precision
from inference.curvature.kronecker_blocks import EffectiveWeight, effective_weights, prior_variances
from inference.curvature.names import MetricName
from inference.density.unconstrained import UnconstrainedDensity
from inference.memory import check_matrix
from inference.metrics.metric import CollapsedMetric, ResidualMetric

_PROBES = 256  # an entry of the diagonal is then known to 9 percent
_FULL_BY_DEFAULT = 1_500
_BLOCKS_AT_ONCE = 16  # each holds the outputs of all examples


def build_metric(
    name: MetricName | None, density: UnconstrainedDensity, z: Float[Tensor, "start size"], seed: int = 0
) -> CovarianceRoot | None:
    """A metric from the Gauss-Newton matrix and the prior's precision, averaged over positions z; None for the
    identity.

    ``name`` is "diagonal"; "layer", a dense block for each layer; "full", one dense matrix; "pathway", diagonal along
    the pathways of each residual layer and constant elsewhere, which serves both parametrizations alike; or "identity".
    None takes "full" up to 1,500 coordinates and "pathway" (in non-centred coordinates, "diagonal") beyond, and
    "identity" for a LogDensity. ``seed`` is that of the probes that estimate diagonals.

    Raises TypeError if the model is a LogDensity, except for the identity, and ValueError if a dense block would be too
    large, or "pathway" is to be that of non-centred coordinates.
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
    generator = seeded_generator(seed, z.device)
    rows = torch.cat(list(probe_rows(density, z, -(-_PROBES // len(z)), generator)))
    spans, laws = spans_of(density), density.priors(z.mean(0))
    weights = _orthogonal_weights(model, density) if name == "pathway" else {}
    structured = {part for weight in weights.values() for part in weight.structured}
    where: list[slice] = []
    parts: list[CovarianceRoot] = []
    order: list[slice] = []  # of the coordinates in the blocks: a layer need not hold its pathways side by side
    for parameter, span in spans.items():
        if parameter in structured:
            continue  # with its dense part
        if (weight := weights.get(parameter)) is None:
            together = [span]
            parts.append(_diagonal(density, parameter, laws[parameter], rows[:, span], z))
        else:
            together = [*(spans[part] for part in weight.structured if part in spans), span]
            parts.append(_pathway(weight, laws, rows[:, span], density.temperature))
        start = where[-1].stop if where else 0
        where.append(slice(start, start + sum(part.stop - part.start for part in together)))
        order += together
    root = BlockRoot(where, parts)
    if order == list(spans.values()):
        return root
    return PermutedRoot(root, torch.cat([torch.arange(part.start, part.stop) for part in order]).to(z.device))


def _dense(name: Literal["layer", "full"], density: UnconstrainedDensity, z: Float[Tensor, "start size"]) -> BlockRoot:
    """A dense block for each layer, or one for all."""
    model, structure, middle = network_model(density, "a metric"), Structure.of(density, name), z.mean(0)
    largest = max(structure.sizes)
    what = f"metric={name!r} with {largest:,} coordinates in one block"
    check_matrix(what, 8 * largest**2, "Use metric='diagonal' or 'pathway'.")
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
    """The curvature in a parameter of the likelihood or a variance, which may be negative far from the mode, by the
    absolute values of its eigenvalues: the mean over the positions, since at their mean the network fits nothing.
    """
    blocks = vmap(lambda position: hessian_at_fixed_outputs(density, name, position), chunk_size=_BLOCKS_AT_ONCE)(z)
    values, vectors = torch.linalg.eigh(blocks)
    return ((vectors * values.abs().clamp_min(1e-6)[:, None]) @ vectors.mT).mean(0)


def _diagonal(
    density: UnconstrainedDensity,
    name: str,
    law: Distribution,
    rows: Float[Tensor, "row size"],
    z: Float[Tensor, "start size"],
) -> FormedRoot:
    if name in beside_network(network_model(density, "a metric")):
        added = _beside_network(density, name, z).diagonal()
    else:
        added = parameter_precision(density, name, law, z.mean(0), diagonal=True)
    return formed_root(rows.square().sum(0) + added.to(rows), rows.dtype)


def _pathway(
    weight: EffectiveWeight, laws: Mapping[str, Distribution], rows: Float[Tensor, "row size"], temperature: float
) -> CovarianceRoot:
    """Precisions along and off the pathways, from the rows of W (a change of B is one of W) and the priors."""
    assert weight.whole is not None
    bases = list(weight.structured.values())
    dense, variances = prior_variances(laws, weight.whole, list(weight.structured), rows)
    left, total, precisions = bases[0].size, rows.square().sum(), []
    for basis, variance in zip(bases, variances, strict=True):
        along = basis.coordinates(rows).square().sum(0)
        left, total = left - basis.rank, total - along.sum()
        precisions.append(along + 1 / (temperature * (variance + dense)))
    off = total.clamp_min(0) / max(left, 1) + 1 / (temperature * dense)
    effective = CollapsedMetric(bases, precisions, off)
    if laws[weight.whole].bases:
        return effective
    return ResidualMetric(bases, variances, dense, effective, temperature)


def _orthogonal_weights(model: BayesianModel, density: UnconstrainedDensity) -> dict[str, EffectiveWeight]:
    """Weights and biases whose pathways are orthogonal, by the names of the parameters that have all coordinates."""
    layers = [(n, layer) for n, layer in model.network.named_modules() if isinstance(layer, ResidualPathwayLayer)]
    weights = [weight for path, layer in layers for weight in effective_weights(path, layer.sums, density.shapes)]
    return {w.whole: w for w in weights if w.whole and w.structured and are_orthogonal(list(w.structured.values()))}
