"""Gradients where a caller has switched them off."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def with_gradients(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, which takes gradients inside of ``torch.no_grad()`` and ``torch.inference_mode()`` too."""

    @functools.wraps(function)
    def enabled(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.inference_mode(False), torch.enable_grad():
            return function(*args, **kwargs)

    return enabled
