"""The loop over epochs of every engine that trains by Adam."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.types import Params
from inference.posterior.draws import Snapshot
from inference.progress import ProgressBar
from inference.training.minibatches import Minibatches
from inference.training.parameter_stack import ParameterStack, finite_members
from inference.training.settings import TrainingSettings

logger = logging.getLogger(__name__)


class TrainingCheckpoint(Protocol):
    """Where a training keeps its state, so that another one can resume it."""

    def restore(self, record: TrainingRecord) -> None:
        """Bring everything back to the state that was saved, if any was."""

    def save_if_due(self, record: TrainingRecord) -> None:
        """Write the present state, if the last one was written long enough ago; between two steps."""

    def save(self, record: TrainingRecord) -> None:
        """Write the present state."""


@dataclass
class TrainingRecord:
    """What training leaves; ``failures`` has the epoch in which a member's loss or parameters stopped being finite."""

    params: Params  # constrained parameters, name -> (member, *shape), on the CPU
    losses: Float[Tensor, " member"]  # on all data, at these parameters
    failures: dict[int, int] = field(default_factory=dict)
    epochs: int = 0  # that were completed
    interrupted: bool = False  # by Ctrl-C
    seconds: float = 0.0  # of the runs before, if this one resumes them

    def add(self, other: TrainingRecord, first: int) -> None:
        """Put the members of another record behind these, numbered from ``first`` on; without their parameters."""
        self.losses = torch.cat([self.losses, other.losses.to(self.losses)])
        self.failures |= {first + member: epoch for member, epoch in other.failures.items()}
        self.epochs, self.interrupted = other.epochs, other.interrupted
        self.seconds += other.seconds

    @property
    def all_failed(self) -> bool:
        """Whether no member is left."""
        return len(self.failures) == len(self.losses)


def train(
    stack: ParameterStack,
    minibatches: Minibatches,
    settings: TrainingSettings,
    description: str,
    progress: bool,
    before_epoch: Sequence[Callable[[int], None]] = (),
    checkpoint: TrainingCheckpoint | None = None,
) -> TrainingRecord:
    """Take the steps of all epochs, until every member has failed or an interrupt (Ctrl-C) ends it early. The functions
    ``before_epoch`` take the number of epochs done, and are called in this order before each epoch. With a checkpoint,
    training goes on from the epoch that it holds.
    """
    record = TrainingRecord({}, torch.full((stack.members,), math.inf))
    if checkpoint is not None:
        checkpoint.restore(record)
    each = len(minibatches)
    _note_epochs(record, stack, each)
    bar = ProgressBar(
        desc=description, total=settings.epochs * each, initial=stack.steps, unit="step", progress=progress
    )
    try:
        stack.prepare(settings.compile, settings.epochs * each, minibatches.example())
        for epoch in range(record.epochs, record.epochs if record.all_failed else settings.epochs):
            for prepare in before_epoch if stack.steps == epoch * each else ():
                prepare(epoch)
            for batch in minibatches.epoch(stack.steps - epoch * each):
                stack.step(batch, settings.rate(stack.steps / (settings.epochs * each)))
                bar.update()
                if checkpoint is not None:
                    checkpoint.save_if_due(record)
            _note_epochs(record, stack, each)
            if record.all_failed:
                break
    except KeyboardInterrupt:
        record.interrupted = True
        _note_epochs(record, stack, each)
        logger.warning("interrupted in epoch %d of %d; keeping what was trained.", record.epochs + 1, settings.epochs)
    finally:
        bar.close()
        if checkpoint is not None:
            checkpoint.save(record)
    record.params, record.losses = stack.params(), _losses_on_all_data(stack, minibatches)
    _note_failures(record, finite_members(record.params))
    return record


def _note_epochs(record: TrainingRecord, stack: ParameterStack, each: int) -> None:
    """Note the losses at the end of the last epoch, of ``each`` steps, if it has not been noted yet."""
    if (epochs := stack.steps // each) > record.epochs:
        record.losses, record.epochs = stack.latest.cpu(), epochs
        _note_failures(record, record.losses.isfinite().nonzero().flatten().tolist())


@torch.no_grad()
def _losses_on_all_data(stack: ParameterStack, minibatches: Minibatches) -> Float[Tensor, " member"]:
    """Batch by batch: a batch of b examples counts its likelihood N / b times, and here b / N times."""
    total = torch.zeros(stack.members, dtype=torch.float64)
    for batch in minibatches:
        share = 1.0 if batch is None else batch[0].shape[1] / stack.objective.num_data
        total += share * stack.losses(batch).cpu()
    return total


def snapshots_into(history: list[Snapshot], stack: ParameterStack, settings: TrainingSettings) -> Callable[[int], None]:
    """A function to call before each epoch: it adds snapshots, each name -> (member, *shape), when they are due."""

    def add(epoch: int) -> None:
        if epoch in settings.snapshot_epochs and epoch not in {past.epoch for past in history}:
            history.append(Snapshot(epoch, stack.params()))

    return add


def _note_failures(record: TrainingRecord, finite: list[int]) -> None:
    epoch = max(record.epochs, 1)
    for member in sorted(set(range(len(record.losses))) - set(finite) - set(record.failures)):
        record.failures[member] = epoch
        others = "; the others go on" if len(record.losses) > 1 else ""
        logger.warning("member %d diverged in epoch %d: it is not finite any more%s.", member, epoch, others)
