"""Engines by the options of the command."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any, NamedTuple

from bayes_rpp import BayesianModel
from inference import HMC, MAP, DeepEnsemble, EmpiricalBayes, Laplace, Posterior
from inference.checkpoint import stage_file
from inference.data import Pair

_LEARNING_MEMBERS = 3  # whose evidences choose the variances


class Engine(NamedTuple):
    """What trains networks, and what begins there, if anything does."""

    training: DeepEnsemble | MAP | EmpiricalBayes
    then: Laplace | HMC | None

    @property
    def draws(self) -> int:
        """How many there will be."""
        first = getattr(self.training, "members", 1)
        return first * (1 + self.training.snapshots) if self.then is None else self.then.draws * first

    def fit(self, model: BayesianModel, data: Pair, options: Namespace, checkpoint: Path) -> Posterior:
        """Fit in stages. A training that is interrupted is returned as far as it is."""
        how: dict[str, Any] = {"seed": options.seed, "device": options.device}
        if self.then is None:
            return self.training.fit(model, data, **how, checkpoint=checkpoint)
        start = self.training.fit(model, data, **how, checkpoint=stage_file(checkpoint, "start"))
        if start.interrupted:
            return start
        if isinstance(self.then, Laplace):
            return self.then.fit(model, data, **how, start=start)
        return self.then.fit(model, data, **how, start=start, checkpoint=checkpoint)


def engine_of(options: Namespace, snapshots: int = 0) -> Engine:
    """The engine of the options: a Laplace approximation of the last layer, about a mode; chains of HMC, one from each
    member of an ensemble. Raises ValueError for a number that is not positive.
    """
    training = _training(options) | {"snapshots": snapshots}
    if options.engine == "empirical-bayes":
        return Engine(EmpiricalBayes(members=options.members, **training), None)
    if options.engine == "map":
        return Engine(MAP(**training), None)
    if options.engine == "laplace":
        return Engine(MAP(**training), Laplace("last_layer", draws=options.draws))
    then = None
    if options.engine == "hmc":
        then = HMC(chains=options.members, draws=options.draws, warmup=options.warmup)
    return Engine(DeepEnsemble(members=options.members, **training), then)


def learned_prior(model: BayesianModel, data: Pair, options: Namespace, checkpoint: Path) -> Posterior:
    """Networks under the prior variances that the evidence of the data chooses, see EmpiricalBayes."""
    engine = EmpiricalBayes(members=min(_LEARNING_MEMBERS, options.members), **_training(options))
    own = stage_file(checkpoint, "prior")
    return engine.fit(model, data, seed=options.seed, device=options.device, checkpoint=own)


def _training(options: Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("epochs", "batch_size", "lr")}


def size_of(model: BayesianModel, engine: Engine) -> int:
    """The bytes of the draws, of the training's weights, and of a checkpoint, which has two moments for every parameter
    and the history.
    """
    one = sum(value.numel() * value.element_size() for value in model.initial_params(0).values())
    members = getattr(engine.training, "members", 1)
    return (members * (3 + engine.training.snapshots) + engine.draws) * one
