"""The picture of a comparison of models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.comparison.compare import Comparison
from analysis.plots.style import COLORS, GREY, SMALL, panels, trim

# The panels, as far as a comparison has them: variable, its title, its axis, and whether it is drawn against the best.
_PANELS = (
    ("log_evidence", "evidence", "log evidence below the best [nats]", True),
    ("log_conditional_evidence", "conditional evidence", "log evidence below the best [nats]", True),
    ("elpd_loo", "leave-one-out", "LOO score below the best [nats]", True),
    ("test_log_score", "test data", "log score per example [nats]", False),
    ("equivariance_error", "symmetry", "equivariance error", False),
)
_MANY = 30.0  # nats, from which differences are drawn on a logarithmic scale


def plot_comparison(comparison: Comparison, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Models as rows, and a panel for each thing that speaks for or against them.

    Evidence and leave-one-out are drawn as differences to the best model, with bars of one standard error where the
    method has one, and the posterior probability beside; on a scale that is linear up to 1 nat and logarithmic beyond,
    if some are large. A variable that is NaN for every model has no panel.

    Parameters
    ----------
    comparison : what ``compare`` gave.
    axes : to draw on, one for each panel, or ValueError; they are returned.

    Examples
    --------
    >>> evidence, test, symmetry = plot_comparison(compare(models, data.train, test=data.test))
    """
    dataset = comparison.dataset
    shown = [panel for panel in _PANELS if dataset[panel[0]].notnull().any()]
    names = [str(name) for name in dataset.model.values]
    size = 1.2 + 2.1 * len(shown), 1.3 + 0.45 * len(names)
    axes = panels(axes, [title for _, title, _, _ in shown], size, sharey=True)
    for ax, (variable, title, label, relative) in zip(axes, shown, strict=True):
        values = dataset[variable].values
        errors = dataset.get(f"{variable}_error", dataset[variable] * np.nan).values
        if relative:
            _differences(ax, values - np.nanmax(values), errors)
        else:
            _points(ax, values, errors)
            ax.xaxis.set_major_locator(MaxNLocator(4))
        if variable == "log_evidence":
            for row, p in enumerate(dataset.probability.values):
                at = ax.get_yaxis_transform()
                ax.text(0.02, row - 0.32, f"p = {p:.2g}", transform=at, fontsize=SMALL, color=GREY, va="center")
        ax.set_title(title, loc="left", fontsize="medium")
        ax.set_xlabel(label, fontsize=SMALL)
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_yticks(np.arange(len(names)), names)
        trim(ax)
        ax.tick_params(axis="y", labelleft=ax is axes[0])
    return axes


def _differences(ax: Axes, values: np.ndarray, errors: np.ndarray) -> None:
    """A bar down from the best to every model's dot."""
    reach = np.nan_to_num(errors)
    lowest, highest = min(float(np.nanmin(values - reach)), -1.0), float(np.nanmax(values + reach))
    if lowest < -_MANY:
        ax.set_xscale("symlog", linthresh=1.0)
        ax.set_xlim(5 * lowest, max(1.2 * highest, 0.6))
        decades = int(np.log10(-lowest))  # four labels or fewer fit
        ax.set_xticks([0.0, *(-(10.0**k) for k in range(decades, -1, -(decades // 3 + 1)))])
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        ax.set_xlim(1.15 * lowest, max(1.15 * highest, -0.06 * lowest))
    ax.axvline(0, color="#bbbbbb", linewidth=0.8)
    ax.barh(np.arange(len(values)), values, height=0.3, color=COLORS[0], alpha=0.45)
    _points(ax, values, errors)


def _points(ax: Axes, values: np.ndarray, errors: np.ndarray) -> None:
    """A dot a model, with its standard error."""
    rows, bars = np.arange(len(values)), np.nan_to_num(errors)
    ax.errorbar(values, rows, xerr=bars, fmt="o", color=COLORS[0], markersize=6, linewidth=1.5)
