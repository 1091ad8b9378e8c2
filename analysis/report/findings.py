"""What a report on a run says, as numbers and as what is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from analysis.comparison.compare_groups import GroupComparison
from analysis.discovery.kept_algebra import KeptAlgebra
from analysis.discovery.kept_subgroup import KeptSubgroup
from analysis.report.evidence import evidence_of
from analysis.report.files import MARK
from analysis.report.kept import kept_of
from analysis.report.run import Run
from analysis.symmetry.equivariance import equivariance_error, summarize
from analysis.symmetry.pathway_shares import pathway_shares
from bayes_rpp import Categorical
from bayes_rpp.networks.layers.pathway_sums import ResidualPathwayLayer
from inference import Posterior
from inference.posterior.prediction import Prediction

LEVELS = (50, 80, 90, 95)  # of intervals, in percent

_POINTS = 500  # at which it is asked what is kept


@dataclass(frozen=True)
class Findings:
    """What there is to report on a run.

    Attributes
    ----------
    run : the posterior and its held-out rows.
    centred : the posterior of outputs about the offset that standardising took out, see ``Run.centred``; all numbers
        are of these.
    numbers : test error, equivariance error over the members, the share of each pathway, ..., as JSON values.
    kept : the part of the group that is kept; None where nothing can be said.
    evidence : of the group, exactly, against a network that only prefers it; None where it was not asked for.
    """

    run: Run
    centred: Posterior
    numbers: dict[str, Any]
    kept: KeptAlgebra | KeptSubgroup | None
    evidence: GroupComparison | None


def findings_of(run: Run, *, with_evidence: bool = False) -> Findings:
    """Judge a run by its held-out rows; the evidence takes minutes."""
    centred, offset = run.centred()
    y = run.y - offset if run.y.is_floating_point() else run.y  # labels have none
    prediction = centred.predict(run.x)
    error = equivariance_error(centred, run.x)
    kept = kept_of(centred, run.x[:_POINTS], _as_mean(y, prediction)[:_POINTS])
    numbers = {
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
        "equivariant_share": _shares(run.posterior),
        "kept": None if kept is None else str(kept),
    }
    evidence = evidence_of(run) if with_evidence else None
    if evidence is not None:
        numbers["evidence"] = {"models": evidence.values, "verdict": list(evidence.verdict)}
    return Findings(run, centred, numbers, None if isinstance(kept, str) else kept, evidence)


def _shares(posterior: Posterior) -> dict[str, float] | None:
    """Of the equivariant pathway, layer by layer."""
    if not any(isinstance(module, ResidualPathwayLayer) for module in posterior.bayesian_model.network.modules()):
        return None
    found = pathway_shares(posterior).median(("chain", "draw")).sel(pathway="equivariant")
    return dict(zip(found.layer.values.tolist(), found.values.tolist(), strict=True))


def _test_scores(prediction: Prediction, y: Tensor) -> dict[str, Any]:
    """Of numbers, the error of the mean and how many the 90 % intervals hold; of labels, the share that is wrong."""
    score = {"test_log_score": float(prediction.log_score(y).mean())}
    if isinstance(prediction.likelihood, Categorical):
        return score | {"test_error": float((prediction.mean.argmax(1) != y).double().mean())}
    held = {str(level): _coverage(prediction, y, level / 100) for level in LEVELS}
    members = torch.stack([(outputs - y).square().mean() for outputs in prediction.samples.flatten(0, 1)])
    return score | {
        "test_mse_of_mean": float((prediction.mean - y).square().mean()),
        "test_mse_of_members": summarize(members),
        "test_share_of_worst_row": _share_of_worst_row(prediction.mean, y),
        "test_coverage_of_90": held["90"],
        "test_coverage": held,
        "output_variance": float(y.var(0, correction=0).mean()),
        "test_mse_over_variance": _relative_error(prediction.mean, y),
    }


def _as_mean(y: Tensor, prediction: Prediction) -> Tensor:
    """Labels as vectors of 0 and 1, of which predictions have the mean."""
    return y if y.is_floating_point() else one_hot(y, prediction.mean.shape[1]).to(prediction.mean)


def _relative_error(mean: Tensor, y: Tensor) -> float | None:
    """The mean, over the outputs that vary, of the squared error over the variance; units may differ."""
    variance, error = y.var(0, correction=0), (mean - y).square().mean(0)
    varies = variance > 0
    return float((error[varies] / variance[varies]).mean()) if varies.any() else None


def _share_of_worst_row(mean: Tensor, y: Tensor) -> float:
    """Of the squared errors together."""
    errors = (mean - y).double().square().flatten(1).sum(1)
    return float(errors.max() / errors.sum()) if errors.sum() > 0 else 0.0


def _coverage(prediction: Prediction, y: Tensor, probability: float) -> float:
    lower, upper = prediction.interval(probability)
    return float(((lower <= y) & (y <= upper)).double().mean())
