"""The numbers of a report on a run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from analysis.discovery.kept_symmetry import kept_symmetry
from analysis.report.files import MARK
from analysis.report.run import Run
from analysis.symmetry.equivariance import equivariance_error, summarize
from analysis.symmetry.pathway_shares import pathway_shares
from bayes_rpp import Categorical, Group
from bayes_rpp.networks.layers.pathway_sums import ResidualPathwayLayer
from inference import Posterior
from inference.posterior.prediction import Prediction

_POINTS = 500  # at which Lie derivatives are taken


def numbers_of(run: Run) -> dict[str, Any]:
    """Test error, equivariance error over the members, and the share of each pathway, as JSON values. All are of
    outputs about the offset that standardising took out, see ``Run.centred``.
    """
    centred, offset = run.centred()
    y = run.y - offset if run.y.is_floating_point() else run.y  # labels have none
    prediction = centred.predict(run.x)
    error = equivariance_error(centred, run.x)
    shares = None
    if any(isinstance(module, ResidualPathwayLayer) for module in run.posterior.bayesian_model.network.modules()):
        found = pathway_shares(run.posterior).median(("chain", "draw")).sel(pathway="equivariant")
        shares = dict(zip(found.layer.values.tolist(), found.values.tolist(), strict=True))
    return {
        "format": MARK,
        "interrupted": run.posterior.interrupted,
        "epochs": run.posterior.stats.get("epochs"),
        "engine": run.posterior.stats.get("engine"),
        "members": run.posterior.chains * run.posterior.draws,
        "diverged": len(run.posterior.stats.get("diverged", {})),
        "test_examples": len(run.x),
        **_test_scores(prediction, y),
        "equivariance_error": {**summarize(error), "members": error.values.reshape(-1).tolist()},
        "group": error.attrs["group"],
        "equivariant_share": shares,
        "kept": _kept_in_words(centred, run.x[:_POINTS], _as_mean(y, prediction)[:_POINTS]),
    }


def _test_scores(prediction: Prediction, y: Tensor) -> dict[str, Any]:
    """Of numbers, the error of the mean and how many the 90 % intervals hold; of labels, the share that is wrong."""
    score = {"test_log_score": float(prediction.log_score(y).mean())}
    if isinstance(prediction.likelihood, Categorical):
        return score | {"test_error": float((prediction.mean.argmax(1) != y).double().mean())}
    members = torch.stack([(outputs - y).square().mean() for outputs in prediction.samples.flatten(0, 1)])
    lower, upper = prediction.interval(0.9)
    return score | {
        "test_mse_of_mean": float((prediction.mean - y).square().mean()),
        "test_mse_of_members": summarize(members),
        "test_coverage_of_90": float(((lower <= y) & (y <= upper)).double().mean()),
        "output_variance": float(y.var(0, correction=0).mean()),
        "test_mse_over_variance": _relative_error(prediction.mean, y),
    }


def _as_mean(y: Tensor, prediction: Prediction) -> Tensor:
    """Labels as vectors of 0 and 1, of which predictions have the mean."""
    return y if y.is_floating_point() else one_hot(y, prediction.mean.shape[1]).to(prediction.mean)


def _kept_in_words(posterior: Posterior, x: Tensor, y: Tensor) -> str | None:
    """Which directions of the Lie algebra are kept; None where the group has none, or there is a single draw."""
    group = posterior.bayesian_model.network.group
    assert isinstance(group, Group)
    if not len(group.orthonormal_algebra) or posterior.chains * posterior.draws < 2:
        return None
    try:
        return str(kept_symmetry(posterior, x, y=y))
    except ValueError as error:  # as of draws that are all alike
        return f"nothing can be said of the directions that are kept: {error}"


def _relative_error(mean: Tensor, y: Tensor) -> float | None:
    """The mean, over the outputs that vary, of the squared error over the variance; units may differ."""
    variance, error = y.var(0, correction=0), (mean - y).square().mean(0)
    varies = variance > 0
    return float((error[varies] / variance[varies]).mean()) if varies.any() else None
