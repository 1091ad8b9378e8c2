"""Evaluating a network at many draws, and the moments of the predictive distribution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp import BayesianModel
from bayes_rpp.seeding import seeded
from bayes_rpp.types import Params
from inference.posterior.map_draws import map_draws

_ROWS_AT_ONCE = 16_384


@dataclass(frozen=True)
class Prediction:
    """The posterior predictive at a batch of inputs.

    Attributes
    ----------
    samples : noise-free outputs, (chain, draw, batch, *output); logits for a Categorical likelihood.
    mean : (batch, *output).
    epistemic : the variance, over the draws, of the conditional mean.
    aleatoric : the mean, over the draws, of the conditional variance.
    """

    samples: Float[Tensor, "chain draw batch *output"]
    mean: Float[Tensor, "batch *output"]
    epistemic: Float[Tensor, "batch *output"]
    aleatoric: Float[Tensor, "batch *output"]

    @property
    def variance(self) -> Float[Tensor, "batch *output"]:
        """The total variance, by the law of total variance."""
        return self.epistemic + self.aleatoric


@torch.no_grad()
def evaluate(model: BayesianModel, draws: Params, x: Tensor) -> Float[Tensor, "draw batch *output"]:
    """The output of every draw, some draws and some rows at a time so that memory stays bounded."""
    return map_draws(model.output, draws, input_for(model, draws, x), at_once=_ROWS_AT_ONCE)


def input_for(model: BayesianModel, draws: Params, x: Tensor) -> Tensor:
    """Inputs in the type that the network takes, with the weights that are drawn."""
    x, like = model.as_input(x), next(iter(draws.values()))
    return x.to(like.dtype) if x.is_floating_point() and not hasattr(model.network, "input_dtype") else x


def predict_gaussian(samples: Tensor, noise: Float[Tensor, "*chain_draw_outputs"]) -> Prediction:
    """Moments for y ~ N(f, noise); the noise is a number, or (chain, draw) or (chain, draw, outputs)."""
    draws = samples.flatten(0, 1)
    if noise.ndim > 1:
        between = [1] * (draws.ndim - 2)  # the batch, and all axes of an output but its last
        noise = noise.reshape(len(draws), *between, -1)
    aleatoric = noise.expand_as(draws).mean(0)
    mean = draws.mean(0)
    return Prediction(samples, mean, (draws - mean).square().mean(0), aleatoric)


def predict_categorical(samples: Tensor) -> Prediction:
    """Moments of the one-hot label under softmax(f)."""
    probabilities = samples.flatten(0, 1).softmax(-1)
    mean = probabilities.mean(0)
    aleatoric = (probabilities * (1 - probabilities)).mean(0)
    return Prediction(samples, mean, (probabilities - mean).square().mean(0), aleatoric)


def replicates(
    model: BayesianModel, outputs: Float[Tensor, "chain draw batch *output"], samples: Params, seed: int
) -> Float[Tensor, "chain draw batch *event"]:
    """One replicate of the observations for every draw: its noise-free outputs, with noise by the model's likelihood
    under the draw's own parameters, ``samples`` name -> (chain, draw, *shape).
    """
    chains, draws = outputs.shape[:2]
    with seeded(seed, torch.device("cpu")):
        rows = [
            model.likelihood.distribution(outputs[c, d], {n: v[c, d] for n, v in samples.items()}).sample()
            for c in range(chains)
            for d in range(draws)
        ]
    return torch.stack(rows).unflatten(0, (chains, draws))
