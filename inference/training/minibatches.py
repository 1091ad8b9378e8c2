"""Minibatches of many members, and the seeds of the members."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from bayes_rpp.seeding import seeded_generator
from inference.data import Pair


def member_seeds(seed: int, members: int) -> list[int]:
    """A seed for each member's start and order of the data; more members begin with those of fewer."""
    seeds: list[int] = torch.randint(2**62, (members,), generator=seeded_generator(seed)).tolist()
    return seeds


class Minibatches:
    """The data in an order of each member's own: an iteration is an epoch, its length the number of steps. Without
    data, for a LogDensity, an epoch is one step without a batch. All members stand in the stack ``repeats`` times in a
    row, each time with the same batches.

    Batches are of nearly equal size, at most ``batch_size`` (None takes all): a remainder of a few examples, whose
    likelihood is scaled to all N, would be a step in a direction that hardly any data stand for.
    """

    def __init__(
        self, pair: Pair | None, batch_size: int | None, seeds: list[int], device: torch.device | str, repeats: int = 1
    ) -> None:
        self.pair = None if pair is None else (pair[0].to(device), pair[1].to(device))
        self.batch_size, self.repeats = batch_size, repeats
        self.generators = [seeded_generator(seed) for seed in seeds]

    def __len__(self) -> int:
        if self.pair is None or self.batch_size is None:
            return 1
        return math.ceil(len(self.pair[0]) / self.batch_size)

    def __iter__(self) -> Iterator[Pair | None]:
        """Batches (x, y), each with a leading member dimension."""
        if self.pair is None:
            yield None
            return
        x, y = self.pair
        if len(self) == 1:
            yield self.example()
            return
        orders = torch.stack([torch.randperm(len(x), generator=generator) for generator in self.generators])
        for index in orders.to(x.device).tensor_split(len(self), dim=1):
            yield self._repeated(x[index]), self._repeated(y[index])

    def example(self) -> Pair | None:
        """A batch of the largest size, which is not of an order of the data: none is begun."""
        if self.pair is None:
            return None
        x, y = (part[None, : math.ceil(len(part) / len(self))] for part in self.pair)
        members = self.repeats * len(self.generators)
        return x.expand(members, *x.shape[1:]), y.expand(members, *y.shape[1:])

    def state(self) -> dict[str, torch.Tensor]:
        """The states of the generators: from them the same orders follow."""
        return {f"order/{index}": generator.get_state() for index, generator in enumerate(self.generators)}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from a state."""
        for index, generator in enumerate(self.generators):
            generator.set_state(state[f"order/{index}"].clone())

    def _repeated(self, part: torch.Tensor) -> torch.Tensor:
        if len(part) == 1:  # without a copy
            return part.expand(self.repeats, *part.shape[1:])
        return part.repeat(self.repeats, *[1] * (part.ndim - 1)) if self.repeats > 1 else part
