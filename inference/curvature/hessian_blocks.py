"""The precision of a Laplace approximation, block by block: what the data add, and what the prior adds.

H = (GGN + curvature of the likelihood's own parameters) + prior precision
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from pyro.distributions import Distribution
from torch import Tensor
from torch.distributions import biject_to, constraints
from torch.func import grad, vjp, vmap

from bayes_rpp import BayesianModel, PathwayNormal
from bayes_rpp.bases.joint_span import are_orthogonal
from bayes_rpp.forward_mode import hessian
from bayes_rpp.validation import without_validation
from inference.curvature.block_structure import Structure, spans_of
from inference.curvature.gauss_newton import (
    beside_network,
    gauss_newton_rows,
    hessian_at_fixed_outputs,
    network_and_data,
    network_model,
    require_curvature,
)
from inference.density.unconstrained import UnconstrainedDensity
from inference.progress import QUIET_SECONDS, ProgressBar

Blocks = list[Tensor]  # one a block of the structure: a matrix, or a vector for "diagonal"; float64

_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Precision:
    """H in two parts; for a LogDensity, whose prior cannot be separated, all of it is the data's."""

    data: Blocks
    prior: Blocks | None

    @property
    def total(self) -> Blocks:
        """H."""
        return self.data if self.prior is None else [a + b for a, b in zip(self.data, self.prior, strict=True)]


def data_precision(
    density: UnconstrainedDensity, z: Float[Tensor, "start size"], structure: Structure, progress: bool
) -> Blocks:
    """What the data add to H: the Gauss-Newton matrix, and the Hessian in the likelihood's own parameters at fixed
    outputs (Schraudolph, Neural Computation 2002). Of several positions, it is about the mean over them. The weights
    add to the block of a variance with a hyperprior as data do. Raises TypeError for a LogDensity.
    """
    model, middle = network_model(density, "the Gauss-Newton matrix"), z.mean(0)
    require_curvature(density, z[0])
    blocks, diagonal = gauss_newton_blocks(density, z, structure, progress), structure.curvature == "diagonal"
    for name in beside_network(model):
        parameter = spans_of(density)[name]
        prior = parameter_precision(density, name, density.priors(middle)[name], middle, diagonal=False)
        added = hessian_at_fixed_outputs(density, name, middle).double() - prior
        for block, span in zip(blocks, structure.spans, strict=True):
            if span.start <= parameter.start and parameter.stop <= span.stop:
                own = slice(parameter.start - span.start, parameter.stop - span.start)
                part = block[own] if diagonal else block[own, own]
                part += added.diagonal() if diagonal else added
    return blocks


def precision_at(
    density: UnconstrainedDensity, z: Float[Tensor, " size"], structure: Structure, progress: bool
) -> Precision:
    """H at a point, by its blocks."""
    if not isinstance(density.model, BayesianModel):
        return Precision(exact_precision(density, z, structure, progress), None)
    prior = prior_precision(density, z, structure, density.priors(z))
    return Precision(data_precision(density, z[None], structure, progress), prior)


def gauss_newton_blocks(
    density: UnconstrainedDensity, z: Float[Tensor, "start size"], structure: Structure, progress: bool
) -> Blocks:
    """The Gauss-Newton matrix; of several positions, about the mean over them. Raises TypeError for a LogDensity."""
    model, x, _ = network_and_data(density, "the Gauss-Newton matrix")
    diagonal = structure.curvature == "diagonal"
    shapes = [(size,) if diagonal else (size, size) for size in structure.sizes]
    blocks = [torch.zeros(shape, dtype=torch.float64, device=density.device) for shape in shapes]
    wanted = structure.spans[0] if structure.curvature == "last_layer" else slice(0, density.size)
    total = len(x) * model.output(density.params(z[0]), x[:1]).numel()
    with _bar("Gauss-Newton matrix", total, progress) as bar:
        for rows in gauss_newton_rows(density, z, wanted):
            bar.update(len(rows))
            exact = rows.double()
            for block, span in zip(blocks, structure.spans, strict=True):
                own = exact[:, span.start - wanted.start : span.stop - wanted.start]
                if diagonal:
                    block += own.square().sum(0)
                else:
                    block.addmm_(own.mT, own)
    return blocks


def _bar(description: str, rows: int, progress: bool) -> ProgressBar:
    return ProgressBar(desc=description, total=rows, unit="row", progress=progress, delay=QUIET_SECONDS)


