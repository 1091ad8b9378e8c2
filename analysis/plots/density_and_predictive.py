"""Pictures of one posterior: the density of its equivariance error, and its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import AutoLocator, FuncFormatter, LogLocator, NullFormatter
from torch import Tensor

from analysis.plots.kernel_density import log_density, log_grid
from analysis.plots.panels import COLORS
from analysis.symmetry.equivariance import equivariance_error
from inference import Posterior, Snapshot

_FEWEST_DRAWS = 8  # for a density
_LARGEST_ERROR = 1.0
_RUG_HEIGHT = 0.12  # of the axes


def plot_equivariance_density(
    posteriors: Mapping[str, Posterior | xr.DataArray] | Posterior,
    x: Float[Tensor, "batch size_in"] | None = None,
    reference: Mapping[str, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Kernel densities of the equivariance error on a logarithmic axis: one colour a data set, one shade a snapshot.

    After Figure 3 (left) of Finzi, Benton & Wilson (NeurIPS 2021). Snapshots of a posterior's history are drawn
    lighter, the earlier the lighter; ticks on the axis are the single draws. Fewer than 8 draws are ticks alone, one
    row a state, since they have no density. The legend says what is no sample of a posterior: "one network", "ensemble
    of 10". Errors are at most 1, where the kernels are reflected.

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
    grid = log_grid([values for stages in errors.values() for _, values in stages], largest=_LARGEST_ERROR)
    ax = ax or plt.subplots(figsize=(7, 4), layout="constrained")[1]
    rugs = curves = 0
    for (label, stages), color in zip(errors.items(), cycle(COLORS), strict=False):
        for index, (epoch, values) in enumerate(stages):
            last = index == len(stages) - 1
            shade = 0.9 if last else 0.3 + 0.35 * index / max(len(stages) - 1, 1)
            draws, what = values.values.reshape(-1), _named_draws(values)
            name = f"{label}{what}" if last else (f"{label}, after {epoch} epochs" if index == 0 else None)
            if len(draws) < _FEWEST_DRAWS:
                height = np.full(len(draws), _RUG_HEIGHT * (rugs + 0.6))
                across = ax.get_xaxis_transform()
                ax.plot(
                    draws, height, "|", color=color, alpha=shade, markersize=18, mew=2.5, transform=across, label=name
                )
                rugs += 1
                continue
            density = log_density(values, grid, _LARGEST_ERROR)
            curves += 1
            ax.fill_between(10**grid, density, color=color, alpha=0.45 * shade, linewidth=0)
            ax.plot(10**grid, density, color=color, alpha=shade, linewidth=1.8 if last else 1.0, label=name)
            if last:
                ax.plot(draws, np.zeros_like(draws), "|", color=color, markersize=14, clip_on=False)
        if reference and label in reference:
            name = f"{label}: the true function"
            ax.axvline(reference[label], color=color, linestyle="--", linewidth=1.2, label=name)
    if not curves:
        ax.set(xlim=(10 ** grid[0], 10 ** grid[-1]), yticks=[])
        ax.spines["left"].set_visible(False)
    ax.set_xscale("log")
    decades = float(np.ptp(grid))
    subs = (1,) if decades > 3 else (1, 2, 5)
    ax.xaxis.set_major_locator(LogLocator(subs=subs) if decades > 0.6 else AutoLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(xlabel="equivariance error", ylabel="posterior density (per decade)" if curves else "")
    ax.set_ylim(bottom=0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return ax


def plot_predictive(
    posterior: Posterior,
    x: Float[Tensor, "batch size_in"],
    y: Float[Tensor, "batch size_out"],
    output: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Predictions of one output against what was observed, in order of the observed value, with bands of two standard
    deviations.

    The inner band is epistemic (the members disagree), the outer one holds the noise too.

    Examples
    --------
    >>> ax = plot_predictive(posterior, data.test.x[:100], data.test.y[:100], output=0)
    """
    y = torch.as_tensor(y)
    if y.ndim != 2 or len(y) != len(x) or not 0 <= output < y.shape[1]:
        raise ValueError(f"y has shape {tuple(y.shape)}; expected ({len(x)}, outputs) with output {output} among them.")
    prediction, observed = posterior.predict(x, keep_samples=False), y[:, output]
    ax = ax or plt.subplots(figsize=(7, 4), layout="constrained")[1]
    order = observed.argsort()
    position, mean = np.arange(len(order)), prediction.mean[order, output].numpy()
    for variance, label, alpha in (
        (prediction.variance, "± 2 sd, with noise", 0.18),
        (prediction.epistemic, "± 2 sd, epistemic", 0.45),
    ):
        width = 2 * variance[order, output].sqrt().numpy()
        ax.fill_between(position, mean - width, mean + width, color=COLORS[0], alpha=alpha, linewidth=0, label=label)
    ax.plot(position, mean, color=COLORS[0], linewidth=1.2, label="predictive mean")
    ax.plot(position, observed[order].numpy(), ".", color=COLORS[1], markersize=3, label="observed")
    ax.set(xlabel="test example, in order of the observed value", ylabel=f"output {output}")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return ax


def _named_draws(values: xr.DataArray) -> str:
    """What draws are that are no sample from a posterior, for the legend; members are chains of one draw."""
    if values.size == 1:
        return " (one network)"
    if values.sizes.get("draw", 1) == 1:
        return f" (ensemble of {values.size})"
    return f" ({values.size} draws)" if values.size < _FEWEST_DRAWS else ""


def _errors_by_epoch(label: str, source: Posterior | xr.DataArray, x: Tensor | None) -> list[tuple[int, xr.DataArray]]:
    """Equivariance errors of the history, earliest first, and of the final draws."""
    if isinstance(source, xr.DataArray):
        return [(0, source)]
    if x is None and source.data is None:
        raise ValueError(f"the posterior {label!r} holds no training data: pass x, the points at which to measure.")
    points = x if x is not None else source.data[0]  # type: ignore[index]
    stages = [*source.history, Snapshot(source.stats.get("epochs", 0), source.samples)]
    return [(stage.epoch, equivariance_error(source.at(stage), points)) for stage in stages]
