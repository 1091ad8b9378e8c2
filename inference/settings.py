"""Checks of settings, and the seeds that engines derive from one."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING

import torch

from bayes_rpp.seeding import seeded_generator

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


def chain_seeds(seed: int, chains: int) -> list[tuple[int, int]]:
    """Two seeds a chain, for its start and noise; more chains begin with those of fewer. Raises as ``plain_seed``."""
    pairs = torch.randint(2**62, (chains, 2), generator=seeded_generator(seed))
    return [(start, noise) for start, noise in pairs.tolist()]
