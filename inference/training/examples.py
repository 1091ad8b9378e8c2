"""Where minibatches come from: tensors in memory, or a Dataset that is read batch by batch."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from bayes_rpp import BayesianModel
from bayes_rpp.seeding import seeded
from inference.data import Data, Model, Pair, as_model_takes, read_examples, resolve_data
from inference.memory import free_memory


class Examples(Protocol):
    """The data, by the numbers of examples."""

    def __len__(self) -> int:
        """How many there are."""

    def rows(self, index: Int[Tensor, "member batch"], seeds: Sequence[int]) -> Pair:
        """x and y (member, batch, ...) on the device; what is random in it follows from each member's seed."""


@dataclass(frozen=True)
class TensorExamples:
    """Tensors x and y on the device."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, index: Int[Tensor, "member batch"], seeds: Sequence[int]) -> Pair:
        """See Examples."""
        index = index.to(self.x.device)
        return self.x[index], self.y[index]


@dataclass(frozen=True)
class DatasetExamples:
    """A map-style Dataset, which is read anew in each epoch: what it does to its examples may be random."""

    dataset: Dataset
    model: BayesianModel
    device: torch.device

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def rows(self, index: Int[Tensor, "member batch"], seeds: Sequence[int]) -> Pair:
        """See Examples. Raises ValueError if examples differ in shape, numbers are not finite, or y is refused."""
        x, y = (torch.stack(parts) for parts in zip(*map(self._of_member, index, seeds), strict=True))
        return x.to(self.device), y.to(self.device)

    def _of_member(self, index: Int[Tensor, " batch"], seed: int) -> Pair:
        with _random_state(seed):
            x, y = as_model_takes(self.model, *read_examples(self.dataset, index.tolist()))
        for name, part in (("x", x), ("y", y)):
            if not torch.isfinite(part).all():
                raise ValueError(f"the Dataset gave NaN or infinite numbers as {name}.")
        self.model.likelihood.check(y, self.model.num_outputs)
        return x, y


def resolve_examples(model: Model, data: Data, device: torch.device) -> tuple[Pair | None, Examples | None]:
    """What a posterior keeps as its data, and what training reads. A Dataset is read once to check it and to keep it,
    if it fits in memory, and batch by batch to train on; data of any other form are in memory. Raises as resolve_data.
    """
    in_memory = not isinstance(data, Dataset) or isinstance(data, TensorDataset | IterableDataset)
    if in_memory or not isinstance(model, BayesianModel):
        pair = resolve_data(model, data)
        return pair, None if pair is None else TensorExamples(pair[0].to(device), pair[1].to(device))
    assert isinstance(data, Dataset)
    examples = DatasetExamples(data, model, device)
    with _random_state(0):
        if not fits_in_memory(data):
            model.check_data(*as_model_takes(model, *read_examples(data, range(min(3, len(examples))))))
            return None, examples
        return resolve_data(model, data), examples


def fits_in_memory(dataset: Dataset) -> bool:
    """Whether half of what is free takes all examples, judged by the first."""
    count, free = len(dataset), free_memory(torch.device("cpu"))  # type: ignore[arg-type]
    if free is None or not count:
        return True
    return count * sum(part.nbytes for part in read_examples(dataset, [0])) <= free // 2


@contextmanager
def _random_state(seed: int) -> Iterator[None]:
    """The global random states of torch, NumPy and Python as they follow from a seed, and afterwards as before; in one
    thread at a time.
    """
    with seeded(seed, torch.device("cpu")):
        kept = random.getstate(), np.random.get_state()  # noqa: NPY002  (what Datasets of others draw from)
        try:
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            yield
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])  # noqa: NPY002
