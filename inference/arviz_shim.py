"""The one place that talks to ArviZ: its 0.x line has InferenceData, its 1.x line DataTree."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float

if TYPE_CHECKING:
    from inference.posterior import Posterior


def to_arviz(posterior: Posterior) -> Any:
    """See Posterior.to_arviz."""
    arviz = quiet_arviz()
    groups: dict[str, dict[str, np.ndarray]] = {
        "posterior": {name: value.numpy() for name, value in posterior.samples.items()}
    }
    if posterior.sample_stats:
        groups["sample_stats"] = {name: value.numpy() for name, value in posterior.sample_stats.items()}
    if posterior.data is not None and posterior.model is not None:
        x, y = posterior.data
        groups["posterior_predictive"] = {"y": _observations(posterior).numpy()}
        groups["log_likelihood"] = {"y": posterior.log_likelihood(x, y).numpy()}
    if posterior.data is not None:
        groups["observed_data"] = {"y": posterior.data[1].numpy()}
    if int(arviz.__version__.split(".")[0]) >= 1:
        return arviz.from_dict(groups)
    with warnings.catch_warnings():  # an ensemble has many chains of one draw, and means it
        warnings.filterwarnings("ignore", "More chains", UserWarning)
        return arviz.from_dict(**groups)


def chain_diagnostics(values: Float[np.ndarray, "chain draw"]) -> dict[str, float]:
    """R-hat, effective sample sizes and Monte Carlo error of one number (Vehtari, Gelman, Simpson, Carpenter &
    Bürkner, "Rank-normalization, folding, and localization: an improved R-hat", Bayesian Analysis 2021).

    Parameters
    ----------
    values : finite and not all equal, with ``least_draws`` or more. The R-hat of one chain compares its quarters.

    Returns
    -------
    dict with r_hat (rank-normalised, split; infinite if every chain stands still somewhere else), ess_bulk, ess_tail,
    and mcse_mean, in the units of the values.

    Examples
    --------
    >>> chain_diagnostics(np.random.default_rng(0).normal(size=(4, 1000)))["r_hat"] < 1.01
    True
    """
    arviz = quiet_arviz()
    spread = np.ptp(values.astype(float))
    values = (values - values.mean()) / spread  # ArviZ takes a range below 1e-15 for none
    halves = values if len(values) > 1 else values[:, : values.shape[1] // 2 * 2].reshape(2, -1)
    with np.errstate(divide="ignore", invalid="ignore"):  # chains that stand still have no variance to divide by
        return {
            "r_hat": float(arviz.rhat(halves)),
            "ess_bulk": float(arviz.ess(values, method="bulk")),
            "ess_tail": float(arviz.ess(values, method="tail")),
            "mcse_mean": float(arviz.mcse(values, method="mean")) * float(spread),
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


def _observations(posterior: Posterior) -> torch.Tensor:
    """One replicate of the training outputs for every draw, with noise."""
    assert posterior.data is not None
    model, outputs = posterior.bayesian_model, posterior.outputs(posterior.data[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(posterior.stats.get("seed", 0)))
        rows = [
            model.likelihood.distribution(outputs[c, d], {n: v[c, d] for n, v in posterior.samples.items()}).sample()
            for c in range(posterior.chains)
            for d in range(posterior.draws)
        ]
    return torch.stack(rows).unflatten(0, (posterior.chains, posterior.draws))
