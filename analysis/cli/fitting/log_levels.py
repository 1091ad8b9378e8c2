"""Levels of loggers that hold for a while."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def log_levels(levels: Mapping[str, int]) -> Iterator[None]:
    """Loggers by their names have these levels within, and what they had before after it."""
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
