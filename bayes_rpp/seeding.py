"""Seeds, and random numbers for libraries that take no Generator."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral

import torch

_SMALLEST, _LARGEST = -(2**63), 2**64 - 1  # that torch takes

_one_at_a_time = threading.RLock()


def plain_seed(seed: int) -> int:
    """A seed as a plain int, since it is saved as it is; TypeError unless it is an integer of some kind, ValueError
    unless torch takes it.
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise TypeError(f"seed must be an integer, got {seed!r}.")
    if not _SMALLEST <= int(seed) <= _LARGEST:
        raise ValueError(f"seed must be an integer from -2**63 to 2**64 - 1, got {seed}.")
    return int(seed)


def seeded_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A Generator with a seed; raises as ``plain_seed``."""
    return torch.Generator(device).manual_seed(plain_seed(seed))


def later_seed(seed: int, steps: int) -> int:
    """The seed so many after another one, in a circle: behind the largest comes 0."""
    return (plain_seed(seed) + steps) % 2**64


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw torch's global random numbers from a seed inside the block, and restore their state afterwards.

    Threads take turns in such blocks.
    """
    cuda = device.type == "cuda"
    with _one_at_a_time, torch.random.fork_rng(devices=[device] if cuda else []):
        torch.default_generator.manual_seed(plain_seed(seed))
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
