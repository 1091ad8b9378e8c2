"""Axes and colours that the pictures share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

COLORS = ("#2a6f97", "#c8553d", "#588157", "#7b5ea7", "#b08900", "#555555")


def panels(axes: Sequence[Axes] | None, names: Sequence[str], size: tuple[float, float], **options: Any) -> list[Axes]:
    """The axes that were given, or new ones side by side; ValueError unless there is one for each name."""
    if axes is None:
        axes = list(plt.subplots(1, len(names), figsize=size, layout="constrained", squeeze=False, **options)[1][0])
    if len(axes) != len(names):
        raise ValueError(f"axes must hold {len(names)} axes, for {', '.join(names)}, got {len(axes)}.")
    return list(axes)
