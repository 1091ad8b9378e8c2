"""Gradient training of many members at once: one stack of parameters, one optimiser, one graph."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from bayes_rpp import BayesianModel
from bayes_rpp.types import Params
from inference.chain_settings import require_integers
from inference.data import Model, Pair
from inference.transforms import to_constrained, to_free

logger = logging.getLogger(__name__)

Schedule = Literal["constant", "cosine"]


@dataclass(frozen=True)
class Settings:
    """How to train: what MAP and DeepEnsemble are made of.

    Parameters
    ----------
    epochs : passes through the data.
    batch_size : examples a step; None takes all.
    lr : Adam's learning rate.
    schedule : "constant", or "cosine" from lr down to zero.
    snapshots : how many intermediate states to keep in the posterior's history, evenly spread over the epochs.
    """

    epochs: int = 500
    batch_size: int | None = 500
    lr: float = 3e-3
    schedule: Schedule = "cosine"
    snapshots: int = 0

    def __post_init__(self) -> None:
        require_integers(self, epochs=1, snapshots=0)
        if self.batch_size is not None:
            require_integers(self, batch_size=1)
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise ValueError(f"lr must be positive and finite, got {self.lr}.")
        if self.snapshots and self.snapshots >= self.epochs:
            raise ValueError(f"snapshots = {self.snapshots} must be fewer than epochs = {self.epochs}.")
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(f"schedule must be 'constant' or 'cosine', got {self.schedule!r}.")

    def rate(self, share: float) -> float:
        """The learning rate after this share of the training."""
        return self.lr * cosine(share) if self.schedule == "cosine" else self.lr


@dataclass
class Trained:
    """What training leaves: constrained parameters with a leading member dimension, and a record of each member."""

    params: Params
    snapshots: list[tuple[int, Params]]
    loss: Tensor
    failures: dict[int, int] = field(default_factory=dict)  # member -> the epoch in which its loss stopped being finite
    epochs: int = 0


class MemberStack:
    """Many members' parameters as one stack, with one optimiser and one graph for all of them."""

    def __init__(self, model: Model, seeds: list[int], lr: float, device: torch.device | str = "cpu") -> None:
        # Drawn before the move, so that a seed means the same on every device.
        starts = [to_free(model.initial_params(seed), model.constraints) for seed in seeds]
        if isinstance(model, BayesianModel):
            model = copy.copy(model)
            model.network = copy.deepcopy(model.network).to(device)
        self.model, self.members = model, len(seeds)
        self.free = {name: torch.stack([s[name] for s in starts]).to(device).requires_grad_() for name in starts[0]}
        self.optimizer = torch.optim.Adam(self.free.values(), lr=lr, fused=True)

    def step(self, batch: Pair | None, num_data: int) -> Tensor:
        """One step of Adam on -log joint / N of every member; returns the losses before it, (members,)."""
        losses = self._losses(batch, num_data)
        gradients = torch.autograd.grad(losses.sum(), list(self.free.values()))
        for leaf, gradient in zip(self.free.values(), gradients, strict=True):
            leaf.grad = gradient.contiguous()  # the fused optimiser misreads expanded gradients
        self.optimizer.step()
        return losses.detach()

    def params(self) -> Params:
        """A copy of the constrained parameters, on the CPU."""
        with torch.no_grad():
            params = to_constrained(self.free, self.model.constraints)
        return {name: value.detach().clone().cpu() for name, value in params.items()}

    def _losses(self, batch: Pair | None, num_data: int) -> Tensor:
        def loss(free: Params, x: Tensor | None, y: Tensor | None) -> Tensor:
            params = to_constrained(free, self.model.constraints)
            if isinstance(self.model, BayesianModel):
                return -self.model.log_joint(params, x, y, num_data=num_data) / num_data
            return -self.model.log_joint(params)

        x, y = batch or (None, None)
        if self.members == 1:  # the same, without the cost of vmap
            single = {name: value.squeeze(0) for name, value in self.free.items()}  # select would copy gradients
            return loss(single, None if x is None else x[0], None if y is None else y[0])[None]
        per_member = None if x is None else 0
        result: Tensor = torch.func.vmap(loss, in_dims=(0, per_member, per_member))(self.free, x, y)
        return result


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
    off = None if progress else True
    try:
        for epoch in tqdm(range(settings.epochs), desc=f"training {len(seeds)} member(s)", unit="epoch", disable=off):
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


def member_seeds(seed: int, members: int) -> list[int]:
    """One for each member's start and order of the data; more members begin with those of fewer."""
    seeds: list[int] = torch.randint(2**62, (members,), generator=torch.Generator().manual_seed(seed)).tolist()
    return seeds


def cosine(share: float) -> float:
    """From one down to zero."""
    return 0.5 * (1 + math.cos(math.pi * share))


def batches_per_epoch(pair: Pair | None, settings: Settings) -> int:
    """How many minibatches an epoch has."""
    if pair is None or settings.batch_size is None:
        return 1
    return math.ceil(len(pair[0]) / settings.batch_size)


def batches(
    pair: Pair | None, settings: Settings, generators: list[torch.Generator], device: torch.device
) -> Iterator[Pair | None]:
    """Minibatches with a leading member dimension, each member's shuffled by its own generator."""
    if pair is None:
        yield None
        return
    x, y = pair[0].to(device), pair[1].to(device)
    if batches_per_epoch(pair, settings) == 1:
        yield x.expand(len(generators), *x.shape), y.expand(len(generators), *y.shape)
        return
    orders = torch.stack([torch.randperm(len(x), generator=generator) for generator in generators]).to(device)
    for index in orders.split(settings.batch_size or len(x), dim=1):
        yield x[index], y[index]


def snapshot_epochs(settings: Settings) -> set[int]:
    """Epochs, evenly spread, before which to take a snapshot."""
    return {round(settings.epochs * (k + 1) / (settings.snapshots + 1)) for k in range(settings.snapshots)}


def _note_failures(result: Trained, failed: Tensor, epoch: int) -> None:
    for member in failed.nonzero().flatten().tolist():
        if member not in result.failures:
            result.failures[member] = epoch
            others = "; the others go on" if len(failed) > 1 else ""
            logger.warning("member %d diverged in epoch %d: it is not finite any more%s.", member, epoch, others)
