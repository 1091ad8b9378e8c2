"""Derivatives in forward mode, by one thread at a time.

The levels of forward-mode differentiation are torch's own, one set for the whole process: two threads that are inside
of them together get each other's tangents, or errors.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_one_at_a_time = threading.RLock()


def jvp(function: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """``torch.func.jvp``, in any number of threads."""
    with _one_at_a_time:
        value, derivative = torch.func.jvp(function, primals, tangents)[:2]
    return value, derivative


def hessian(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``torch.func.hessian``, in any number of threads."""

    def second_derivative(*args: Any) -> Tensor:
        with _one_at_a_time:
            result: Tensor = torch.func.hessian(function)(*args)
        return result

    return second_derivative
