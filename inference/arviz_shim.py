"""The one place that talks to ArviZ: its 0.x line has InferenceData, its 1.x line DataTree."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from inference.posterior import Posterior


def to_arviz(posterior: Posterior) -> Any:
    """See Posterior.to_arviz."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "\\s*ArviZ is undergoing", FutureWarning)
        import arviz

    groups: dict[str, dict[str, np.ndarray]] = {
        "posterior": {name: value.numpy() for name, value in posterior.samples.items()}
    }
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
