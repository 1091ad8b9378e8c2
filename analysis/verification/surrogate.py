"""A network fitted to data, to stand in for the function that made them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.symmetry.equivariance import Function
from analysis.verification.generator_errors import relative_distance
from bayes_rpp import MLP, BayesianModel, Gaussian, RPPPrior, Scalar, Trivial
from bayes_rpp.seeding import seeded_generator
from inference import MAP
from inference.posterior.draws import uninterrupted

# A network without any symmetry, or it would hide what is to be found; wide and long enough for a few thousand examples
# of a smooth function of some twenty columns.
_CHANNELS, _LAYERS, _STEPS, _BATCH = 128, 3, 2500, 250
_TRAIN_SHARE = 0.8  # of the examples; the rest measure its error and its symmetry
_INITIAL_NOISE = 1e-2  # variance, of outputs scaled to variance one; learned from there
_CONSTANT = 1e-6  # a column that varies less, relative to its size, is constant up to rounding in float32


def fit_surrogate(
    x: Float[Tensor, "batch size_in"], y: Float[Tensor, "batch size_out"], seed: int, progress: bool
) -> tuple[Float[Tensor, "held_out size_in"], Function, float]:
    """Fit a network to some data: the held-out inputs in float32, the function, and its mean relative_distance to y."""
    x, y = x.float(), y.float()
    train, held_out = torch.randperm(len(x), generator=seeded_generator(seed)).split(
        [int(_TRAIN_SHARE * len(x)), len(x) - int(_TRAIN_SHARE * len(x))]
    )
    (x_mean, x_scale), (y_mean, y_scale) = (_standard(part[train]) for part in (x, y))
    network = MLP(x.shape[1] * Scalar, y.shape[1] * Scalar, Trivial(1), channels=_CHANNELS, layers=_LAYERS)
    model = BayesianModel(network, RPPPrior(), Gaussian(noise_variance=_INITIAL_NOISE, learned=True))
    batch = min(_BATCH, len(train))
    settings = MAP(epochs=max(1, round(_STEPS * batch / len(train))), batch_size=batch)
    pair = ((x[train] - x_mean) / x_scale, (y[train] - y_mean) / y_scale)
    posterior = uninterrupted(settings.fit(model, pair, seed=seed, device="cpu", progress=progress))

    def surrogate(points: Tensor) -> Tensor:
        return posterior.outputs((points - x_mean) / x_scale)[0, 0] * y_scale + y_mean

    error = float(relative_distance(surrogate(x[held_out]), y[held_out]).mean())
    return x[held_out], surrogate, error


def _standard(columns: Float[Tensor, "batch size"]) -> tuple[Float[Tensor, " size"], Float[Tensor, " size"]]:
    """Mean and scale of each column; the scale of a constant one is 1."""
    scale = columns.std(0, correction=0)
    return columns.mean(0), torch.where(scale > _CONSTANT * columns.abs().amax(0), scale, torch.ones_like(scale))
