"""From a model and data to a posterior of trained modes: what MAP and DeepEnsemble share."""

from __future__ import annotations

import logging
import math
import time

import torch

from bayes_rpp.types import Params
from inference.data import Data, Model, Pair, resolve_data, resolve_device
from inference.hyperprior_refusal import refuse_hyperpriors
from inference.posterior.draws import Snapshot
from inference.posterior.posterior import Posterior
from inference.settings import plain_seed
from inference.training.batches import member_seeds
from inference.training.loop import Trained, train
from inference.training.settings import Settings

logger = logging.getLogger(__name__)


def fit_modes(
    model: Model,
    data: Data,
    settings: Settings,
    members: int,
    seed: int,
    device: str | torch.device,
    progress: bool,
    engine: str,
) -> Posterior:
    """Check the model and the data, train, and leave out the members that diverged; RuntimeError if that is all."""
    refuse_hyperpriors(engine, model)
    seed, pair = plain_seed(seed), resolve_data(model, data)
    started = time.perf_counter()
    trained = train(model, pair, settings, member_seeds(seed, members), resolve_device(device), progress)
    if len(trained.failures) == members:
        raise RuntimeError(
            f"all {members} member(s) diverged, in epoch(s) {sorted(set(trained.failures.values()))}; "
            f"try a smaller lr than {settings.lr}, or standardise the data with NormalizedNetwork.fit."
        )
    return _as_posterior(model, pair, trained, engine, seed, time.perf_counter() - started)


def _as_posterior(
    model: Model, pair: Pair | None, trained: Trained, engine: str, seed: int, seconds: float
) -> Posterior:
    members = len(trained.loss)
    kept = [member for member in range(members) if member not in trained.failures]

    def chains(params: Params) -> Params:
        return {name: value[kept].unsqueeze(1) for name, value in params.items()}

    stats = {
        "engine": engine,
        "seed": seed,
        "epochs": trained.epochs,
        "seconds": round(seconds, 3),
        "loss": [loss if math.isfinite(loss) else None for loss in trained.loss[kept].tolist()],
        "diverged": {str(member): epoch for member, epoch in trained.failures.items()},
    }
    history = [Snapshot(epoch, chains(params)) for epoch, params in trained.snapshots]
    logger.info("%s: %d of %d member(s) in %.1f s", engine, len(kept), members, seconds)
    return Posterior(model=model, samples=chains(trained.params), stats=stats, history=history, data=pair)
