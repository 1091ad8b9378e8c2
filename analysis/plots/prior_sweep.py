"""Pictures of a sweep over prior variances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.ticker import LogLocator, NullFormatter, SymmetricalLogLocator

from analysis.comparison.prior_sweep import chosen_cell, criterion_of
from analysis.plots.style import COLORS, SMALL, legend_above, panels, trim

_MAP = "viridis"  # even in lightness, and the same for the colour-blind
_LABELS = {
    "equivariant_variance": r"equivariant variance $\sigma_a^2$",
    "dense_variance": r"dense variance $\sigma_b^2$",
    "test_mse": "test error",
    "train_mse": "training error",
    "log_joint": "log joint",
    "exact_evidence": "log evidence (exact)",
}
_DECADE = 10.0
_ABOVE_LEGEND = 20.0  # points
_QUANTITIES = {"mse": "mean square error", "error": "share of wrong labels"}
_NEAR = 10.0  # nats
_FAR = 3.0  # times the median distance from the best: what is further off is drawn as if it were there


def plot_prior_sweep(
    dataset: xr.Dataset, criterion: str | None = None, beside: str | None = None, axes: Sequence[Axes] | None = None
) -> list[Axes]:
    """A criterion over the grid of a sweep, with the chosen cell marked; another variable beside it.

    After Figure 3 (right) of Finzi, Benton & Wilson (NeurIPS 2021): a map over two settings, a line over one. The star
    is the cell that the criterion chooses, in both panels; the circle in the second panel is that panel's own best
    cell. Bright is good. Colours of values in nats are distances from the best, on a scale that is linear up to ten
    nats, logarithmic beyond, and ends at three times the median distance; positive values that span more than a decade
    have a logarithmic scale. Cells without a finite value are left blank.

    Parameters
    ----------
    dataset : of ``prior_sweep``; of more than two settings take a part first, ``dataset.sel(noise_variance=0.2)``.
    criterion : one of its variables; by default the first criterion.
    beside : another one, such as "test_mse".
    axes : to draw on, one for each panel; they are returned.

    Raises
    ------
    ValueError
        If there is no such variable, it is finite nowhere, there are more than two settings, or axes for other panels.

    Examples
    --------
    >>> evidence, error = plot_prior_sweep(found, "laplace_symmetric", beside="test_mse")
    """
    names = [str(criterion_of(dataset, criterion).name), *([] if beside is None else [beside])]
    variables = [criterion_of(dataset, name).squeeze(drop=True) for name in names]
    if variables[0].ndim not in (1, 2):
        raise ValueError(
            f"the sweep must be over one or two settings, got {', '.join(map(str, variables[0].dims)) or 'none'}; "
            "select a value of the others, dataset.sel(name=value)."
        )
    axes = panels(axes, names, ((3.9 if variables[0].ndim == 2 else 3.6) * len(names), 3.6))
    chosen = chosen_cell(dataset, names[0])
    for ax, variable in zip(axes, variables, strict=True):
        own = chosen_cell(dataset, str(variable.name))
        (_draw_map if variable.ndim == 2 else _draw_line)(ax, variable, chosen, own)
        legend_above(ax, markerscale=0.6)
        ax.set_title(_label(str(variable.name)), loc="left", fontsize="medium", pad=_ABOVE_LEGEND)
    return axes


def _draw_map(ax: Axes, values: xr.DataArray, chosen: dict[str, float], own: dict[str, float]) -> None:
    """A heat map; the setting with the first dimension goes upwards."""
    vertical, horizontal = map(str, values.dims)
    shown, norm, label = _colours(values)
    x, y = values[horizontal].values, values[vertical].values
    colours = _MAP + "_r" if values.attrs.get("best") == "min" else _MAP
    mesh = ax.pcolormesh(_edges(x), _edges(y), np.ma.masked_invalid(shown), norm=norm, cmap=colours, linewidth=0)
    lowest = np.nanmin(np.where(np.isfinite(shown), shown, np.nan))
    bar = ax.figure.colorbar(mesh, ax=ax, label=label, extend="min" if lowest < norm.vmin else "neither")
    bar.ax.tick_params(which="both", labelsize=SMALL)
    ax.tick_params(labelsize=SMALL)
    if isinstance(norm, SymLogNorm):
        bar.locator = SymmetricalLogLocator(base=_DECADE, linthresh=_NEAR)
        bar.update_ticks()
    ax.set(xscale="log", yscale="log", xlabel=_label(horizontal), ylabel=_label(vertical))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(numticks=8))
        axis.set_minor_formatter(NullFormatter())
    for cell, marker, size, label in _marks(chosen, own):
        (line,) = ax.plot(cell[horizontal], cell[vertical], marker, markersize=size, label=label, clip_on=False)
        line.set(color="white", markeredgecolor="black")


def _draw_line(ax: Axes, values: xr.DataArray, chosen: dict[str, float], own: dict[str, float]) -> None:
    """A line over the logarithm of the one setting."""
    (setting,) = map(str, values.dims)
    ax.plot(values[setting].values, values.values, ".-", color=COLORS[0])
    for cell, marker, size, label in _marks(chosen, own):
        height = float(values.sel({setting: cell[setting]}))
        ax.plot(cell[setting], height, marker, color=COLORS[1], markersize=size, label=label, clip_on=False)
    ax.set(xscale="log", xlabel=_label(setting), ylabel=_quantity(values))
    finite = values.values[np.isfinite(values.values)]
    if values.attrs.get("units") == "nats":
        ax.set_ylim(finite.max() - 1.05 * _reach(finite), finite.max() + 0.05 * _reach(finite))
    elif _spans_a_decade(finite):
        ax.set_yscale("log")
    trim(ax)


def _marks(chosen: dict[str, float], own: dict[str, float]) -> list[tuple[dict[str, float], str, int, str]]:
    """The cells to mark, with marker, size and label."""
    return [(chosen, "*", 17, "chosen"), *([] if own == chosen else [(own, "o", 9, "best here")])]


def _colours(values: xr.DataArray) -> tuple[Float[np.ndarray, "y x"], Normalize, str]:
    """What to colour, by which scale, and what to call it."""
    finite = values.values[np.isfinite(values.values)]
    if values.attrs.get("units") == "nats":
        return values.values - finite.max(), SymLogNorm(_NEAR, vmin=-_reach(finite), vmax=0.0), "nats from the best"
    if _spans_a_decade(finite):
        return values.values, LogNorm(finite.min(), finite.max()), _quantity(values)
    return values.values, Normalize(finite.min(), finite.max()), _quantity(values)


def _reach(finite: Float[np.ndarray, " cell"]) -> float:
    """How far from the best a scale in nats goes."""
    distances = finite.max() - finite
    return max(_NEAR, min(float(distances.max()), _FAR * float(np.median(distances))))


def _spans_a_decade(finite: Float[np.ndarray, " cell"]) -> bool:
    return bool(finite.min() > 0 and finite.max() > _DECADE * finite.min())


def _quantity(values: xr.DataArray) -> str:
    return _QUANTITIES.get(str(values.name).rpartition("_")[2], values.attrs.get("units", ""))


def _edges(centres: Float[np.ndarray, " cell"]) -> Float[np.ndarray, " edge"]:
    """Where cells meet on a logarithmic axis."""
    logs = np.log(centres)
    between = (logs[1:] + logs[:-1]) / 2
    first, last = 2 * logs[0] - between[0], 2 * logs[-1] - between[-1]
    return np.exp(np.concatenate([[first], between, [last]]))


def _label(name: str) -> str:
    if name.startswith("laplace_"):
        return f"log evidence (Laplace, {name.removeprefix('laplace_')})"
    return _LABELS.get(name, name.replace("_", " "))
