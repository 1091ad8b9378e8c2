"""Numbers of things: positive integers of any kind."""

from __future__ import annotations

import operator
from typing import Any


def positive_integer(number: Any, name: str) -> int:
    """A positive integer of any kind as an int; raises ValueError, by this name, for anything else."""
    if isinstance(number, bool) or not hasattr(number, "__index__") or operator.index(number) < 1:
        raise ValueError(f"{name} must be a positive integer, got {number!r}.")
    return operator.index(number)
