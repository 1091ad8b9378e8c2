"""A network that is linear in its parameters, as the features, residuals and noise of a linear model."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints
from torch.func import jacrev, vmap

from bayes_rpp import BayesianModel, Gaussian, PathwayNormal
from bayes_rpp.seeding import seeded_generator
from bayes_rpp.validation import without_validation
from inference.curvature.gauss_newton import network_and_data
from inference.data import Data, Model, resolve_data, resolve_device
from inference.density.unconstrained import UnconstrainedDensity, float64_density
from inference.exact.linear_gaussian import LinearGaussian, PriorRoot
from inference.memory import check_matrix

_LINEAR = 1e-8
_NUMBERS_AT_ONCE = 2**24
_OTHERS = "LaplaceEvidence approximates its evidence, AnnealedImportanceSampling estimates it"
_OF_HYPERPRIORS = "AnnealedImportanceSampling and TemperedSMC estimate its evidence"  # others refuse


@torch.no_grad()
def linear_gaussian(
    model: Model, data: Data, seed: int = 0, device: str | torch.device = "auto"
) -> tuple[LinearGaussian, dict[str, PathwayNormal]]:
    """The linear model that a network is, and the prior of its parameters. The network must be affine in them (its
    derivatives are compared at two points, which ``seed`` chooses), and the likelihood Gaussian with known noise;
    raises as ``ExactEvidence.estimate``.
    """
    given, likelihood, prior = _gaussian_model(model)
    density = float64_density(given, resolve_data(model, data), 1.0, resolve_device(device))
    exact, x, y = network_and_data(density, "the exact evidence")
    width, observed = PriorRoot([prior[name] for name in density.shapes]).width, y.numel()
    needed = 8 * max(
        observed * density.size, (observed + width) * min(observed, width)
    )  # the features, what is factored
    what = f"the exact evidence of {observed:,} observed numbers and {density.size:,} parameters"
    check_matrix(what, needed, f"{_OTHERS}.")
    origin = density.params(torch.zeros(density.size, dtype=torch.float64, device=density.device))
    features, offset = _features(exact, density, x, seed), exact.output(origin, x)
    noise = likelihood.noise({}, offset).expand(offset.shape[1:]).flatten()
    residual = (y.to(offset) - offset).flatten(1)
    return LinearGaussian(features, residual, noise.to(features), density.shapes), prior


def _gaussian_model(model: Model) -> tuple[BayesianModel, Gaussian, dict[str, PathwayNormal]]:
    """The model, its likelihood and its prior, if both are Gaussian and known."""
    if not isinstance(model, BayesianModel):
        raise TypeError(f"the exact evidence needs a BayesianModel, got {type(model).__name__}. {_OTHERS}.")
    if model.gaussian is None:
        kind = type(model.likelihood).__name__
        raise TypeError(f"the exact evidence needs a Gaussian likelihood, got {kind}. {_OTHERS}.")
    learned = [name for name, constraint in model.constraints.items() if constraint is not constraints.real]
    if learned:
        raise ValueError(
            f"the exact evidence needs known variances, but {' and '.join(learned)} are learned, so that y is not "
            f"Gaussian. Give numbers in their place. {_OF_HYPERPRIORS if model.hyperpriors else _OTHERS}."
        )
    prior = {name: law for name, law in model.prior_distributions.items() if isinstance(law, PathwayNormal)}
    others = [name for name in model.initial_params(0) if name not in prior]
    if others:
        raise TypeError(
            f"the exact evidence needs a PathwayNormal with known variances as the prior of every parameter, but that "
            f"of {others[0]!r} is none. {_OTHERS}."
        )
    return model, model.gaussian, prior


def _features(
    model: BayesianModel, density: UnconstrainedDensity, x: Tensor, seed: int
) -> Float[Tensor, "example output size"]:
    """The derivative of all outputs, if it is the same at two random points."""
    points = torch.randn(2, density.size, generator=seeded_generator(seed), dtype=torch.float64)
    first, second = points.to(density.device)

    def jacobian(z: Tensor, example: Tensor) -> Tensor:
        matrix: Tensor = jacrev(lambda v: model.output(density.params(v), example[None]).flatten())(z)
        return matrix

    parts = []
    with without_validation():
        outputs = model.output(density.params(first), x[:1]).numel()
        for some in x.split(max(1, _NUMBERS_AT_ONCE // (outputs * density.size))):
            here, there = (vmap(jacobian, in_dims=(None, 0))(z, some) for z in (first, second))
            change = (here - there).abs().max() / here.abs().max().clamp_min(torch.finfo(here.dtype).tiny)
            if not change <= _LINEAR:
                raise TypeError(
                    f"the output of this {type(model.network).__name__} is not linear in its parameters: between two "
                    f"random points its derivatives differ by {float(change):.2g} of the largest, so that its evidence "
                    f"has no closed form. {_OTHERS}."
                )
            parts.append(here)
    return torch.cat(parts)