def prior_precision(
    density: UnconstrainedDensity,
    z: Float[Tensor, " size"],
    structure: Structure,
    distributions: Mapping[str, Distribution],
) -> Blocks:
    """What the priors add to H, differentiable in their tensors: 1/v for a residual pathway, Sigma^-1 for a collapsed
    weight, and for any other distribution minus the Hessian of its log density in the free coordinates.
    """
    diagonal, blocks = structure.curvature == "diagonal", []
    for names in structure.names:
        parts = [parameter_precision(density, name, distributions[name], z, diagonal) for name in names]
        blocks.append(torch.cat(parts) if diagonal else torch.block_diag(*parts))
    return blocks


def parameter_precision(
    density: UnconstrainedDensity, name: str, distribution: Distribution, z: Float[Tensor, " size"], diagonal: bool
) -> Float[Tensor, "size size"] | Float[Tensor, " size"]:
    """The prior's part of H for one parameter, over the temperature."""
    value = density.unpack(z)[name].double()
    if not isinstance(distribution, PathwayNormal):
        # Tempered already: the Jacobian is not.
        matrix = _hessian_of_prior(distribution, value, density.model.constraints[name], density.temperature)
        return matrix.diagonal() if diagonal else matrix
    if diagonal:
        result = _pathway_diagonal(distribution, value)
    else:
        eye = torch.eye(value.numel(), dtype=torch.float64, device=z.device).reshape(-1, *value.shape)
        matrix = distribution.precision_times(eye).reshape(value.numel(), -1)
        result = (matrix + matrix.mT) / 2
    return result / density.temperature


def _hessian_of_prior(
    distribution: Distribution, value: Tensor, constraint: constraints.Constraint, temperature: float
) -> Tensor:
    transform = biject_to(constraint)

    def negative(flat: Tensor) -> Tensor:
        free = flat.reshape(value.shape)
        constrained = transform(free)
        jacobian = transform.log_abs_det_jacobian(free, constrained).sum()
        return -(distribution.log_prob(constrained).sum() / temperature + jacobian)

    with without_validation():
        matrix: Tensor = hessian(negative)(value.flatten())
    return matrix


def _pathway_diagonal(distribution: PathwayNormal, value: Tensor) -> Float[Tensor, " size"]:
    """The diagonal of Sigma^-1."""
    count, dense, bases = value.numel(), distribution.dense_variances.to(value), distribution.bases
    if are_orthogonal(bases):
        inside, outside = torch.zeros(count).to(value), torch.ones(count).to(value)
        for basis, variance in zip(bases, distribution.coordinate_variances, strict=True):
            along = (1 / (variance.to(value) + dense)).expand(basis.rank)
            for span in torch.arange(basis.rank).split(_ROWS_AT_ONCE):
                rows = next(_unit_rows(slice(int(span[0]), int(span[-1]) + 1), value, basis.rank))
                squares = basis.expand(rows).square()
                inside, outside = inside + along[span] @ squares, outside - squares.sum(0)
        return inside + outside.clamp_min(0) / dense
    pieces = []
    for rows in _unit_rows(slice(0, count), value):
        image = distribution.precision_times(rows.reshape(-1, *value.shape)).reshape(rows.shape)
        pieces.append(image[rows.bool()])
    return torch.cat(pieces)


def _unit_rows(span: slice, like: Tensor, size: int | None = None) -> Iterator[Float[Tensor, "row size"]]:
    """The rows of the identity for a span of coordinates, some at a time; of as many columns, or of ``size``."""
    width = span.stop - span.start if size is None else size
    for start in range(span.start, span.stop, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, span.stop)
        yield torch.eye(stop - start, width, dtype=like.dtype, device=like.device).roll(start, dims=1)


def exact_precision(
    density: UnconstrainedDensity, z: Float[Tensor, " size"], structure: Structure, progress: bool
) -> Blocks:
    """The blocks of the Hessian of U itself: what a LogDensity has in place of the two parts."""
    blocks = []
    with without_validation(), _bar("Hessian", density.size, progress) as bar:
        pull = vjp(grad(density.potential), z)[1]
        for span in structure.spans:
            parts = []
            for units in _unit_rows(span, z, density.size):
                rows = vmap(pull)(units)[0].detach().double()
                parts.append(rows[units.bool()] if structure.curvature == "diagonal" else rows[:, span])
                bar.update(len(rows))
            block = torch.cat(parts)
            blocks.append(block if block.ndim == 1 else (block + block.mT) / 2)
    return blocks
