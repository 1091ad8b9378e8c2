"""Engines by the options of the command, and which options decide a result."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

from analysis.cli.fitting.noise import left_out_noise
from bayes_rpp import BayesianModel, Gaussian
from inference import MAP, DeepEnsemble, Posterior
from inference.data import Pair


def engine_of(options: Namespace, kind: str, snapshots: int = 0) -> DeepEnsemble | MAP:
    """The engine of this kind, "ensemble" or "map"."""
    training = {name: getattr(options, name) for name in ("epochs", "batch_size", "lr")} | {"snapshots": snapshots}
    return MAP(**training) if kind == "map" else DeepEnsemble(members=options.members, **training)


def train(
    engine: DeepEnsemble | MAP,
    model: BayesianModel,
    data: Pair,
    options: Namespace,
    table: dict[str, Any],
    checkpoint: Path,
) -> Posterior:
    """Fit, and note among the ``stats`` what the columns of the user's table are called. Without a noise among the
    options, it is taken from left-out rows.
    """
    trained = predicting = model
    if getattr(options, "noise_variance", None) is None and table and not table["classes"]:
        trained, predicting = left_out_noise(model, data, options)
    posterior = engine.fit(trained, data, seed=options.seed, device=options.device, checkpoint=checkpoint)
    posterior.stats["table"] = table
    if predicting is not trained:
        assert isinstance(trained.likelihood, Gaussian)
        posterior.stats["training_noise_variance"] = torch.as_tensor(trained.likelihood.noise_variance).tolist()
        posterior.model = predicting
    return posterior


def deciding(options: Namespace) -> dict[str, Any]:
    """The options that decide the result, by the names that the user gives them; the data have a digest instead."""
    others = {"command", "data", "test", "out", "force", "resume", "device"}
    return {f"--{name.replace('_', '-')}": value for name, value in vars(options).items() if name not in others}


def size_of(model: BayesianModel, engine: DeepEnsemble | MAP) -> int:
    """The bytes of the members and of a checkpoint, which has two moments for every parameter."""
    one = sum(value.numel() * value.element_size() for value in model.initial_params(0).values())
    return getattr(engine, "members", 1) * (4 + 2 * engine.snapshots) * one
