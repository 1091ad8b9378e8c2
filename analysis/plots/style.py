"""What all pictures have in common: colours, sizes, axes and legends. The user's settings of Matplotlib stay as they
are, and the sizes of letters are relative to them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties

# Okabe & Ito's, which the colour-blind tell apart, without their yellow, which is too light for lines.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # of the series, beside the colours
GREY = "#666666"  # of what is no series
WIDTH = 5.6  # inches of a single panel: at 400 pixels small letters are 8 pixels high
SMALL = "small"  # letters of ticks, legends and notes
_POINTS = 72  # an inch
_HANDLE = 3.5  # the width of a line and of the gaps in a legend, in letters' heights
_LETTER = 0.53  # the mean width of a letter, in heights


def new_axes(height: float, width: float = WIDTH) -> Axes:
    """Axes of a figure of their own, of so many inches."""
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def panels(axes: Sequence[Axes] | None, names: Sequence[str], size: tuple[float, float], **options: Any) -> list[Axes]:
    """The axes that were given, or new ones; ValueError unless there is one for each name. New ones stand side by side,
    unless the options of ``plt.subplots`` say nrows and ncols.
    """
    if axes is None:
        grid = {"nrows": 1, "ncols": len(names)} | options
        axes = list(plt.subplots(figsize=size, layout="constrained", squeeze=False, **grid)[1].flat)
    if len(axes) != len(names):
        raise ValueError(f"axes must hold {len(names)} axes, for {', '.join(names)}, got {len(axes)}.")
    return list(axes)


def trim(ax: Axes) -> None:
    """Leave out the frame above and at the right, and write the ticks in small letters."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=SMALL)


def legend_above(ax: Axes, **options: Any) -> None:
    """A legend above the axes, where it hides nothing, in two columns if they have room; labels that are longer than
    the axes have several lines.
    """
    height = FontProperties(size=SMALL).get_size_in_points()
    room = (size_of(ax)[0] / height - _HANDLE) / _LETTER  # in letters, beside one handle
    lengths = [len(label) for label in ax.get_legend_handles_labels()[1]]
    half = (len(lengths) + 1) // 2
    beside = max(lengths[:half], default=0) + _HANDLE / _LETTER + max(lengths[half:], default=0)
    legend = ax.legend(
        frameon=False, fontsize=SMALL, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2,
        ncols=2 if beside <= room else 1, **options,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_text(textwrap.fill(text.get_text(), max(int(room), 12)))


def size_of(ax: Axes) -> tuple[float, float]:
    """Width and height of axes in points, before the layout of the figure makes room for labels."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    box = ax.get_window_extent()
    return _POINTS * box.width / figure.dpi, _POINTS * box.height / figure.dpi


def draws_in_words(chains: int, draws: int) -> str:
    """What the draws of a posterior are: "one network", "ensemble of 10", whose members are chains of one draw, or
    "400 draws".
    """
    if chains * draws == 1:
        return "one network"
    return f"ensemble of {chains}" if draws == 1 else f"{chains * draws} draws"
