"""How much memory is free, how large one matrix may be, and how work is cut that would need too much."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

LARGEST_MATRIX = 2**31  # bytes
AT_ONCE = 2**24  # bytes that a piece of work holds at its peak; it changes results by rounding alone
_COPIES = 8  # of an evaluation's value, in what is made of it: its moments, or the difference of two in float64


@dataclass(frozen=True)
class Cost:
    """The bytes that an evaluation holds at its peak: for each draw of the parameters, and for each row under each
    draw. They are the same in every run, and a bound for any number of rows: what is held after each operation is
    linear in the rows. Copies that vmap makes of weights are not seen.
    """

    draw: int
    row: int = 0

    @staticmethod
    @torch.no_grad()
    def measured(function: Callable[..., Tensor], *rows: Tensor) -> Cost:
        """The cost of ``function(*rows)`` for one draw, from its values at two rows and at three, since a single one is
        often treated in a way of its own; of a function without rows, from its value.
        """
        if not rows:
            return Cost(int(max(_bytes_held(function))))
        if not len(rows[0]):
            return Cost(0)
        pair, three = ([each[ends] for each in rows] for ends in ([0, -1], [0, -1, 0]))
        function(*pair)  # what a first evaluation alone makes, as copies of modules, does not count
        two, more = _bytes_held(function, *pair), _bytes_held(function, *three)
        if len(two) != len(more):  # other operations: every row as if it were alone
            return Cost(0, int(max(two)))
        row = np.maximum(more - two, 0)
        return Cost(int(max(0, (two - 2 * row).max())), max(1, int(row.max())))

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


def _bytes_held(function: Callable[..., Tensor], *args: Tensor) -> Int[np.ndarray, " operation"]:
    """After every operation, and with what is made of the value."""
    with HeldMemory() as held:
        value = function(*args)
    return np.array([0, *held.bytes]) + _COPIES * value.nbytes


class HeldMemory(TorchDispatchMode):
    """The bytes that tensors made by operations hold after each, those that share memory counted once. What has been
    freed is looked for when an eighth of them is new, and counts until then. The collector of cycles, which acts when
    it likes, rests meanwhile, so that the same work gives the same numbers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes: list[int] = []
        self._alive: list[tuple[StorageWeakRef, int]] = []
        self._held = self._new = 0
        self._collects = gc.isenabled()

    def __enter__(self) -> Self:
        gc.disable()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        if self._collects:
            gc.enable()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = _storages((args, kwargs))
        for address, storage in _storages(result).items():
            if address not in given:
                self._alive.append((StorageWeakRef(storage), storage.nbytes()))
                self._held += storage.nbytes()
                self._new += 1
        if self._new > len(self._alive) // 8:
            self._alive = [held for held in self._alive if not held[0].expired()]
            self._held, self._new = sum(size for _, size in self._alive), 0
        self.bytes.append(self._held)
        return result


class Allocations(TorchDispatchMode):
    """Counts operations, and adds up the sizes of the tensors that they return, without views of what was given."""

    operations = bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations += 1
        given = _storages((args, kwargs))
        self.bytes += sum(each.nbytes() for key, each in _storages(result).items() if key not in given)
        return result


def _storages(values: Any) -> dict[int, torch.UntypedStorage]:
    """Every storage, by its address."""
    strided = (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and leaf.layout == torch.strided)
    storages = (leaf.untyped_storage() for leaf in strided)
    return {storage.data_ptr(): storage for storage in storages}


def check_matrix(what: str, needed: int, instead: str) -> None:
    """Raise ValueError, which says what needs the matrix and what to use instead, beyond LARGEST_MATRIX bytes."""
    if needed > LARGEST_MATRIX:
        raise ValueError(f"{what} needs a matrix of {needed:,} bytes; the limit is {LARGEST_MATRIX:,}. {instead}")


def check_result(what: str, needed: int) -> None:
    """Raise ValueError if a result of so many bytes does not fit into what is free."""
    free = free_memory(torch.device("cpu"))
    if free is not None and needed > free:
        raise ValueError(f"{what} need {needed:,} bytes, and {free:,} are free: ask for fewer at a time.")


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be taken; None where this is not known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    report = Path("/proc/meminfo")
    if device.type != "cpu" or not report.exists():
        return None
    available = [line.split()[1] for line in report.read_text().splitlines() if line.startswith("MemAvailable:")]
    return 1024 * int(available[0]) if available else None
