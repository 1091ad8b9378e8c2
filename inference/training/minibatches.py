"""Minibatches of many members, and the seeds of the members."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from bayes_rpp.seeding import seeded_generator
from inference.data import Pair
from inference.training.augmentation import Augmentation
from inference.training.examples import Examples, TensorExamples


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

    An ``augment`` changes the inputs of every batch. What is random in it, and in the reading of a Dataset, follows
    from a number that each epoch draws.
    """

    def __init__(
        self,
        data: Pair | Examples | None,
        batch_size: int | None,
        seeds: list[int],
        device: torch.device | str,
        repeats: int = 1,
        augment: Augmentation | None = None,
    ) -> None:
        pair = isinstance(data, tuple)
        self.examples: Examples | None = TensorExamples(*(part.to(device) for part in data)) if pair else data  # type: ignore
        self.batch_size, self.repeats, self.augment = batch_size, repeats, augment
        self.generators = [seeded_generator(seed) for seed in seeds]
        self._epochs, self._before = 0, self._states()  # epochs begun, and the states before the last of them

    def __len__(self) -> int:
        if self.examples is None or self.batch_size is None:
            return 1
        return math.ceil(len(self.examples) / self.batch_size)

    def __iter__(self) -> Iterator[Pair | None]:
        """Batches (x, y), each with a leading member dimension."""
        return self.epoch()

    def epoch(self, done: int = 0) -> Iterator[Pair | None]:
        """Those of an epoch of which ``done`` batches have been had."""
        self._before = self._states()
        self._epochs += 1
        if self.examples is None:
            yield from [None] * (1 - done)
            return
        orders, seeds = self._orders(), self._reading_seeds()
        for number, index in enumerate(orders.tensor_split(len(self), dim=1)):
            if number >= done:
                yield self._batch(index, [seed + number for seed in seeds])

    def _orders(self) -> Tensor:
        """(member, example); examples in their own order where all are in one batch."""
        count = len(self.examples or ())
        if len(self) == 1:
            return torch.arange(count).expand(len(self.generators), count)
        return torch.stack([torch.randperm(count, generator=generator) for generator in self.generators])

    def _reading_seeds(self) -> list[int]:
        """A seed of each member's for what is random in an epoch; none is drawn where nothing is."""
        if self.augment is None and isinstance(self.examples, TensorExamples):
            return [0] * len(self.generators)
        return [int(torch.randint(2**62, (), generator=generator)) for generator in self.generators]

    def _batch(self, index: Tensor, seeds: list[int]) -> Pair | None:
        assert self.examples is not None
        if self.augment is None and isinstance(self.examples, TensorExamples) and len(self) == 1:
            return self.example()  # without a copy
        x, y = self.examples.rows(index, seeds)
        if self.augment is not None:
            x = self.augment(x, [seeded_generator(seed) for seed in seeds])
        return self._repeated(x), self._repeated(y)

    def example(self) -> Pair | None:
        """A batch of the largest size, which is not of an order of the data: none is begun."""
        if self.examples is None:
            return None
        count, members = math.ceil(len(self.examples) / len(self)), self.repeats * len(self.generators)
        if isinstance(self.examples, TensorExamples):
            x, y = self.examples.x[None, :count], self.examples.y[None, :count]
        else:
            x, y = self.examples.rows(torch.arange(count)[None], [0])
        return x.expand(members, *x.shape[1:]), y.expand(members, *y.shape[1:])

    def state(self, epochs_done: int) -> dict[str, Tensor]:
        """The states of the generators before the epoch that follows those done: from them the same orders follow."""
        states = self._before if self._epochs > epochs_done else self._states()
        return {f"order/{index}": state for index, state in enumerate(states)}

    def restore(self, state: dict[str, Tensor], epochs_done: int) -> None:
        """Go on from a state."""
        for index, generator in enumerate(self.generators):
            generator.set_state(state[f"order/{index}"].clone())
        self._epochs, self._before = epochs_done, self._states()

    def _states(self) -> list[Tensor]:
        return [generator.get_state() for generator in self.generators]

    def _repeated(self, part: Tensor) -> Tensor:
        if len(part) == 1:  # without a copy
            return part.expand(self.repeats, *part.shape[1:])
        return part.repeat(self.repeats, *[1] * (part.ndim - 1)) if self.repeats > 1 else part
