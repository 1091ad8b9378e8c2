"""Coordinates in which a tempered posterior, prior times likelihood^t, is closer to isotropic, for any t."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from pyro.distributions import Distribution
from torch import Tensor
from torch.distributions import constraints

from bayes_rpp.likelihoods import Likelihood
from bayes_rpp.likelihoods.likelihood import output_curvature
from bayes_rpp.types import Params
from inference.curvature.block_structure import Structure, spans_of
from inference.curvature.gauss_newton import hessian_at_fixed_outputs, network_model
from inference.curvature.hessian_blocks import data_precision, parameter_precision, prior_precision
from inference.density.unconstrained import UnconstrainedDensity
from inference.metrics.build_metric import build_metric

_LARGEST_DENSE = 1_500  # coordinates


class Coordinates(Protocol):
    """z = S u, and its transpose; every CovarianceRoot is one."""

    def color(self, u: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """S u."""

    def pull(self, gradient: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """S^T g."""


class TemperedCurvature(Protocol):
    """The curvature of the densities of a path, from particles at one temperature."""

    def serves(self, t: float) -> bool:
        """Whether it is accurate enough at the temperature t."""

    def coordinates(self, t: float) -> Coordinates:
        """The coordinates at the temperature t."""


@dataclass(frozen=True)
class SameEverywhere:
    """The same coordinates at all temperatures."""

    fixed: Coordinates

    def serves(self, t: float) -> bool:
        """See TemperedCurvature."""
        return True

    def coordinates(self, t: float) -> Coordinates:
        """See TemperedCurvature."""
        return self.fixed


@dataclass(frozen=True)
class _Scaled:
    """S = R diag(scale)."""

    root: Float[Tensor, "size size"]
    scale: Float[Tensor, " size"]

    def color(self, u: Tensor) -> Tensor:
        return (u * self.scale) @ self.root.mT

    def pull(self, gradient: Tensor) -> Tensor:
        return (gradient @ self.root) * self.scale


class _Dense:
    """S_t S_t^T = (P + t G)^-1 for all t at once: with P = L L^T and L^-1 G L^-T = V diag(g) V^T, S_t is L^-T V
    diag(1 + t g)^(-1/2).
    """

    def __init__(self, prior: Float[Tensor, "size size"], data: Float[Tensor, "size size"], until: float) -> None:
        cholesky, self._until = torch.linalg.cholesky(prior), until
        half = torch.linalg.solve_triangular(cholesky, data, upper=False)
        whitened = torch.linalg.solve_triangular(cholesky, half.mT, upper=False)
        values, vectors = torch.linalg.eigh((whitened + whitened.mT) / 2)
        self._values, self._root = values.clamp_min(0), torch.linalg.solve_triangular(cholesky.mT, vectors, upper=True)

    def serves(self, t: float) -> bool:
        return t < self._until

    def coordinates(self, t: float) -> Coordinates:
        return _Scaled(self._root, (1 + t * self._values).rsqrt())


class _Nearby:
    """Coordinates of one temperature, for those a little above it."""

    def __init__(self, coordinates: Coordinates, until: float) -> None:
        self._coordinates, self._until = coordinates, until

    def serves(self, t: float) -> bool:
        return t < self._until

    def coordinates(self, t: float) -> Coordinates:
        return self._coordinates


def tempered_curvature(density: UnconstrainedDensity, t: float, z: Float[Tensor, "position size"]) -> TemperedCurvature:
    """The prior's precision plus t times the Gauss-Newton matrix of a BayesianModel's likelihood, on average over
    positions z of the temperature t. The weights' prior is at the positions' mean log variances, where these have
    hyperpriors. Up to 1,500 coordinates it is a dense matrix, which serves up to 4 t; beyond, it is diagonal along the
    pathways, and serves up to 1.2 t.
    """
    model = network_model(density, "a tempered likelihood")
    if density.size > _LARGEST_DENSE:
        twin = copy.copy(density)
        twin.model = copy.copy(model)
        twin.model.likelihood = _Tempered(model.likelihood, t)
        metric = build_metric("pathway", twin, z)
        assert metric is not None
        return _Nearby(metric, 1.2 * t)
    structure = Structure.of(density, "full")
    (data,) = data_precision(density, z, structure, progress=False)
    (prior,) = prior_precision(density, z.mean(0), structure, density.priors(z.mean(0)))
    for name in model.hyperpriors:  # all of it is the prior's
        span = spans_of(density)[name]
        prior[span, span] = _mean_absolute([hessian_at_fixed_outputs(density, name, one).double() for one in z])
        data[span, span] = 0.0
    for name in model.likelihood.constraints():
        span = spans_of(density)[name]
        data[span, span] = _likelihood_block(density, name, z)
    return _Dense(prior.to(density.dtype), data.to(density.dtype), 4 * t)


def _likelihood_block(
    density: UnconstrainedDensity, name: str, z: Float[Tensor, "position size"]
) -> Float[Tensor, "size size"]:
    """The likelihood's curvature in a parameter of its own, which may be negative far from the mode."""
    prior = density.priors(z[0])[name]
    return _mean_absolute(
        hessian_at_fixed_outputs(density, name, one).double()
        - parameter_precision(density, name, prior, one, diagonal=False)
        for one in z
    )


def _mean_absolute(blocks: Iterable[Float[Tensor, "size size"]]) -> Float[Tensor, "size size"]:
    """The mean over positions, with the absolute values of the eigenvalues at each."""
    values, vectors = torch.linalg.eigh(torch.stack(list(blocks)))
    return ((vectors * values.abs()[:, None]) @ vectors.mT).mean(0)


@dataclass(frozen=True)
class _Tempered:
    """A likelihood to the power t."""

    likelihood: Likelihood
    power: float

    def parameters(self, num_outputs: int) -> Params:
        return self.likelihood.parameters(num_outputs)

    def priors(self, num_outputs: int) -> dict[str, Distribution]:
        return self.likelihood.priors(num_outputs)

    def constraints(self) -> dict[str, constraints.Constraint]:
        return self.likelihood.constraints()

    def distribution(self, output: Tensor, params: Params) -> Distribution:
        return self.likelihood.distribution(output, params)

    def log_prob(self, output: Tensor, y: Tensor, params: Params) -> Float[Tensor, " batch"]:
        return self.power * self.likelihood.log_prob(output, y, params)

    def output_curvature(self, output: Tensor, y: Tensor, params: Params) -> Float[Tensor, "batch size size"]:
        return self.power * output_curvature(self.likelihood, output, y, params)

    def check(self, y: Tensor, num_outputs: int) -> None:
        self.likelihood.check(y, num_outputs)
