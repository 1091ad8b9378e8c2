"""Minibatches of many members, and the seeds of the members."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from inference.data import Pair
from inference.training.settings import Settings


def member_seeds(seed: int, members: int) -> list[int]:
    """One for each member's start and order of the data; more members begin with those of fewer."""
    seeds: list[int] = torch.randint(2**62, (members,), generator=torch.Generator().manual_seed(seed)).tolist()
    return seeds


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
