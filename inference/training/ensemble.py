"""Deep ensembles: many modes of the posterior, by Adam from many initial states.

theta_m minimises -log p(y, theta | x) / N from its own initial state, no wider than the prior, and its own order of the
data (Lakshminarayanan, Pritzel & Blundell, NeurIPS 2017). The members are modes: a proxy of the posterior, no draws
from it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from bayes_rpp.seeding import plain_seed
from bayes_rpp.types import Params
from inference.checkpoint import stage_file
from inference.data import Data, Model, Pair, refuse_hyperpriors, resolve_device
from inference.engine_fit import engine_fit
from inference.posterior.draws import Snapshot
from inference.posterior.files import check_replaceable
from inference.posterior.posterior import Posterior
from inference.settings import require_integers
from inference.training.checkpoint import at_once_of_checkpoints, training_checkpoint
from inference.training.examples import Examples, resolve_examples
from inference.training.loop import TrainingCheckpoint, TrainingRecord, snapshots_into, train
from inference.training.member_starts import check_member_starts, member_starts
from inference.training.member_store import MemberStore
from inference.training.members_at_once import members_at_once
from inference.training.minibatches import Minibatches, member_seeds
from inference.training.parameter_stack import ParameterStack, joint_stack
from inference.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

MakeCheckpoint = Callable[[ParameterStack, Minibatches, list[Snapshot]], TrainingCheckpoint]


@dataclass(frozen=True)
class DeepEnsemble(TrainingSettings):
    """Many modes at once: the members' parameters are stacked, and one graph trains them all.

    Parameters
    ----------
    members : how many.
    members_at_once : how many of them are trained together; "auto" takes all, or as many as the free memory takes, and
        says how much that is where it cannot take all. The results differ by rounding.
    epochs : passes through the data.
    batch_size : examples a step; None takes all.
    lr : Adam's learning rate: about the size of its first steps, in units of ten prior standard deviations of a weight,
        at most one.
    schedule : "constant", or "cosine" from lr down to zero.
    snapshots : how many intermediate states to keep in the posterior's history, evenly spread over the epochs.
    compile : whether to compile the gradient by torch.compile, which takes seconds to minutes: "auto" does where the
        run is long enough to pay for it, by an estimate from the operations of one step that is the same on every
        machine. Without a C++ compiler, or for a network that cannot be compiled, the run goes on without, with a
        warning. The same seed gives the same bits with the same setting.
    augment : what to change of the inputs of each batch at random, such as ``FlipsAndCrops()``; None for nothing.
    bfloat16 : whether to round the products of matrices and convolutions to bfloat16, which is several times as fast on
        GPUs that have it. Parameters, the prior and the likelihood keep their type.

    Examples
    --------
    >>> posterior = DeepEnsemble(members=10, epochs=500, lr=3e-3).fit(model, data.train, seed=0)
    """

    members: int = 10
    members_at_once: int | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        require_integers(self, members=1)
        if self.members_at_once != "auto":
            require_integers(self, members_at_once=1)
        super().__post_init__()

    @engine_fit
    def fit(
        self,
        model: Model,
        data: Data,
        *,
        seed: int,
        device: str | torch.device = "auto",
        progress: bool = True,
        start: Posterior | None = None,
        checkpoint: str | Path | None = None,
        save_to: str | Path | None = None,
    ) -> Posterior:
        """Train, and return the members as a posterior of as many chains with one draw each.

        A member whose loss stops being finite is reported and left out. Ctrl-C ends training early and keeps what
        there is: ``stats`` have "interrupted" then.

        Parameters
        ----------
        model : a BayesianModel, or a LogDensity with data=None.
        data : (x, y) as tensors or arrays, or a map-style Dataset of such pairs, which is read anew in every epoch, so
            that it may change its examples at random. The posterior keeps one reading of it as its ``data``, unless
            that takes more than half of the free memory.
        seed : members take seeds derived from it; the same seed gives the same bits.
        device : "auto" takes an accelerator if there is one.
        progress : whether to show a progress bar, in a terminal.
        start : a posterior to start from, with as many chains as there are members: each member starts from the last
            draw of its chain, under a new learning-rate schedule. None takes the model's initial states.
        checkpoint : a file that the state of the training is written to every minute, on Ctrl-C and at the end. If it
            exists, the training goes on from there, and ends with the same bits as one without a break. Members that
            are trained one after another have a file each, with a number behind the name.
        save_to : a folder to save the posterior to, see ``Posterior.save``, for members that are large: they are put
            into a file as they finish, and the posterior that is returned reads them from the folder when they are
            used.

        Raises
        ------
        ValueError, TypeError
            If the data are missing or refused, ``start`` is of another model or of another number of chains, the
            checkpoint is of another run, or variances have hyperpriors: the joint density has no maximum then.
        RuntimeError
            If every member diverged.
        """
        own = self.members, None if self.members_at_once == "auto" else self.members_at_once
        files = None if checkpoint is None else Path(checkpoint), None if save_to is None else Path(save_to)
        return fit_modes("DeepEnsemble", self, *own, model, data, seed, device, progress, start, *files)


def fit_modes(
    engine: str,
    settings: TrainingSettings,
    members: int,
    at_once: int | None,
    model: Model,
    data: Data,
    seed: int,
    device: str | torch.device,
    progress: bool,
    start: Posterior | None,
    checkpoint: Path | None,
    save_to: Path | None,
) -> Posterior:
    """Check the model and the data, train, and leave out the members that diverged; RuntimeError if that is all."""
    refuse_hyperpriors(engine, model)
    if save_to is not None:
        check_replaceable(save_to)
        if checkpoint is not None and save_to.resolve() in checkpoint.resolve().parents:
            raise ValueError(f"the checkpoint {checkpoint} must not lie in save_to={save_to}, a folder of its own.")
    seed, place, began = plain_seed(seed), resolve_device(device), time.perf_counter()
    pair, examples = resolve_examples(model, data, place)
    check_member_starts(model, start, members)
    seeds = member_seeds(seed, members)
    at_once = at_once_of_checkpoints(checkpoint, members, at_once)
    if at_once is None:
        at_once = members_at_once(
            settings, model, seeds, Minibatches(examples, settings.batch_size, seeds, place), place
        )
    kept = MemberStore(members, None if save_to is None else save_to.parent)
    whole, history = TrainingRecord({}, torch.empty(0)), []
    for first in range(0, members, at_once):
        some = seeds[first : first + at_once]
        resumed = None
        if checkpoint is not None:
            own = stage_file(checkpoint, "" if at_once >= members else str(first))  # by the first of them
            resumed = partial(training_checkpoint, own, engine, settings, model, seed, first, pair, start is not None)
        numbers = range(first, first + len(some))
        starts = None if start is None else member_starts(model, start, numbers)
        trained, snapshots = train_modes(settings, model, examples, some, place, progress, resumed, starts)
        whole.add(trained, first)
        kept.add(trained.params)
        history.append(snapshots)
        if trained.interrupted:
            break
    if whole.all_failed:
        raise RuntimeError(
            f"all {len(whole.losses)} member(s) diverged, in epoch(s) {sorted(set(whole.failures.values()))}; "
            f"try a smaller lr than {settings.lr}, or standardise the data with NormalizedNetwork.fit."
        )
    good = [member for member in range(kept.filled) if member not in whole.failures]
    seconds = whole.seconds + time.perf_counter() - began
    stats = {
        "engine": engine,
        "seed": seed,
        "epochs": whole.epochs,
        "seconds": round(seconds, 3),
        "loss": [loss if math.isfinite(loss) else None for loss in whole.losses[good].tolist()],
        "diverged": {str(member): epoch for member, epoch in whole.failures.items()},
        **({"interrupted": True} if whole.interrupted else {}),
    }
    logger.info("%s: %d of %d member(s) in %.1f s", engine, len(good), members, seconds)
    posterior = Posterior(model, as_chains(kept.samples, good), stats, joined_history(history, good), pair)
    if save_to is None:
        return posterior
    posterior.save(save_to)
    return Posterior.load(save_to, model)


def train_modes(
    settings: TrainingSettings,
    model: Model,
    data: Pair | Examples | None,
    seeds: list[int],
    device: torch.device,
    progress: bool,
    checkpoint: MakeCheckpoint | None = None,
    starts: Params | None = None,
) -> tuple[TrainingRecord, list[Snapshot]]:
    """Minimise -log joint / N for every seed at once; each has its own order of the data, and its own initial state,
    unless ``starts`` are given.
    """
    history: list[Snapshot] = []
    minibatches = Minibatches(data, settings.batch_size, seeds, device, augment=settings.augment)
    count = 0 if minibatches.examples is None else len(minibatches.examples)
    stack = joint_stack(model, seeds, count, device, settings.bfloat16, starts)
    name = f"training {len(seeds)} member(s)"
    resumed = None if checkpoint is None else checkpoint(stack, minibatches, history)
    trained = train(stack, minibatches, settings, name, progress, [snapshots_into(history, stack, settings)], resumed)
    return trained, history


def joined_history(parts: list[list[Snapshot]], members: list[int]) -> list[Snapshot]:
    """The snapshots of members that were trained one after another, where all of them have one."""
    joined = []
    for same in zip(*parts, strict=False):
        samples = {name: torch.cat([past.samples[name] for past in same]) for name in same[0].samples}
        joined.append(Snapshot(same[0].epoch, as_chains(samples, members)))
    return joined


def as_chains(params: Params, members: list[int]) -> Params:
    """Some members of a stack, as chains of one draw each; without a copy if they are the first ones."""
    first = members == list(range(len(members)))
    chosen = {name: value[: len(members)] if first else value[members] for name, value in params.items()}
    return {name: value.unsqueeze(1) for name, value in chosen.items()}
