"""Conversion to ArviZ and its diagnostics: all that depends on its version. 0.23, which Python 3.11 gets, has
InferenceData; 1.x, which needs Python 3.12, has xarray's DataTree. Both give the same numbers here.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

TAILS = (0.05, 0.95)  # the quantiles whose effective draws are those of the tails


def inference_data(groups: Mapping[str, Mapping[str, Tensor]], note: str | None = None) -> Any:
    """ArviZ InferenceData, or DataTree, with these groups, each name -> (chain, draw, *shape), and a note among the
    attributes of the posterior. A variable that has the name of a dimension, which ArviZ would drop, gets underscores
    behind it; a slash in a name, which a DataTree refuses, becomes an underscore.
    """
    arviz = quiet_arviz()
    arrays = {
        group: {new: values[name].numpy() for name, new in _variable_names(values).items()}
        for group, values in groups.items()
    }
    with warnings.catch_warnings():  # a few draws of many chains
        warnings.filterwarnings("ignore", "More chains|Found chain dimension to be longer", UserWarning)
        result = arviz.from_dict(arrays) if has_data_tree(arviz) else arviz.from_dict(**arrays)
    if note is not None:
        result.posterior.attrs["note"] = note
    return result


def _variable_names(values: Mapping[str, Tensor]) -> dict[str, str]:
    """A name for each variable, without a slash, that is neither that of another nor of a dimension: "chain", "draw",
    "theta_dim_0".
    """
    plain = {name: name.replace("/", "_") for name in values}
    dimensions = {f"{plain[name]}_dim_{axis}" for name, value in values.items() for axis in range(value.ndim - 2)}
    names: dict[str, str] = {}
    for name, new in plain.items():
        while new in {"chain", "draw"} | dimensions or (new != name and new in {*values, *names.values()}):
            new += "_"
        names[name] = new
    return names


def chain_diagnostics(values: Float[np.ndarray, "chain draw"]) -> dict[str, float]:
    """R-hat (rank-normalised, split), effective sample sizes and the Monte Carlo error of the mean of one number, in
    its units (Vehtari, Gelman, Simpson, Carpenter & Bürkner, "Rank-normalization, folding, and localization: an
    improved R-hat", Bayesian Analysis 2021). The values are finite and not all equal, with ``least_draws`` or more. The
    R-hat of one chain compares its quarters; that of chains that are constant and differ is infinite.
    """
    arviz = quiet_arviz()
    values = values.astype(float)
    exponent = math.frexp(np.ptp(values))[1]
    values = np.ldexp(values, -exponent)  # ArviZ takes a range below 1e-15 for 0; a power of two keeps all ties
    halves = values if len(values) > 1 else values[:, : values.shape[1] // 2 * 2].reshape(2, -1)
    with np.errstate(divide="ignore", invalid="ignore"):  # constant chains have no variance to divide by
        return {
            "r_hat": float(arviz.rhat(halves)),
            "ess_bulk": float(arviz.ess(values, method="bulk")),
            "ess_tail": float(arviz.ess(values, method="tail", prob=TAILS)),
            "mcse_mean": math.ldexp(float(arviz.mcse(values, method="mean")), exponent),
        }


def pareto_smoothed(
    log_likelihood: Float[np.ndarray, "chain draw example"],
) -> tuple[Float[np.ndarray, "example"], Float[np.ndarray, "example"]]:
    """log p(y_i | y_-i) of every example, in nats, by Pareto-smoothed importance sampling from draws given all of them,
    and the shape k of each example's largest weights (Vehtari, Simpson, Gelman, Yao & Gabry, JMLR 2024). The effective
    draws, by which ArviZ chooses how many weights are smoothed, are those of the likelihoods. k is infinite where no
    Pareto distribution fits, as where the largest weights are all the same; these are taken as they are.
    """
    arviz = quiet_arviz()
    chains = len(log_likelihood)
    flat = np.moveaxis(log_likelihood, -1, 0).reshape(log_likelihood.shape[-1], -1).astype(float)
    relative = np.exp(flat - flat.max(1, keepdims=True)).reshape(len(flat), chains, -1)
    share = 1.0
    if chains > 1:
        share = float(np.mean([arviz.ess(each, method="mean") for each in relative])) / flat.shape[1]
    with np.errstate(over="ignore"):  # where a model misses by thousands of nats
        if has_data_tree(arviz):
            weights, shapes = _smoothed_weights(flat, share)
        else:
            weights, shapes = arviz.psislw(-flat, share)
    pointwise = np.logaddexp.reduce(weights + flat, axis=1) - np.logaddexp.reduce(weights, axis=1)
    return pointwise, np.where(np.isnan(shapes), np.inf, shapes)


def _smoothed_weights(
    flat: Float[np.ndarray, "example sample"], share: float
) -> tuple[Float[np.ndarray, "example sample"], Float[np.ndarray, "example"]]:
    """What ``arviz.psislw`` gave before 1.0, which refuses weights whose largest are all the same."""
    from arviz_stats.base import array_stats

    weights, shapes = -flat, np.full(len(flat), np.inf)
    for i, each in enumerate(flat):
        with contextlib.suppress(ValueError):
            weights[i], shapes[i] = array_stats.psislw(each, r_eff=share)
    return weights, shapes


def least_draws(chains: int) -> int:
    """The draws a chain that R-hat needs: 4, but 8 of a single one."""
    return 4 if chains > 1 else 8


def quiet_arviz() -> Any:
    """ArviZ, without the announcement that its import makes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "\\s*ArviZ is undergoing", FutureWarning)
        import arviz
    return arviz


def has_data_tree(arviz: Any) -> bool:
    """Whether this ArviZ is one of 1.x."""
    return int(arviz.__version__.split(".")[0]) >= 1
