"""A picture of where a symmetry breaks."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from analysis.convergence_diagnostics.intervals import interval
from analysis.plots.style import COLORS, SMALL, WIDTH, draws_in_words, panels, trim
from analysis.symmetry.equivariance import equivariance_error
from analysis.symmetry.layer_errors import layer_equivariance_error, symmetric_layers
from analysis.verification.fitted_generators import errors_of_generators
from bayes_rpp import Group
from inference import Posterior

_LONGEST_LABEL = 26
_ROW, _AROUND = 0.36, 0.9  # inches: of a bar with its label, and of a panel's title and axis
_SHORTEST_AXIS = 1e-3  # of an exact symmetry only rounding is left, which should look like nothing


def plot_symmetry_breaking(
    posterior: Posterior,
    x: Float[Tensor, "batch size_in"],
    group: Group | None = None,
    axes: Sequence[Axes] | None = None,
    *,
    per_column: bool | Sequence[str] = False,
) -> list[Axes]:
    """Bars of the equivariance error for each generator of the group, each output and each layer, with posterior
    intervals.

    A generator's bar is the mean over a few group elements of its one-parameter subgroup (rotations by 0.5, 1 and 2
    radians; boosts, shears and stretches by 0.5 both ways), or the error of the discrete generator itself. An output
    is a piece of rep_out, or one number of it, measured with sampled group elements. Layers have two bars: the error of
    the layer alone, and that of the map from the input to its activations; their scale is their own. The bars are
    medians, the lines those of ``interval``.

    Parameters
    ----------
    posterior : of a network that knows its representations.
    x, group : see ``equivariance_error``.
    axes : of generators, outputs and layers, to draw on; two for a network without layers that carry representations,
        such as an MLP. They are returned. New ones stand below each other.
    per_column : draw each number of the output in place of each piece, with names if they are given; see
        ``equivariance_error``.

    Raises
    ------
    ValueError
        If the number of axes is another one, or the group has no generators.

    Examples
    --------
    >>> generators, outputs, layers = plot_symmetry_breaking(posterior, data.test.x)
    """
    errors = _measured(posterior, x, group, per_column)
    found = {dim: {label: interval(v) for label, v in series.items()} for dim, series in errors.items()}
    rows = {dim: next(iter(series.values())).sizes[dim] for dim, series in found.items()}
    longest = {dim: max(float(v.max()) for v in series.values()) for dim, series in found.items()}
    of_function = max(value for dim, value in longest.items() if dim != "layer")
    heights, given = [count + 0.2 for count in rows.values()], axes is not None
    size = WIDTH, _ROW * sum(heights) + _AROUND * len(rows)
    axes = panels(axes, list(found), size, nrows=len(rows), ncols=1, height_ratios=heights)
    for ax, (dim, series) in zip(axes, found.items(), strict=True):
        _bars(ax, dim, series)
        # One thickness of the bars in all panels, and one scale for what is measured on the same outputs.
        shown = max(rows.values()) if given else rows[dim]
        end = longest["layer"] if dim == "layer" else of_function
        ax.set(xlim=(0, max(1.05 * end, _SHORTEST_AXIS)), ylim=(shown - 0.4, -0.6))
        ax.set_title(f"each {dim}", loc="left", fontsize="medium")
    of_group = f" of {errors['generator'][''].attrs['group']}, {draws_in_words(posterior.chains, posterior.draws)}"
    axes[0].set_title("each generator" + of_group, loc="left", fontsize="medium")
    return axes


def _measured(
    posterior: Posterior, x: Tensor, group: Group | None, per_column: bool | Sequence[str]
) -> dict[str, dict[str, xr.DataArray]]:
    """Dimension -> label -> errors."""
    by_column = per_column is not False
    outputs = equivariance_error(posterior, x, group, per_output=not by_column, per_column=per_column)
    errors = {
        "generator": {"": errors_of_generators(posterior, x, group)},
        "column" if by_column else "output": {"": outputs},
    }
    if symmetric_layers(posterior.bayesian_model.network):
        errors["layer"] = {
            "up to this layer": layer_equivariance_error(posterior, x, group, kind="cumulative"),
            "this layer alone": layer_equivariance_error(posterior, x, group, kind="own"),
        }
    return errors


def _bars(ax: Axes, dim: str, series: dict[str, xr.DataArray]) -> None:
    """Horizontal bars; the series of one label side by side."""
    width = 0.7 / len(series)
    for number, (label, found) in enumerate(series.items()):
        lower, median, upper = (found.sel(stat=stat).values for stat in ("lower", "median", "upper"))
        heights = np.arange(len(median)) + (number - (len(series) - 1) / 2) * width
        color = COLORS[number]
        ax.barh(heights, median, height=0.9 * width, color=color, alpha=0.45, label=label)
        ax.hlines(heights, lower, upper, color=color, linewidth=2)
        ax.plot(median, heights, "|", color=color, markersize=8, markeredgewidth=2)
    names = next(iter(series.values()))[dim].values
    trim(ax)
    ax.set_yticks(np.arange(len(names)), [_in_lines(str(name)) for name in names])
    ax.set_xlabel("equivariance error")
    if len(series) > 1:
        ax.legend(
            frameon=False, fontsize=SMALL, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, ncols=2
        )  # fmt: skip


def _in_lines(name: str) -> str:
    """A name in lines that are not too long: words, or the parts of the name of a layer, "network.0." and "linear"."""
    parts = name if " " in name else name.replace(".", ". ")
    lines = textwrap.wrap(parts, _LONGEST_LABEL, break_long_words=False)
    return "\n".join(line if " " in name else line.replace(". ", ".") for line in lines)
