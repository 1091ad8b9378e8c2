"""Paths of densities from a normalised reference r to the joint p(y, theta | x), over free vectors z.

    log f_t(z) = (1 - t) log r(z) + t log p(y, z | x) = log r(z) + t D(z),    0 <= t <= 1

p(y, z | x) holds the Jacobian of constrained parameters. D, the gain, is log p(y, z | x) - log r(z): the log likelihood
where the reference is the prior. The integral of f_0 is 1, that of f_1 the evidence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp import BayesianModel, LogDensity
from bayes_rpp.prior_draws import prior_draws
from bayes_rpp.seeding import seeded_generator
from bayes_rpp.validation import without_validation
from inference.curvature.covariance_root import BlockRoot, formed_root
from inference.density.unconstrained import UnconstrainedDensity
from inference.laplace.posterior import LaplacePosterior
from inference.tempering.curvature import SameEverywhere, TemperedCurvature, tempered_curvature

ReferenceName = Literal["prior", "laplace"]

_NUMBERS_AT_ONCE = 2**24  # activations and weights, for one forward pass
_POSITIONS = 8  # over which the curvature is averaged


@dataclass(frozen=True)
class Particles:
    """Positions, and the densities of the path there."""

    position: Float[Tensor, "particle size"]  # z
    reference: Float[Tensor, " particle"]  # -log r(z)
    gain: Float[Tensor, " particle"]  # D(z); minus infinity where the joint density is zero or no number
    reference_slope: Float[Tensor, "particle size"]  # the gradient of -log r
    gain_slope: Float[Tensor, "particle size"]  # the gradient of D

    def energy(self, t: float) -> Float[Tensor, " particle"]:
        """-log f_t."""
        return self.reference - t * self.gain

    def slope(self, t: float) -> Float[Tensor, "particle size"]:
        """The gradient of -log f_t."""
        return self.reference_slope - t * self.gain_slope

    def chosen(self, index: Tensor) -> Particles:
        """Some of the particles, each as often as the index names it."""
        return Particles(*(getattr(self, field.name)[index] for field in fields(self)))

    def where(self, mask: Tensor, other: Particles) -> Particles:
        """These particles where the mask is true, and those of another particles elsewhere."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return Particles(*(torch.where(mask if a.ndim == 1 else mask[:, None], a, b) for a, b in pairs))


class TemperedPath(ABC):
    """f_t for many particles at once, of U(z) = -log p(y, z | x); ``gradients`` counts those on all data so far."""

    def __init__(self, density: UnconstrainedDensity) -> None:
        self.density, self.gradients = density, 0

    @abstractmethod
    def sample(self, count: int, seed: int) -> Float[Tensor, "particle size"]:
        """Independent draws of the reference."""

    @abstractmethod
    def curvature(self, t: float, particles: Particles) -> TemperedCurvature:
        """The curvature, from particles of f_t, for coordinates in which f_t is closer to isotropic."""

    @abstractmethod
    def _parts(self, z: Float[Tensor, "particle size"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """-log r, D and the gradients of both."""

    def at(self, z: Float[Tensor, "particle size"]) -> Particles:
        """The particles at these positions, evaluated some at a time where all would take too much memory."""
        self.gradients += len(z)
        parts = [self._parts(some) for some in z.split(self._at_once())]
        reference, gain, reference_slope, gain_slope = (torch.cat(part) for part in zip(*parts, strict=True))
        gain = torch.where(gain.isnan(), -torch.inf, gain)
        return Particles(z, reference, gain, reference_slope, gain_slope)

    def _at_once(self) -> int:
        shapes = self.density.shapes.values()
        widths = sum(shape[0] for shape in shapes if len(shape) > 1)
        return max(1, _NUMBERS_AT_ONCE // (self.density.size + self.density.num_data * max(widths, 1)))


class PriorPath(TemperedPath):
    """f_t = prior times likelihood^t, of a BayesianModel."""

    def __init__(self, density: UnconstrainedDensity) -> None:
        super().__init__(density)
        assert isinstance(density.model, BayesianModel)
        self.model = density.model
        example = density.params(density.initial([0])[0])
        with without_validation():
            prior = LogDensity(self.model.log_prior, example, self.model.constraints)
            self._prior = UnconstrainedDensity(prior, None, device=density.device)

    def sample(self, count: int, seed: int) -> Float[Tensor, "particle size"]:
        """See TemperedPath; by the priors' own Pyro distributions."""
        return self.density.free(prior_draws(self.model, count, seed)).to(self.density.dtype)

    def curvature(self, t: float, particles: Particles) -> TemperedCurvature:
        """See TemperedPath."""
        self.gradients += self.model.num_outputs
        return tempered_curvature(self.density, t, particles.position[particles.gain.isfinite()][:_POSITIONS])

    def _log_likelihood(self, z: Float[Tensor, " size"]) -> Float[Tensor, ""]:
        assert self.density.pair is not None
        return self.model.log_likelihood(self.density.params(z), *self.density.pair)

    def _parts(self, z: Float[Tensor, "particle size"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        reference_slope, reference = self._prior.gradients(z)
        with without_validation(), torch.enable_grad():
            leaf = z.detach().requires_grad_()
            gain = torch.func.vmap(self._log_likelihood)(leaf)
            (gain_slope,) = torch.autograd.grad(gain.sum(), leaf)
        return reference, gain.detach(), reference_slope, gain_slope


class LaplacePath(TemperedPath):
    """f_t = N(z*, H^-1)^(1 - t) times the joint density^t: a short path if the posterior is close to the Gaussian.
    Raises ValueError if the Laplace approximation fixes some coordinates, as "last_layer" does.
    """

    def __init__(self, posterior: LaplacePosterior) -> None:
        super().__init__(posterior.density)
        approximation, dtype = posterior.approximation, self.density.dtype
        if approximation.dimension < approximation.size:
            raise ValueError(
                f"a reference needs a density over all {approximation.size} coordinates, but curvature="
                f"{posterior.structure.curvature!r} fixes all but {approximation.dimension}; use 'full' or 'layer'."
            )
        self._mean, self._spans = approximation.mean.to(dtype), posterior.structure.spans
        self._blocks = [block.to(dtype) for block in posterior.precision.total]
        self._constant = float(approximation.log_integral(0.0))
        self._metric = BlockRoot(self._spans, [formed_root(block, dtype) for block in self._blocks])

    def sample(self, count: int, seed: int) -> Float[Tensor, "particle size"]:
        """See TemperedPath."""
        generator = seeded_generator(seed)
        noise = torch.randn(count, len(self._mean), generator=generator, dtype=self._mean.dtype)
        return self._mean + self._metric.color(noise.to(self._mean.device))

    def curvature(self, t: float, particles: Particles) -> TemperedCurvature:
        """See TemperedPath; that of the Gaussian, whatever t."""
        return SameEverywhere(self._metric)

    def _parts(self, z: Float[Tensor, "particle size"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        slope, value = self.density.gradients(z)
        away = z - self._mean
        parts = [
            away[:, span] * block if block.ndim == 1 else away[:, span] @ block
            for span, block in zip(self._spans, self._blocks, strict=True)
        ]
        reference_slope = torch.cat(parts, dim=1)
        reference = (away * reference_slope).sum(1) / 2 + self._constant
        return reference, reference - value, reference_slope, reference_slope - slope
