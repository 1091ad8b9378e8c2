"""The state of a training on disk, from which it is resumed with the same bits."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, Protocol, TypedDict

import torch
from torch import Tensor

from bayes_rpp.serialization.models import model_identity
from inference.checkpoint import CHECKPOINT_SECONDS, Checkpoint, digest, stage_file, start_identity
from inference.data import Model, Pair
from inference.posterior.draws import Snapshot
from inference.training.augmentation import Augmentation
from inference.training.examples import DatasetExamples
from inference.training.loop import TrainingRecord
from inference.training.minibatches import Minibatches
from inference.training.parameter_stack import ParameterStack
from inference.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

_COMPANION = "companion/"
_SECONDS_BETWEEN_FOR_EACH = 20  # that a checkpoint takes to write: a twentieth of the time at most


class _Plain(TypedDict):
    """What a checkpoint holds beside tensors."""

    steps: int
    epochs: int
    seconds: float
    failures: dict[str, int]
    history: list[int]


class Companion(Protocol):
    """What an engine learns beside the parameters."""

    def state(self) -> dict[str, Tensor]:
        """From which it goes on with the same bits."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a state; called before the parameters are restored."""


class EnsembleCheckpoint:
    """The parameters, what Adam keeps of them, the orders of the data, the ``history`` and the state of a
    ``companion``, as they are between two steps. They are written every minute, less often where that takes long, and
    when the training ends, however it does.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        stack: ParameterStack,
        minibatches: Minibatches,
        history: list[Snapshot],
        epochs: int,
        companion: Companion | None = None,
    ) -> None:
        self.checkpoint, self.stack, self.minibatches, self.history = checkpoint, stack, minibatches, history
        self.companion = companion
        self.total = epochs * len(minibatches)
        self.began = time.perf_counter()
        self._due = self.began + CHECKPOINT_SECONDS

    def restore(self, record: TrainingRecord) -> None:
        """See TrainingCheckpoint."""
        if (found := self.checkpoint.load(_Plain)) is None:
            return
        tensors, plain = found
        if self.companion is not None:
            self.companion.restore(_named(tensors, _COMPANION))
        self.stack.restore(tensors, plain["steps"])
        self.minibatches.restore(tensors, plain["steps"] // len(self.minibatches))
        record.losses, record.epochs, record.seconds = tensors["losses"].clone(), plain["epochs"], plain["seconds"]
        record.failures = {int(member): epoch for member, epoch in plain["failures"].items()}
        for index, epoch in enumerate(plain["history"]):
            samples = {name: value.clone() for name, value in _named(tensors, f"history/{index}/").items()}
            self.history.append(Snapshot(epoch, samples))
        logger.info("going on from %s, after %d steps", self.checkpoint.path, plain["steps"])

    def save_if_due(self, record: TrainingRecord) -> None:
        """See TrainingCheckpoint."""
        if time.perf_counter() > self._due:
            self.save(record)

    def save(self, record: TrainingRecord) -> None:
        """See TrainingCheckpoint."""
        began, steps = time.perf_counter(), self.stack.steps
        tensors = self.stack.state(done=steps == self.total) | self.minibatches.state(steps // len(self.minibatches))
        tensors |= {"losses": record.losses}
        if self.companion is not None:
            tensors |= {f"{_COMPANION}{name}": value for name, value in self.companion.state().items()}
        for index, snapshot in enumerate(self.history):
            tensors |= {f"history/{index}/{name}": value for name, value in snapshot.samples.items()}
        plain = {
            "steps": steps,
            "epochs": record.epochs,
            "seconds": record.seconds + began - self.began,
            "failures": record.failures,
            "history": [snapshot.epoch for snapshot in self.history],
        }
        self.checkpoint.save(tensors, plain)
        now = time.perf_counter()
        self._due = now + max(CHECKPOINT_SECONDS, _SECONDS_BETWEEN_FOR_EACH * (now - began))


def training_checkpoint(
    path: str | Path,
    engine: str,
    settings: TrainingSettings,
    model: Model,
    seed: int,
    first: int,
    pair: Pair | None,
    started: bool,
    stack: ParameterStack,
    minibatches: Minibatches,
    history: list[Snapshot],
    companion: Companion | None = None,
) -> EnsembleCheckpoint:
    """A checkpoint that only the same training resumes, from the same states if it was ``started`` from a posterior. A
    network that is not of this package is known by its modules, and by the losses of its initial states, which are
    compared up to rounding.
    """
    streamed = isinstance(minibatches.examples, DatasetExamples)  # other readings of x may give other numbers
    rounding = torch.finfo(next(iter(stack.coordinates.values())).dtype).eps
    losses = {"before_training": [] if streamed else _initial_losses(stack, pair), "within": rounding**0.5}
    constraints = model.constraints
    parameters = {name: (list(leaf.shape[1:]), str(constraints[name])) for name, leaf in stack.coordinates.items()}
    identity: dict[str, Any] = {"engine": engine, **vars(settings), "members": stack.members, "seed": seed}
    identity.pop("members_at_once", None)  # which members are in the stack says all that matters
    identity["augment"] = None if settings.augment is None else _description(settings.augment)
    identity["version of the training"] = 4  # others trained in other units, or kept other states
    if first:  # of members that are trained one after another
        identity["first member"] = first
    identity["start"] = _start(stack) if started else None
    identity["data"] = len(minibatches.examples or ()) if pair is None else digest(*pair[streamed:])
    identity["model"] = {**model_identity(model), "parameters": parameters, "losses": losses}
    return EnsembleCheckpoint(Checkpoint(path, identity), stack, minibatches, history, settings.epochs, companion)


def _named(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def at_once_of_checkpoints(path: Path | None, members: int, wanted: int | None) -> int | None:
    """How many members the run was training at a time whose checkpoints are there, or what is wanted without any.
    Raises ValueError if another number is wanted.
    """
    if path is None or not (path.exists() or stage_file(path, "0").exists()):
        return wanted
    found = members if path.exists() else Checkpoint.identity_of(stage_file(path, "0")).get("members", members)
    if wanted is not None and min(wanted, members) != found:
        raise ValueError(
            f"the checkpoint {path} is of a run that trains {found} member(s) at a time: take members_at_once={found}, "
            "or another path."
        )
    return int(found)


def _description(augment: Augmentation) -> str:
    """One that is the same in another process: a default ``repr`` holds an address."""
    text = repr(augment)
    if " at 0x" not in text:
        return text
    named = augment if hasattr(augment, "__qualname__") else type(augment)
    return f"{named.__module__}.{named.__qualname__}"


@torch.no_grad()
def _start(stack: ParameterStack) -> dict[str, Any]:
    """What tells the states of the members from others, before training."""
    return start_identity(torch.cat([leaf.flatten(1) for leaf in stack.coordinates.values()], dim=1))


@torch.no_grad()
def _initial_losses(stack: ParameterStack, pair: Pair | None, rows: int = 100) -> list[float]:
    """The loss of every member on the first examples."""
    batch = None
    if pair is not None:
        x, y = pair[0][:rows], pair[1][:rows]
        batch = x.expand(stack.members, *x.shape), y.expand(stack.members, *y.shape)
    return [float(loss) for loss in stack.losses(batch)]
