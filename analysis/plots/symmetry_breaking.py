"""A picture of where a symmetry breaks."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from analysis.convergence_diagnostics.intervals import interval
from analysis.plots.panels import COLORS, panels
from analysis.symmetry.binding import bind
from analysis.symmetry.equivariance import equivariance_error
from analysis.symmetry.generator_names import generator_names
from analysis.symmetry.layer_errors import layer_equivariance_error, symmetric_layers
from analysis.verification.generator_errors import elements_to_try
from bayes_rpp import Group
from inference import Posterior

_LONGEST_LABEL = 26
_SHORTEST_AXIS = 1e-3  # of an exact symmetry only rounding is left, which should look like nothing


def plot_symmetry_breaking(
    posterior: Posterior,
    x: Float[Tensor, "batch size_in"],
    group: Group | None = None,
    axes: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Bars of the equivariance error for each generator of the group, each output and each layer, with posterior
    intervals.

    A generator's bar is the mean over a few group elements of its one-parameter subgroup (rotations by 0.5, 1 and 2
    radians; boosts, shears and stretches by 0.5 both ways), or the error of the discrete generator itself. An output
    is a piece of rep_out, measured with sampled group elements. Layers have two bars: the error of the layer alone, and
    that of the map from the input to its activations. The bars are medians, the lines those of ``interval``.

    Parameters
    ----------
    posterior : of a network that knows its representations.
    x, group : see ``equivariance_error``.
    axes : of generators, outputs and layers, to draw on; two for a network without layers that carry representations,
        such as an MLP. They are returned.

    Raises
    ------
    ValueError
        If the number of axes is another one, or the group has no generators.

    Examples
    --------
    >>> generators, outputs, layers = plot_symmetry_breaking(posterior, data.test.x)
    """
    errors = {
        "generator": {"": _of_generators(posterior, x, group)},
        "output": {"": equivariance_error(posterior, x, group, per_output=True)},
    }
    if symmetric_layers(posterior.bayesian_model.network):
        errors["layer"] = {
            "up to this layer": layer_equivariance_error(posterior, x, group, kind="cumulative"),
            "this layer alone": layer_equivariance_error(posterior, x, group, kind="own"),
        }
    found = {dim: {label: interval(v) for label, v in series.items()} for dim, series in errors.items()}
    rows = max(v.sizes[dim] for dim, series in found.items() for v in series.values())
    longest = max(float(v.max()) for series in found.values() for v in series.values())
    axes = panels(axes, list(found), (3.6 * len(found), 1.0 + 0.38 * rows))
    for ax, (dim, series) in zip(axes, found.items(), strict=True):
        _bars(ax, dim, series)
        # One scale and one thickness of the bars in all panels.
        ax.set(xlim=(0, max(1.05 * longest, _SHORTEST_AXIS)), ylim=(rows - 0.4, -0.6))
        ax.set_title(f"each {dim}", loc="left")
    return axes


def _of_generators(posterior: Posterior, x: Tensor, group: Group | None) -> xr.DataArray:
    group = bind(posterior, group, None, None, "plot_symmetry_breaking")[0].bound_group
    elements, owner = elements_to_try(group)
    errors = equivariance_error(posterior, x, group, elements=elements, per_element=True)
    means = torch.stack([torch.as_tensor(errors.values)[..., owner == k].mean(-1) for k in owner.unique()], dim=-1)
    dims = ["chain", "draw", "generator"]
    return xr.DataArray(means.numpy(), dims=dims, coords={"generator": generator_names(group)})


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
    ax.set_yticks(np.arange(len(names)), [textwrap.fill(str(name), _LONGEST_LABEL) for name in names], fontsize=8)
    ax.set_xlabel("equivariance error")
    ax.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        ax.legend(frameon=False, fontsize=8, loc="best")
