"""Conversion to ArviZ and its diagnostics; version 0.x has InferenceData, version 1.x DataTree."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor


def inference_data(groups: Mapping[str, Mapping[str, Tensor]], note: str | None = None) -> Any:
    """ArviZ InferenceData with these groups, each name -> (chain, draw, *shape), and a note among the attributes of the
    posterior. A variable that has the name of a dimension, which ArviZ would drop, gets underscores behind it.
    """
    arviz = quiet_arviz()
    arrays = {
        group: {new: values[name].numpy() for name, new in _variable_names(values).items()}
        for group, values in groups.items()
    }
    if int(arviz.__version__.split(".")[0]) >= 1:
        result = arviz.from_dict(arrays)
    else:
        with warnings.catch_warnings():  # a few draws of many chains
            warnings.filterwarnings("ignore", "More chains", UserWarning)
            result = arviz.from_dict(**arrays)
    if note is not None:
        result.posterior.attrs["note"] = note
    return result


def _variable_names(values: Mapping[str, Tensor]) -> dict[str, str]:
    """A name for each variable that is neither that of another nor of a dimension: "chain", "draw", "theta_dim_0"."""
    dimensions = {f"{name}_dim_{axis}" for name, value in values.items() for axis in range(value.ndim - 2)}
    names: dict[str, str] = {}
    for name in values:
        new = name
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
            "ess_tail": float(arviz.ess(values, method="tail")),
            "mcse_mean": math.ldexp(float(arviz.mcse(values, method="mean")), exponent),
        }


def least_draws(chains: int) -> int:
    """The draws a chain that R-hat needs: 4, but 8 of a single one."""
    return 4 if chains > 1 else 8


def quiet_arviz() -> Any:
    """ArviZ, without the announcement that its import makes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "\\s*ArviZ is undergoing", FutureWarning)
        import arviz
    return arviz
