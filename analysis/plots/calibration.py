"""Pictures of how far predicted probabilities are right."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import xarray as xr
from matplotlib.axes import Axes

from analysis.plots.style import COLORS, MARKERS, legend_above, new_axes, trim


def plot_reliability(found: Mapping[str, xr.Dataset], ax: Axes | None = None) -> Axes:
    """The accuracy of predictions against their confidence, bin by bin, with standard errors: on the diagonal where
    they are calibrated, below it where they are too sure (Guo et al., ICML 2017, figure 4).

    Parameters
    ----------
    found : of ``reliability``, by name.
    ax : to draw on; it is returned.

    Examples
    --------
    >>> plot_reliability({"ensemble": reliability(post.predict(data.test.x).mean, data.test.y)})
    """
    ax = _axes(ax, "mean confidence", "accuracy")
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=1, zorder=0, label="calibrated")
    for color, marker, (name, each) in zip(cycle(COLORS), cycle(MARKERS), found.items(), strict=False):
        wrong, calibration = 100 * each.attrs["error"], each.attrs["calibration_error"]
        label = f"{name} (error {wrong:.1f}\u00a0%, calibration error\u00a0{calibration:.3f})"
        ax.errorbar(
            each["confidence"], each["accuracy"], each["standard_error"],
            color=color, marker=marker, markersize=4, linewidth=1.2, label=label,
        )  # fmt: skip
    low = min(float(each[part].min()) for each in found.values() for part in ("confidence", "accuracy"))
    ax.set_xlim(max(0.0, low - 0.05), 1.01)
    ax.set_ylim(max(0.0, low - 0.05), 1.02)
    legend_above(ax)
    return ax


def plot_rejection(found: Mapping[str, xr.DataArray], ax: Axes | None = None) -> Axes:
    """The accuracy on what is left against the share of examples that are rejected, the least confident first.

    Parameters
    ----------
    found : of ``accuracy_against_rejection``, by name.
    ax : to draw on; it is returned. The last fiftieth of a curve, which rests on few examples, is left out.

    Examples
    --------
    >>> plot_rejection({"ensemble": accuracy_against_rejection(post.predict(data.test.x).mean, data.test.y)})
    """
    ax = _axes(ax, "share of rejected examples", "accuracy on the others")
    for color, (name, curve) in zip(cycle(COLORS), found.items(), strict=False):
        part = curve[curve["rejected"] <= 1 - 1 / 50]
        ax.plot(part["rejected"], part, color=color, linewidth=1.4, label=name)
    ax.set_xlim(0, 1)
    legend_above(ax)
    return ax


def _axes(ax: Axes | None, x: str, y: str) -> Axes:
    ax = ax or new_axes(4.4, width=4.8)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    trim(ax)
    return ax
