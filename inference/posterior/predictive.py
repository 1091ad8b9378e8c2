"""Evaluating a network at many draws, and the moments of the predictive distribution."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import chain
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp import BayesianModel, Likelihood, LogDensity
from bayes_rpp.seeding import seeded
from bayes_rpp.types import Params
from bayes_rpp.validation import without_validation
from inference.data import Model, Pair
from inference.memory import Cost, slices_that_fit
from inference.posterior.map_draws import (
    Piece,
    assembled,
    count_draws,
    in_pieces,
    map_draws,
    map_draws_in_pieces,
    stacked,
)
from inference.posterior.prediction import Prediction
from inference.posterior.streaming_moments import StreamingMoments

logger = logging.getLogger(__name__)

Outputs = Iterable[tuple[Piece, Float[Tensor, "draw rows *output"]]]

_costs: WeakKeyDictionary[BayesianModel, dict[tuple[object, ...], Cost]] = WeakKeyDictionary()


def output_cost(model: BayesianModel, draws: Params, x: Tensor) -> Cost:
    """The cost of an output, measured once for a model and a shape of its inputs, ``x`` in the type that it takes."""
    if not len(x):
        return Cost(0)
    first = {name: value[0] for name, value in draws.items()}
    key = (x.dtype, x.shape[1:], next(iter(first.values())).dtype)
    costs = _costs.setdefault(model, {})
    if key not in costs:
        costs[key] = Cost.measured(lambda rows: model.output(first, rows), x)
    return costs[key]


@torch.no_grad()
def outputs_in_pieces(
    model: BayesianModel, draws: Params, x: Tensor, what: str = "predicting"
) -> Iterator[tuple[Piece, Float[Tensor, "draw rows *output"]]]:
    """The outputs, piece by piece."""
    x = input_for(model, draws, x)
    for piece in in_pieces(draws, [slice(0, len(x))], output_cost(model, draws, x), what):
        yield piece, piece.map(model.output, x[piece.rows])


def evaluate(model: BayesianModel, draws: Params, x: Tensor) -> Float[Tensor, "draw batch *output"]:
    """The output of every draw, some draws and some rows at a time so that memory stays bounded."""
    return assembled(outputs_in_pieces(model, draws, x), count_draws(draws), len(x))


def input_for(model: BayesianModel, draws: Params, x: Tensor) -> Tensor:
    """Inputs in the type that the network takes, with the weights that are drawn."""
    x, like = model.as_input(x), next(iter(draws.values()))
    return x.to(like.dtype) if x.is_floating_point() and not hasattr(model.network, "input_dtype") else x


@torch.no_grad()
def predictive(
    likelihood: Likelihood, outputs: Outputs, samples_of: Params, rows: int, keep_samples: bool = True
) -> Prediction:
    """The moments of an observation, by the law of total variance, from outputs that come in pieces, with the draws'
    own parameters, name -> (chain, draw, *shape). Sums are in float64. Raises TypeError if the likelihood's
    distribution has no moments.
    """
    chains, draws = next(iter(samples_of.values())).shape[:2]
    noise = {name: samples_of[name] for name in likelihood.constraints()}
    found: dict[int, _Moments] = {}

    def noted() -> Iterator[tuple[Piece, Tensor]]:
        for piece, output in outputs:
            found.setdefault(piece.rows.start, _Moments(likelihood)).add(output, piece.params)
            yield piece, output

    samples = None
    if keep_samples:
        samples = assembled(noted(), chains * draws, rows).unflatten(0, (chains, draws))
    else:
        for _ in noted():
            pass
    parts = list(zip(*(some.parts() for some in found.values()), strict=True))
    if any(some.infinite for some in found.values()):
        logger.warning(
            "the variance of an observation is infinite under %r, and so is that of predictions.", likelihood
        )
    mean, epistemic, aleatoric = (torch.cat(part) for part in parts)
    return Prediction(samples, mean, epistemic, aleatoric, likelihood, noise)


class _Moments:
    """Of some rows: over the draws, the moments of the conditional mean, and the mean of the conditional variance."""

    def __init__(self, likelihood: Likelihood) -> None:
        self.likelihood, self.means, self.finite = likelihood, StreamingMoments(), True
        self.spread = torch.zeros((), dtype=torch.float64)

    def add(self, outputs: Float[Tensor, "draw rows *output"], params: Params) -> None:
        """Take in some draws."""
        pairs = [moments(self.likelihood, *drawn) for drawn in zip(outputs, each_draw(params), strict=True)]
        self.means.add(torch.stack([mean for mean, _ in pairs]))
        for _, variance in pairs:
            self.spread = self.spread + variance
        self.finite, self.dtype = self.finite and bool(outputs.isfinite().all()), outputs.dtype

    @property
    def infinite(self) -> bool:
        """Whether finite outputs have an infinite variance."""
        return self.finite and bool(self.spread.isinf().any())

    def parts(self) -> list[Float[Tensor, "rows *event"]]:
        """Mean, epistemic and aleatoric variance, in the type of the outputs."""
        parts = self.means.mean, self.means.variance, self.spread / self.means.count
        return [part.to(self.dtype) for part in parts]


def moments(
    likelihood: Likelihood, output: Float[Tensor, "batch *output"], params: Params
) -> tuple[Float[Tensor, "batch *event"], Float[Tensor, "batch *event"]]:
    """Mean and variance of an observation, given outputs; raises TypeError if its distribution has none."""
    with without_validation():
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


def each_draw(draws: Params) -> Iterator[Params]:
    """The parameters of each draw, of draws name -> (draw, *shape)."""
    return ({name: value[index] for name, value in draws.items()} for index in range(count_draws(draws)))


@torch.no_grad()
def log_likelihoods(
    model: BayesianModel, draws: Params, x: Tensor, y: Tensor
) -> Iterator[tuple[Piece, Float[Tensor, "draw rows"]]]:
    """log p(y_i | x_i, theta) of every draw and example, piece by piece."""

    def of_draw(drawn: tuple[Params, Tensor], observed: Tensor) -> Tensor:
        params, output = drawn
        return model.log_likelihood_of_outputs(output, observed, params)

    for piece, outputs in outputs_in_pieces(model, draws, x, "log likelihoods"):
        with without_validation():
            values = map_draws(of_draw, (piece.params, outputs), y[piece.rows])
        yield piece, values


def replicates(model: BayesianModel, draws: Params, x: Tensor, seed: int) -> Float[Tensor, "draw batch *event"]:
    """One replicate of the observations for every draw: its noise-free outputs, with noise by the model's likelihood
    under the draw's own parameters, ``draws`` name -> (draw, *shape).
    """
    count, first = count_draws(draws), {name: value[:1] for name, value in draws.items()}
    size = evaluate(model, first, x[:1]).nbytes * len(x)

    def of_draws(some: slice) -> Iterator[Tensor]:
        own = {name: value[some] for name, value in draws.items()}
        for output, params in zip(evaluate(model, own, x), each_draw(own), strict=True):
            yield model.likelihood.distribution(output, params).sample()

    with seeded(seed, torch.device("cpu")):
        samples = chain.from_iterable(of_draws(some) for some in slices_that_fit(slice(0, count), size))
        return stacked(samples, count)


@torch.no_grad()
def log_joints(model: Model, draws: Params, pair: Pair | None) -> Float[Tensor, " draw"]:
    """The log joint of every draw."""
    with without_validation():
        if pair is None or isinstance(model, LogDensity):
            return map_draws_in_pieces(model.log_joint, draws, "log joint")
        prior = map_draws_in_pieces(model.log_prior, draws, "log prior")
    likelihood = torch.zeros(len(prior), dtype=torch.float64)
    for piece, values in log_likelihoods(model, draws, *pair):
        likelihood[piece.draws] += values.double().sum(1)
    return prior + likelihood.to(prior.dtype)
