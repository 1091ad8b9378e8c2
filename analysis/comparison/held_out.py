r"""Fitted posteriors side by side, by rows that none of them has seen.

    d_i = log p(y_i | x_i, best) - log p(y_i | x_i, other),    mean(d) +- sd(d) / sqrt(n)

The scores of two posteriors go up and down with the same rows, so that the difference is known far better than either
(Vehtari, Gelman & Gabry, Statistics and Computing 2017).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

from analysis.comparison.aligned import aligned
from analysis.comparison.log_score import log_scores
from analysis.in_words import InWords
from analysis.symmetry.equivariance import equivariance_error
from bayes_rpp import Categorical, Trivial
from inference import Posterior
from inference.data import resolve_data
from inference.posterior.predictive import prediction_errors

_POINTS = 500  # at which the equivariance error is measured
_FEW = 30  # rows, below which a standard error is itself unsure
_COLUMNS = {
    "log_score": ("log score", ".4g"),
    "log_score_error": ("+-", ".2g"),
    "behind": ("behind", ".3g"),
    "behind_error": ("+-", ".2g"),
    "mse": ("MSE", ".4g"),
    "error": ("error", ".3g"),
    "coverage": ("90 % hold", ".1%"),
    "equivariance_error": ("equiv. error", ".2g"),
    "log_evidence": ("log evidence", ".1f"),
}


@dataclass(frozen=True, repr=False)
class HeldOutComparison(InWords):
    """What ``compare_posteriors`` found; ``print`` shows the table and the verdict.

    Attributes
    ----------
    dataset : dims "posterior"; NaN where there is nothing to say. log_score, the mean over the rows of log p(y | x,
        data) in nats, and behind, how much the best one's is larger, each with its standard error; mse, or of labels
        error, the share that is wrong; coverage of the 90 % intervals; equivariance_error, the median over the draws,
        against the group of each; log_evidence, where the engine has recorded one.
    verdict : in sentences, what the differences decide.
    """

    dataset: xr.Dataset
    verdict: tuple[str, ...]

    def __str__(self) -> str:
        shown = {name: head for name, head in _COLUMNS.items() if self.dataset[name].notnull().any()}
        rows = [["", *(label for label, _ in shown.values())]]
        for name in self.dataset.posterior.values:
            own = self.dataset.sel(posterior=name)
            values = [(float(own[column]), form) for column, (_, form) in shown.items()]
            rows.append([str(name), *("" if math.isnan(value) else f"{value:{form}}" for value, form in values)])
        return "\n".join([*aligned(rows), *self.verdict])


def compare_posteriors(posteriors: Mapping[str, Posterior], test: Any) -> HeldOutComparison:
    """Which posterior predicts new rows best, and whether that is more than chance.

    Parameters
    ----------
    posteriors : by the names that they shall have; all of the same inputs and outputs.
    test : (x, y), rows that none of them was fitted to.

    Raises
    ------
    ValueError, TypeError
        If there are no posteriors, or the rows do not fit one of them.

    Examples
    --------
    >>> found = compare_posteriors({"RPP": rpp, "MLP": mlp}, data.test)
    >>> print(found)
    >>> found.dataset.behind.sel(posterior="MLP")
    """
    if not isinstance(posteriors, Mapping) or not posteriors:
        raise ValueError(f"posteriors must be a mapping from names to one Posterior or more, got {posteriors!r}.")
    scores, rows = {}, []
    for name, posterior in posteriors.items():
        try:
            pair = resolve_data(posterior.bayesian_model, test)
        except (ValueError, TypeError) as error:
            raise type(error)(f"posteriors[{name!r}] and test do not fit: {error}") from error
        assert pair is not None
        scores[name], of_draws = log_scores(posterior.log_likelihood(*pair))
        rows.append(_row(posterior, *pair) | {"log_score": float(scores[name].mean()), "of draws": of_draws})
        rows[-1]["log_score_error"] = math.hypot(_standard_error(scores[name]), of_draws)
    best = max(range(len(rows)), key=lambda k: rows[k]["log_score"])
    of_best = list(scores.values())[best]
    for k, own in enumerate(scores.values()):
        if k != best:
            draws = math.hypot(rows[k]["of draws"], rows[best]["of draws"])
            rows[k]["behind"] = float((of_best - own).mean())
            rows[k]["behind_error"] = math.hypot(_standard_error(of_best - own), draws)
    table = {name: ("posterior", np.array([row.get(name, math.nan) for row in rows])) for name in _COLUMNS}
    dataset = xr.Dataset(table, {"posterior": list(posteriors)}, {"rows": len(of_best)})
    return HeldOutComparison(dataset, tuple(_verdict(dataset, best)))


def _standard_error(values: torch.Tensor) -> float:
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _row(posterior: Posterior, x: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    model = posterior.bayesian_model
    prediction = posterior.predict(x)
    row = dict(prediction_errors(prediction.mean, y))
    if not isinstance(model.likelihood, Categorical):
        lower, upper = prediction.interval(0.9)
        row["coverage"] = float(((lower <= y) & (y <= upper)).double().mean())
    if not isinstance(getattr(model.network, "group", None), Trivial | None):
        row["equivariance_error"] = float(np.median(equivariance_error(posterior, x[:_POINTS])))
    if "log_evidence" in posterior.stats:
        row["log_evidence"] = float(posterior.stats["log_evidence"])
    return row


def _verdict(dataset: xr.Dataset, best: int) -> list[str]:
    names, count = [str(name) for name in dataset.posterior.values], dataset.attrs["rows"]
    behind, error = dataset.behind.values, dataset.behind_error.values
    close = [names[k] for k in range(len(names)) if k != best and not behind[k] > 2 * error[k]]
    beaten = [names[k] for k in range(len(names)) if k != best and behind[k] > 2 * error[k]]
    found = []
    if beaten:
        found += [
            f"{names[best]} predicts these {count} rows better than {' and '.join(beaten)}, by over 2 standard errors."
        ]
    if close:
        found += [
            f"{names[best]} and {' and '.join(close)}: the difference is within 2 standard errors, and decides nothing."
        ]
    if len(names) > 1 and count < _FEW:
        found += [f"There are only {count} rows to judge by, so that the standard errors are unsure themselves."]
    return found
