"""The training of the command, and which options decide its result."""

from __future__ import annotations

import logging
import platform
from argparse import Namespace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from analysis.cli.fitting.engines import Engine, learned_prior
from analysis.cli.fitting.noise import left_out_noise
from bayes_rpp import BayesianModel, Gaussian
from inference import Posterior
from inference.data import Pair

logger = logging.getLogger(__name__)

_OF_NOISE = {"hmc", "laplace", "empirical-bayes"}  # engines whose posterior is as wide as the noise says


def train(
    engine: Engine, model: BayesianModel, data: Pair, options: Namespace, table: dict[str, Any], checkpoint: Path
) -> Posterior:
    """Fit, and note among the ``stats`` what the columns of the user's table are called. Without a noise among the
    options, it is taken from left-out rows; engines other than ensembles, whose width rests on it, are given it for
    the training too.
    """
    trained = predicting = model
    if table and isinstance(model.likelihood, Gaussian) and options.noise_variance is None:
        logger.info("estimating the noise from rows that a first ensemble has not seen")
        trained, predicting = left_out_noise(model, data, options, checkpoint)
        trained = predicting if options.engine in _OF_NOISE else trained
    variances = None
    if options.prior == "learned" and options.engine != "empirical-bayes":
        logger.info("learning the prior variances by the evidence")
        learned = learned_prior(trained, data, options, checkpoint)
        if learned.interrupted:
            return _noted(learned, trained, predicting, table, options)
        variances = learned.stats["variances"]
        trained = _with_prior(trained, learned.bayesian_model)
        predicting = _with_prior(predicting, learned.bayesian_model)
    posterior = engine.fit(trained, data, options, checkpoint)
    if variances is not None:
        posterior.stats["variances"] = variances
    return _noted(posterior, trained, predicting, table, options)


def _with_prior(model: BayesianModel, other: BayesianModel) -> BayesianModel:
    return BayesianModel(model.network, other.prior, model.likelihood, model.num_outputs)


def _noted(
    posterior: Posterior,
    trained: BayesianModel,
    predicting: BayesianModel,
    table: dict[str, Any],
    options: Namespace,
) -> Posterior:
    posterior.stats["table"] = table
    posterior.stats["made_by"] = {"command": options.words, "versions": _versions()}
    if predicting is not trained:
        assert isinstance(trained.likelihood, Gaussian)
        posterior.stats["training_noise_variance"] = torch.as_tensor(trained.likelihood.noise_variance).tolist()
        posterior.model = _with_prior(predicting, posterior.bayesian_model)
    return posterior


def _versions() -> dict[str, str]:
    names = ("bayes_rpp", "torch", "pyro-ppl", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def deciding(options: Namespace) -> dict[str, Any]:
    """The options that decide the result, by the names that the user gives them; the data have a digest instead."""
    others = {"command", "data", "test", "out", "force", "resume", "device", "json", "words"}
    return {f"--{name.replace('_', '-')}": value for name, value in vars(options).items() if name not in others}
