"""Gradient training of many members at once: one stack of parameters, one optimiser, one graph."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm import tqdm

from bayes_rpp.types import Params
from inference.data import Model, Pair
from inference.progress import off_unless
from inference.training.batches import batches, batches_per_epoch
from inference.training.member_stack import MemberStack
from inference.training.settings import Settings, snapshot_epochs

logger = logging.getLogger(__name__)


@dataclass
class Trained:
    """What training leaves: constrained parameters with a leading member dimension, and a record of each member."""

    params: Params
    snapshots: list[tuple[int, Params]]
    loss: Tensor
    failures: dict[int, int] = field(default_factory=dict)  # member -> the epoch in which its loss stopped being finite
    epochs: int = 0


def train(
    model: Model, pair: Pair | None, settings: Settings, seeds: list[int], device: torch.device, progress: bool
) -> Trained:
    """Minimise -log joint / N for every seed at once by Adam.

    Every member has its own initial state and its own order of the examples. An interrupt (Ctrl-C) ends training early
    and keeps what there is.
    """
    stack = MemberStack(model, seeds, settings.lr, device)
    result = Trained({}, [], torch.full((len(seeds),), math.inf), {})
    when = snapshot_epochs(settings)
    steps, step = settings.epochs * batches_per_epoch(pair, settings), 0
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    try:
        for epoch in tqdm(
            range(settings.epochs), desc=f"training {len(seeds)} member(s)", unit="epoch", disable=off_unless(progress)
        ):
            if epoch in when:
                result.snapshots.append((epoch, stack.params()))
            for batch in batches(pair, settings, generators, device):
                stack.optimizer.param_groups[0]["lr"] = settings.rate(step / steps)
                losses = stack.step(batch, 0 if pair is None else len(pair[0]))
                step += 1
            result.loss = losses.cpu()
            _note_failures(result, ~losses.isfinite(), epoch + 1)
            result.epochs = epoch + 1
            if len(result.failures) == len(seeds):
                break
    except KeyboardInterrupt:
        logger.warning("interrupted in epoch %d of %d; keeping what was trained.", result.epochs + 1, settings.epochs)
    result.params = stack.params()
    finite = torch.stack([value.reshape(len(seeds), -1).isfinite().all(1) for value in result.params.values()]).all(0)
    _note_failures(result, ~finite, max(result.epochs, 1))
    return result


def _note_failures(result: Trained, failed: Tensor, epoch: int) -> None:
    for member in failed.nonzero().flatten().tolist():
        if member not in result.failures:
            result.failures[member] = epoch
            others = "; the others go on" if len(failed) > 1 else ""
            logger.warning("member %d diverged in epoch %d: it is not finite any more%s.", member, epoch, others)
