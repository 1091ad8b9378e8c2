"""The noise of observations, from rows that are left out."""

from __future__ import annotations

import logging
import math
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import norm
from torch import Tensor

from analysis.cli.fitting.log_levels import log_levels
from bayes_rpp import BayesianModel, Gaussian, NormalizedNetwork
from bayes_rpp.seeding import seeded_generator
from inference import DeepEnsemble
from inference.checkpoint import stage_file
from inference.data import Pair
from inference.progress import SECONDS_BETWEEN_LINES

_ASSUMED, _LEAST = 0.01, 1e-4  # of the variance of each output
_Z90 = float(norm.ppf(0.95))
_FEW = 50  # left-out rows of one ensemble
_LEFT_OUT, _MEMBERS = 0.2, 3
_NOISY = 0.1  # share of the variance that is missed, from which on the noise matters to the training

_QUIET = {"inference.training.loop": logging.ERROR}

logger = logging.getLogger(__name__)

Variance = Float[Tensor, " outputs"]


def left_out_noise(
    model: BayesianModel, train: Pair, options: Namespace, checkpoint: Path | None = None
) -> tuple[BayesianModel, BayesianModel]:
    """The model to train, and that to predict with, which differ in the variance of their Gaussian noise.

    An ensemble of three is trained for a noise of 1 % of each output's variance, on four fifths of the rows (or five
    are, where rows are few). The noise of predictions is that with which its 90 % intervals hold nine tenths of the
    others. If it misses over 10 % of their variance, a second ensemble is trained for that noise; it is the one to
    train for, too, if the second one misses less than the first. One value for each copy of a piece, as the scales are:
    another would prefer directions. Raises KeyboardInterrupt if the training of these ensembles is interrupted, which
    goes on from their checkpoints.
    """
    network = model.network
    assert isinstance(network, NormalizedNetwork)
    squares = network.outputs.scale.double().square()
    assumed = _ASSUMED * squares
    count = max(1, round(_LEFT_OUT * len(train[0])))
    if count == len(train[0]):
        return (with_noise(model, assumed),) * 2
    first, missed = _missed(with_noise(model, assumed), train, count, options, stage_file(checkpoint, "noise-1"))
    if missed <= _NOISY:
        return with_noise(model, assumed), with_noise(model, first)
    second, missed_then = _missed(with_noise(model, first), train, count, options, stage_file(checkpoint, "noise-2"))
    if missed_then < missed:
        return (with_noise(model, second),) * 2
    return with_noise(model, assumed), with_noise(model, first)


def with_noise(model: BayesianModel, variance: Variance) -> BayesianModel:
    """The model with this noise."""
    return BayesianModel(model.network, model.prior, Gaussian(tuple(variance.tolist())), model.num_outputs)


def _missed(
    model: BayesianModel, train: Pair, count: int, options: Namespace, checkpoint: Path | None
) -> tuple[Variance, float]:
    """The noise by rows that ensembles have not seen, and what share of the variance they miss there: those of one
    ensemble, or, where there are few, of five, each of which leaves out another fifth. They take as many steps as
    the training on all rows, or they would have learned less.
    """
    network, (x, y) = model.network, train
    assert isinstance(network, NormalizedNetwork)
    order = torch.randperm(len(x), generator=seeded_generator(options.seed))
    members = 1 if options.engine == "map" else min(_MEMBERS, options.members)
    steps = [math.ceil(rows / options.batch_size) for rows in (len(x), len(x) - count)]  # in an epoch
    epochs = math.ceil(options.epochs * steps[0] / steps[1])
    engine = DeepEnsemble(members=members, epochs=epochs, batch_size=options.batch_size, lr=options.lr)
    errors, spread = [], []
    parts = list(order.split(count))
    parts = parts if count < _FEW else parts[:1]
    due = time.monotonic() + SECONDS_BETWEEN_LINES
    for number, left_out in enumerate(parts):
        if time.monotonic() > due:
            logger.info("left-out rows: part %d of %d", number + 1, len(parts))
            due = time.monotonic() + SECONDS_BETWEEN_LINES
        how = {"seed": options.seed, "device": options.device, "checkpoint": stage_file(checkpoint, str(number))}
        kept = order[~torch.isin(order, left_out)]
        with log_levels(_QUIET):  # an interrupt keeps nothing here, whatever the training says
            fitted = engine.fit(model, (x[kept], y[kept]), **how)
        if fitted.interrupted:
            raise KeyboardInterrupt
        prediction = fitted.predict(x[left_out], keep_samples=False)
        errors.append((prediction.mean - y[left_out]).double().square())
        spread.append(prediction.epistemic.double())
    missed, around = torch.cat(errors), torch.cat(spread)
    squares = network.outputs.scale.double().square()
    noise = []
    for run in network.rep_out.runs:
        for first in range(run.start, run.stop, run.piece_size):
            own = slice(first, first + run.piece_size)
            found = calibrated(missed[:, own], around[:, own])
            noise.append(torch.full((run.piece_size,), found, dtype=torch.float64))
    return torch.cat(noise).clamp_min(_LEAST * squares), float((missed.mean(0) / squares).mean())


def calibrated(errors: Float[Tensor, "rows numbers"], spread: Float[Tensor, "rows numbers"]) -> float:
    """The noise variance v with which normal intervals of variance spread + v hold 90 % of new errors, by squared ones
    of n rows: the quantile of order 0.9 (n + 1) / n, since a new row is one more of them (Vovk, Gammerman & Shafer,
    2005). Errors often have heavier tails than a normal distribution, so that their variance would be too large.
    """
    needed = (errors / _Z90**2 - spread).numpy()  # the least v with which an interval holds its error
    order = min(1.0, 0.9 * (len(needed) + 1) / len(needed))
    return max(0.0, float(np.quantile(needed, order)))
