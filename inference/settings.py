"""Checks of settings, and the seeds that engines derive from one."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def require_integers(settings: DataclassInstance, **least: int) -> None:
    """ValueError unless these settings are integers of at least so much; they become plain ints, as they are saved."""
    for name, smallest in least.items():
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < smallest:
            raise ValueError(f"{name} must be an integer of at least {smallest}, got {value!r}.")
        object.__setattr__(settings, name, int(value))


def require_positive(name: str, value: float) -> None:
    """ValueError unless a setting is positive and finite, TypeError unless it is a number."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be positive and finite, got {value}.")


def plain_seed(seed: int) -> int:
    """A seed as a plain int, since it is saved as it is; TypeError unless it is an integer of some kind."""
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise TypeError(f"seed must be an integer, got {seed!r}.")
    return int(seed)


def chain_seeds(seed: int, chains: int) -> list[tuple[int, int]]:
    """Two seeds a chain, for its start and noise; more chains begin with those of fewer. Raises as ``plain_seed``."""
    pairs = torch.randint(2**62, (chains, 2), generator=torch.Generator().manual_seed(plain_seed(seed)))
    return [(start, noise) for start, noise in pairs.tolist()]
