"""Evaluating a network at many draws, and the moments of the predictive distribution."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import pyro
import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp import BayesianModel, Likelihood
from bayes_rpp.seeding import seeded
from bayes_rpp.types import Params
from inference.posterior.map_draws import map_draws

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 16_384


@dataclass(frozen=True)
class Prediction:
    """The posterior predictive at a batch of inputs.

    Attributes
    ----------
    samples : noise-free outputs, (chain, draw, batch, *output); logits for a Categorical likelihood.
    mean : of an observation, (batch, *event).
    epistemic : the variance, over the draws, of the conditional mean.
    aleatoric : the mean, over the draws, of the conditional variance.
    """

    samples: Float[Tensor, "chain draw batch *output"]
    mean: Float[Tensor, "batch *event"]
    epistemic: Float[Tensor, "batch *event"]
    aleatoric: Float[Tensor, "batch *event"]

    @property
    def variance(self) -> Float[Tensor, "batch *event"]:
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


@torch.no_grad()
def predictive(
    likelihood: Likelihood, samples: Float[Tensor, "chain draw batch *output"], params: Params
) -> Prediction:
    """The moments of an observation, by the law of total variance, from outputs and the draws' own parameters, name ->
    (chain, draw, *shape). Sums are in float64. Raises TypeError if the likelihood's distribution has none.
    """
    mean, scatter, aleatoric = (torch.zeros((), dtype=torch.float64) for _ in range(3))
    draws = zip(samples.flatten(0, 1), each_draw(params), strict=True)
    for count, (output, own) in enumerate(draws, start=1):
        center, spread = (moment.double() for moment in moments(likelihood, output, own))
        away = center - mean
        mean = mean + away / count
        scatter, aleatoric = scatter + away * (center - mean), aleatoric + spread
    if aleatoric.isinf().any() and samples.isfinite().all():
        logger.warning(
            "the variance of an observation is infinite under %r, and so is that of predictions.", likelihood
        )
    return Prediction(samples, *(part.to(samples.dtype) for part in (mean, scatter / count, aleatoric / count)))


def moments(
    likelihood: Likelihood, output: Float[Tensor, "batch *output"], params: Params
) -> tuple[Float[Tensor, "batch *event"], Float[Tensor, "batch *event"]]:
    """Mean and variance of an observation, given outputs; raises TypeError if its distribution has none."""
    with pyro.validation_enabled(False):
        law = likelihood.distribution(output, params)
    try:
        found = law.mean, law.variance
    except NotImplementedError:
        found = (output.new_tensor(torch.nan),) * 2
    for name, value in zip(("mean", "variance"), found, strict=True):
        if value.isnan().any() and output.isfinite().all():
            raise TypeError(
                f"an observation has no {name} under {likelihood!r}, as far as its distribution, a "
                f"{type(law).__name__}, says; `outputs` has the network's own outputs."
            )
    return found


def prediction_errors(mean: Tensor, y: Tensor) -> dict[str, float]:
    """How far the mean of observations is from them: "mse", the mean square over examples and outputs; or "error", the
    share that is wrong if y are labels, and the mean has a probability for each. Empty if it is neither.
    """
    if mean.shape == y.shape:
        return {"mse": float((mean.double() - y.double()).square().mean())}
    if mean.shape[:-1] == y.shape:
        return {"error": float((mean.argmax(-1) != y).double().mean())}
    return {}


def each_draw(params: Params) -> Iterator[Params]:
    """The parameters of each draw, in the order of their chains."""
    flat = {name: value.flatten(0, 1) for name, value in params.items()}
    return ({name: value[index] for name, value in flat.items()} for index in range(len(next(iter(flat.values())))))


def replicates(
    model: BayesianModel, outputs: Float[Tensor, "chain draw batch *output"], samples: Params, seed: int
) -> Float[Tensor, "chain draw batch *event"]:
    """One replicate of the observations for every draw: its noise-free outputs, with noise by the model's likelihood
    under the draw's own parameters, ``samples`` name -> (chain, draw, *shape).
    """
    draws = zip(outputs.flatten(0, 1), each_draw(samples), strict=True)
    with seeded(seed, torch.device("cpu")):
        rows = [model.likelihood.distribution(output, own).sample() for output, own in draws]
    return torch.stack(rows).unflatten(0, outputs.shape[:2])
