"""How much memory is free, how large one matrix may be, and how work is cut that would need too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

LARGEST_MATRIX = 2**31  # bytes
AT_ONCE = 2**26  # bytes that a piece of work allocates; it changes results by rounding alone
_COPIES = 8  # of an evaluation's value, in what is made of it: its moments, or the difference of two in float64


@dataclass(frozen=True)
class Cost:
    """The bytes that an evaluation allocates: for each draw of the parameters, and for each row under each draw.

    They are the sizes of all tensors that are made on the way, as if none were freed before the end. So they are the
    same in every run, and the peak of memory lies well below, several times for a network of a few layers.
    """

    draw: int
    row: int = 0

    @staticmethod
    @torch.no_grad()
    def measured(function: Callable[..., Tensor], *rows: Tensor) -> Cost:
        """The cost of ``function(*rows)`` for one draw, from its value at one row and at two; of a function without
        rows, from its value.
        """
        if not rows:
            return Cost(_bytes_allocated(function))
        if not len(rows[0]):
            return Cost(0)
        single, pair = ([each[ends] for each in rows] for ends in ([0], [0, -1]))
        function(*single)  # what a first evaluation alone makes, as copies of modules, does not count
        one, two = _bytes_allocated(function, *single), _bytes_allocated(function, *pair)
        row = max(1, two - one)
        return Cost(max(0, one - row), row)

    def pieces(self, draws: int, rows: slice) -> Iterator[tuple[slice, slice]]:
        """Cut draws x rows in pieces of nearly equal size, each of which costs at most ``AT_ONCE`` where a single row
        does. As many rows as possible are together, since every draw expands its weights once for all of them; all
        draws of some rows come one after another.
        """
        for some in even_slices(rows, (AT_ONCE - self.draw) // max(1, self.row)):
            each_draw = self.draw + (some.stop - some.start) * self.row
            yield from ((each, some) for each in slices_that_fit(slice(0, draws), each_draw))


def even_slices(span: slice, most: int) -> list[slice]:
    """Slices of nearly equal length, at most ``most`` but at least 1; of an empty one, itself."""
    count = span.stop - span.start
    pieces = max(1, -(-count // max(1, most)))
    bounds = pairwise(span.start + count * k // pieces for k in range(pieces + 1))
    return [slice(start, stop) for start, stop in bounds]


def slices_that_fit(span: slice, size: int) -> list[slice]:
    """Slices of nearly equal length, of what takes ``size`` bytes each, with at most ``AT_ONCE`` bytes together."""
    return even_slices(span, AT_ONCE // max(1, size))


def _bytes_allocated(function: Callable[..., Tensor], *args: Tensor) -> int:
    with Allocations() as made:
        value = function(*args)
    return made.bytes + _COPIES * value.nbytes


class Allocations(TorchDispatchMode):
    """Counts operations, and adds up the sizes of the tensors that they return, without views of what was given."""

    operations = bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations += 1
        self.bytes += sum((_storages(result) - _storages((args, kwargs))).values())
        return result


def _storages(values: Any) -> Counter[int]:
    """The bytes of every storage, by its address."""
    strided = (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and leaf.layout == torch.strided)
    storages = (leaf.untyped_storage() for leaf in strided)
    return Counter({storage.data_ptr(): storage.nbytes() for storage in storages})


def check_matrix(what: str, needed: int, instead: str) -> None:
    """Raise ValueError, which says what needs the matrix and what to use instead, beyond LARGEST_MATRIX bytes."""
    if needed > LARGEST_MATRIX:
        raise ValueError(f"{what} needs a matrix of {needed:,} bytes; the limit is {LARGEST_MATRIX:,}. {instead}")


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be taken; None where this is not known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    report = Path("/proc/meminfo")
    if device.type != "cpu" or not report.exists():
        return None
    available = [line.split()[1] for line in report.read_text().splitlines() if line.startswith("MemAvailable:")]
    return 1024 * int(available[0]) if available else None
