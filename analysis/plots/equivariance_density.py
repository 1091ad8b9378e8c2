"""The density of the equivariance error of posteriors."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import AutoLocator, FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from torch import Tensor

from analysis.plots.kernel_density import log_density, log_grid
from analysis.plots.style import COLORS, draws_in_words, legend_above, new_axes, size_of, trim
from analysis.symmetry.equivariance import equivariance_error
from inference import Posterior, Snapshot

_FEWEST_DRAWS = 8  # for a density
_MOST_TICKS = 100  # of one state: more run into each other, and a density of so many draws needs none
_LARGEST_ERROR = 1.0
_ROW = 0.06  # of the height of the axes, for the ticks of one state below the densities
_ALL_ROWS = 0.4  # of the height of the axes, at most
_TICK_LABEL = 30.0  # points across
_TALLEST_TICK = 12.0  # points


class _Row(NamedTuple):
    """The ticks of one state; with a label if they are all that is drawn of it."""

    draws: Float[np.ndarray, " draw"]
    color: str
    shade: float
    label: str | None


def plot_equivariance_density(
    posteriors: Mapping[str, Posterior | xr.DataArray] | Posterior,
    x: Float[Tensor, "batch size_in"] | None = None,
    reference: Mapping[str, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Kernel densities of the equivariance error on a logarithmic axis: one colour a data set, one shade a snapshot.

    After Figure 3 (left) of Finzi, Benton & Wilson (NeurIPS 2021). Snapshots of a posterior's history are drawn
    lighter, the earlier the lighter. Ticks below the densities are the single draws, one row a data set; more than 100
    draws have a density without ticks. Fewer than 8 draws are ticks alone, one row a state, since they have no density.
    The legend says how many there are, and what is no sample of a posterior: "400 draws", "one network", "ensemble of
    10". Errors are at most 1, where the kernels are reflected.

    Parameters
    ----------
    posteriors : label -> posterior, or equivariance errors computed already; or one posterior alone.
    x : where to measure; by default each posterior's own training inputs.
    reference : label -> a value to mark in that label's colour, such as the data-generating function's own error.
    ax : axes to draw on.

    Raises
    ------
    ValueError
        If there is nothing to draw, or no x.

    Examples
    --------
    >>> ax = plot_equivariance_density({"modified inertia": posterior})
    """
    if isinstance(posteriors, Posterior):
        posteriors = {"posterior": posteriors}
    if not posteriors:
        raise ValueError("plot_equivariance_density needs at least one posterior.")
    errors = {label: _errors_by_epoch(label, source, x) for label, source in posteriors.items()}
    states = [values for stages in errors.values() for _, values in stages]
    grid = log_grid(states, largest=_LARGEST_ERROR)
    ax = ax or new_axes(3.8 if max(values.size for values in states) >= _FEWEST_DRAWS else 1.6 + 0.3 * len(states))
    highest, rows = 0.0, list[_Row]()
    for (label, stages), color in zip(errors.items(), cycle(COLORS), strict=False):
        for index, (epoch, values) in enumerate(stages):
            last = index == len(stages) - 1
            shade = 0.9 if last else 0.3 + 0.35 * index / max(len(stages) - 1, 1)
            draws = values.values.reshape(-1)
            name = f"{label} ({_named_draws(values)})" if last else None
            name = f"{label}, after {epoch} epochs" if index == 0 and not last else name
            few = len(draws) < _FEWEST_DRAWS
            if not few:
                own = log_grid([values], largest=_LARGEST_ERROR)
                density = log_density(values, own, _LARGEST_ERROR)
                highest = max(highest, float(density.max()))
                ax.fill_between(10**own, density, color=color, alpha=0.45 * shade, linewidth=0)
                ax.plot(10**own, density, color=color, alpha=shade, linewidth=1.8 if last else 1.0, label=name)
            if few or (last and len(draws) <= _MOST_TICKS):
                rows.append(_Row(draws, color, shade, name if few else None))
        if reference and label in reference:
            name = f"{label}: the true function"
            ax.axvline(reference[label], color=color, linestyle="--", linewidth=1.2, label=name)
    trim(ax)
    below = min(_ROW * len(rows), _ALL_ROWS) if highest else 1.0
    _draw_rows(ax, rows, below)
    _finish_densities(ax, below, highest)
    _finish_errors(ax, grid, {str(values.attrs.get("group")) for values in states})
    legend_above(ax)
    return ax


def _draw_rows(ax: Axes, rows: list[_Row], height: float) -> None:
    """Rows of ticks, from above, in the lowest part of the axes, clear of the axis and its labels."""
    each = height / max(len(rows), 1)
    size = min(0.75 * each * size_of(ax)[1], _TALLEST_TICK)
    for place, row in zip(reversed(range(len(rows))), rows, strict=True):
        heights = np.full(len(row.draws), each * (place + 0.5))
        ax.plot(
            row.draws, heights, "|", color=row.color, alpha=row.shade, label=row.label, markersize=size,
            markeredgewidth=1.2 if row.label is None else 2.5, transform=ax.get_xaxis_transform(),
        )  # fmt: skip


def _finish_densities(ax: Axes, below: float, highest: float) -> None:
    """The vertical axis: densities from 0 on, above the share of the height that the ticks take."""
    if highest == 0:
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        return
    top = 1.05 * highest
    ax.set_ylim(-top * below / (1 - below), top)
    ax.spines["left"].set_bounds(0, top)
    values = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(0, top)
    ax.yaxis.set_major_locator(FixedLocator([value for value in values if 0 <= value <= top]))
    ax.set_ylabel("posterior density (per decade)")


def _finish_errors(ax: Axes, grid: Float[np.ndarray, " point"], groups: set[str]) -> None:
    """The horizontal axis, with as many labels as have room."""
    ax.set_xscale("log")
    ax.update_datalim([(10 ** grid[0], 0), (10 ** grid[-1], 0)], updatey=False)
    ax.autoscale_view(scaley=False)
    decades = float(np.ptp(grid))
    room = size_of(ax)[0] / _TICK_LABEL
    subs = next((subs for subs in ((1, 2, 5), (1, 3)) if decades <= 3 and decades * len(subs) <= room), (1,))
    ax.xaxis.set_major_locator(LogLocator(subs=subs) if decades > 0.6 else AutoLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    group = groups.pop() if len(groups) == 1 else "None"
    ax.set_xlabel("equivariance error" + ("" if group == "None" else f" under {group}"))


def _named_draws(values: xr.DataArray) -> str:
    draws = values.sizes.get("draw", 1)
    return draws_in_words(values.size // draws, draws)


def _errors_by_epoch(label: str, source: Posterior | xr.DataArray, x: Tensor | None) -> list[tuple[int, xr.DataArray]]:
    """Equivariance errors of the history, earliest first, and of the final draws."""
    if isinstance(source, xr.DataArray):
        return [(0, source)]
    if x is None and source.data is None:
        raise ValueError(f"the posterior {label!r} holds no training data: pass x, the points at which to measure.")
    points = x if x is not None else source.data[0]  # type: ignore[index]
    stages = [*source.history, Snapshot(source.stats.get("epochs", 0), source.samples)]
    return [(stage.epoch, equivariance_error(source.at(stage), points)) for stage in stages]
