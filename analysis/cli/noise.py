"""The noise of observations, from rows that are left out."""

from __future__ import annotations

from argparse import Namespace

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.cli.training import engine_of
from bayes_rpp import BayesianModel, Gaussian, NormalizedNetwork
from bayes_rpp.seeding import seeded_generator
from inference.data import Pair

_FIRST, _LEAST = 0.01, 1e-4  # of the variance of each output
_LEFT_OUT, _ROUNDS = 0.2, 2


def left_out_noise(model: BayesianModel, train: Pair, options: Namespace) -> BayesianModel:
    """The model with a Gaussian noise whose variance is the mean square error of a single network on a fifth of the
    rows, which it has not seen. That network is fitted twice: for a noise of 1 % of each output's variance, and for
    what comes of it. One value for each copy of a piece, as the scales are: another would prefer directions.
    """
    network = model.network
    assert isinstance(network, NormalizedNetwork)
    x, y = train
    scale = network.outputs.scale.double()
    noise = _FIRST * scale.square()
    count = max(1, round(_LEFT_OUT * len(x)))
    if count == len(x):
        return replace_noise(model, noise)
    order = torch.randperm(len(x), generator=seeded_generator(options.seed))
    left_out, kept = order[:count], order[count:]
    for _ in range(_ROUNDS):
        fitted = engine_of(options, "map").fit(
            replace_noise(model, noise), (x[kept], y[kept]), seed=options.seed, device=options.device
        )
        error = (fitted.predict(x[left_out]).mean - y[left_out]).double().square().mean(0)
        noise = _each_copy(network, error).clamp_min(_LEAST * scale.square())
    return replace_noise(model, noise)


def replace_noise(model: BayesianModel, variance: Float[Tensor, " outputs"]) -> BayesianModel:
    """The model with this noise."""
    return BayesianModel(model.network, model.prior, Gaussian(tuple(variance.tolist())), model.num_outputs)


def _each_copy(network: NormalizedNetwork, values: Float[Tensor, " outputs"]) -> Float[Tensor, " outputs"]:
    """Means over the coordinates of each copy of a piece."""
    means = []
    for run in network.rep_out.runs:
        copies = values[run.start : run.stop].unflatten(0, (run.multiplicity, run.piece_size)).mean(1)
        means.append(copies.repeat_interleave(run.piece_size))
    return torch.cat(means)
