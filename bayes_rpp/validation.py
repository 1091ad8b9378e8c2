"""Distributions without the validation of their arguments and values, which ``torch.func.vmap`` cannot trace."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pyro

_changing = threading.Lock()
_restored = ExitStack()  # by the last block that is left
_inside = 0


@contextmanager
def without_validation() -> Iterator[None]:
    """Switch the validation of distributions off inside the block.

    The switch is one of the process. Blocks in several threads overlap: the first that is entered switches off, and
    the last that is left restores what was before.
    """
    global _inside
    with _changing:
        if _inside == 0:
            _restored.enter_context(pyro.validation_enabled(False))
        _inside += 1
    try:
        yield
    finally:
        with _changing:
            _inside -= 1
            if _inside == 0:
                _restored.close()
