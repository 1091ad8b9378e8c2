"""Timing functions in turn, A B C A B C ..., so that a ratio holds while the machine's speed drifts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def median_seconds(
    functions: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 3
) -> dict[str, list[float]]:
    """The seconds of every call, by name."""
    for function in functions.values():
        for _ in range(warmup):
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], name: str, baseline: str) -> float:
    """The median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[baseline], strict=True))
