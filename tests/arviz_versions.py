"""What the tests ask of ArviZ, of whichever version is installed: 0.23 or 1.x."""

from typing import Any, NamedTuple

import numpy as np

from inference.posterior.arviz import has_data_tree, quiet_arviz

arviz = quiet_arviz()
DATA_TREE = has_data_tree(arviz)


class LOO(NamedTuple):
    """What ``arviz.loo`` finds, in nats."""

    elpd: float
    p: float
    pointwise: np.ndarray
    pareto_k: np.ndarray


def groups_of(view: Any) -> list[str]:
    """The names of a view's groups."""
    return list(view.children) if DATA_TREE else list(view.groups())


def loo(view: Any, **options: Any) -> LOO:
    """Leave-one-out cross-validation of a view."""
    if DATA_TREE:
        found = arviz.loo(view, pointwise=True, **options)
        return LOO(found.elpd, found.p, found.elpd_i.values, found.pareto_k.values)
    found = arviz.loo(view, pointwise=True, scale="log", **options)
    return LOO(found.elpd_loo, found.p_loo, found.loo_i.values, found.pareto_k.values)


def ess(values: np.ndarray, method: str) -> float:
    """The effective draws of values (chain, draw); 1.x wants to be given the quantiles of the tails."""
    tails = {"prob": (0.05, 0.95)} if method == "tail" else {}
    return float(arviz.ess(values, method=method, **tails))


def bfmi(view: Any) -> np.ndarray:
    """The Bayesian fraction of missing information of each chain."""
    found = arviz.bfmi(view)
    return found["energy"].values if DATA_TREE else found


def marked_draws(view: Any, variable: str) -> list[float]:
    """Where a plot of the traces marks divergent draws, once for each element of the variable."""
    if DATA_TREE:
        marks = arviz.plot_trace(view, var_names=[variable], backend="matplotlib").viz["divergence"][variable]
        return [x for marked in marks.values.flat for x, _ in marked.get_offsets()]
    plots = arviz.plot_trace(view, var_names=[variable], divergences="bottom", compact=False)[:, 1]
    lines = [line for axes in plots for line in axes.get_lines() if line.get_marker() == "|"]
    return [float(x) for line in lines for x in line.get_xdata()]


def energy_curves(view: Any) -> int:
    """How many curves a plot of the energies draws."""
    if DATA_TREE:
        return arviz.plot_energy(view, backend="matplotlib").viz["dist"]["Energy"].size
    return sum(len(line.get_xdata()) > 0 for line in arviz.plot_energy(view).get_lines())  # others are of the legend
