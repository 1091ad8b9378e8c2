"""A network that is linear in its parameters, as the features, residuals and noise of a linear model."""

from __future__ import annotations

import pyro
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints
from torch.func import jacrev, vmap

from bayes_rpp import BayesianModel, Gaussian, PathwayNormal
from inference.data import Data, Model, resolve_data, resolve_device
from inference.density.unconstrained import UnconstrainedDensity
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
    """The linear model that a network is, and the prior of its parameters.

    Parameters
    ----------
    model : a BayesianModel whose network is affine in its parameters, with a Gaussian likelihood of known noise.
    data : (x, y) as tensors or arrays, or a Dataset of such pairs.
    seed : of the two points at which the derivatives are compared.
    device : "auto" takes an accelerator if there is one.

    Raises
    ------
    TypeError
        If the model is a LogDensity, its network is not linear in its parameters, its likelihood is not Gaussian, or a
        prior is no PathwayNormal.
    ValueError
        If the noise or a prior variance is learned, the data are missing or refused, or it would not fit into memory.

    Examples
    --------
    >>> line, prior = linear_gaussian(model, data.train)
    >>> line.log_evidence(prior)
    """
    given, likelihood, prior = _gaussian_model(model)
    pair = resolve_data(model, data)
    assert pair is not None
    exact = given.to(dtype=torch.float64)
    x, y = (part.double() if part.is_floating_point() else part for part in pair)
    density = UnconstrainedDensity(exact, (x, y), device=resolve_device(device))
    _check_memory(density, PriorRoot([prior[name] for name in density.shapes]).width, y.numel())
    features, offset = _features(density, seed), _outputs(density, torch.zeros(density.size, dtype=torch.float64))
    noise = torch.as_tensor(likelihood.noise({}), dtype=torch.float64).expand(offset.shape[1:]).flatten()
    residual = (y.to(offset) - offset).flatten(1)
    return LinearGaussian(features, residual, noise.to(features), density.shapes), prior


def _gaussian_model(model: Model) -> tuple[BayesianModel, Gaussian, dict[str, PathwayNormal]]:
    """The model, its likelihood and its prior, if both are Gaussian and known."""
    if not isinstance(model, BayesianModel):
        raise TypeError(f"the exact evidence needs a BayesianModel, got {type(model).__name__}. {_OTHERS}.")
    if not isinstance(model.likelihood, Gaussian):
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
    return model, model.likelihood, prior


def _check_memory(density: UnconstrainedDensity, width: int, observations: int) -> None:
    """Refuse what would take more than the limit for the features, or for the matrix that is decomposed."""
    needed = 8 * max(observations * density.size, (observations + width) * min(observations, width))
    what = f"the exact evidence of {observations:,} observed numbers and {density.size:,} parameters"
    check_matrix(what, needed, f"{_OTHERS}.")


def _outputs(density: UnconstrainedDensity, z: Float[Tensor, " size"]) -> Float[Tensor, "example *output"]:
    assert isinstance(density.model, BayesianModel)
    assert density.pair is not None
    return density.model.output(density.params(z.to(density.device)), density.pair[0])


def _features(density: UnconstrainedDensity, seed: int) -> Float[Tensor, "example output size"]:
    """The derivative of all outputs, if it is the same at two random points."""
    assert isinstance(density.model, BayesianModel)
    assert density.pair is not None
    model, x = density.model, density.pair[0]
    points = torch.randn(2, density.size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    first, second = points.to(density.device)

    def jacobian(z: Tensor, example: Tensor) -> Tensor:
        matrix: Tensor = jacrev(lambda v: model.output(density.params(v), example[None]).flatten())(z)
        return matrix

    parts = []
    with pyro.validation_enabled(False):
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
