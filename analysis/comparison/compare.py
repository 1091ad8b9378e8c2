r"""Models side by side: which one do the data support?

    p(M_i | y) = p(y | M_i) / sum_j p(y | M_j)    under equal prior odds (Kass & Raftery, JASA 1995)

with the evidence p(y | M) integrated over the variances that the data choose, or a model with one more of them could
never lose.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr

from analysis.comparison.aligned import aligned
from analysis.comparison.log_score import log_scores
from analysis.evidence import PSISLOO, ConditionalEvidence, Evidence, EvidenceMethod, LaplaceEvidence, loo_of
from analysis.evidence.cross_validation import Engine, require_draws, require_engine
from analysis.evidence.integrated import integrated_evidence
from analysis.in_words import InWords
from analysis.symmetry.equivariance import equivariance_error
from bayes_rpp import BayesianModel, Group
from inference import EmpiricalBayes, Posterior
from inference.data import Data, Pair, resolve_data
from inference.posterior.predictive import prediction_errors

logger = logging.getLogger(__name__)
_progress = logging.getLogger("analysis.comparison.progress")

# What a method gives that is no evidence of the data: the name of its column.
_SCORES: dict[type, str] = {PSISLOO: "elpd_loo", ConditionalEvidence: "log_conditional_evidence"}
_COLUMNS = {
    "log_evidence": ("log evidence", ".1f"),
    "log_evidence_error": ("+-", ".2g"),
    "log_bayes_factor": ("log Bayes f.", ".1f"),
    "probability": ("probability", ".3g"),
    "elpd_loo": ("LOO", ".1f"),
    "elpd_loo_error": ("+-", ".2g"),
    "log_conditional_evidence": ("cond. evidence", ".1f"),
    "log_conditional_evidence_error": ("+-", ".2g"),
    "test_log_score": ("test score", ".3f"),
    "test_log_score_error": ("+-", ".2g"),
    "test_mse": ("test MSE", ".3g"),
    "test_error": ("test error", ".3g"),
    "equivariance_error": ("equiv. error", ".2g"),
    "parameters": ("parameters", ".0f"),
    "seconds": ("seconds", ".1f"),
}
_POINTS = 500  # at which the equivariance error is measured
CLOSE = 3.0  # nats, below which an evidence without a standard error decides nothing: Kass & Raftery, 1995


@dataclass(frozen=True, repr=False)
class Comparison(InWords):
    """What ``compare`` found; ``print`` shows the table and the warnings.

    Attributes
    ----------
    dataset : dims "model"; NaN where there is nothing to say. log_evidence with log_evidence_error, log_bayes_factor
        against the best model (at most 0), probability; elpd_loo; test_log_score, the mean over test examples of
        log p(y | x, data), with the standard error that examples and draws leave, see ``log_scores``, and test_mse, or
        of labels test_error, the share that is wrong; equivariance_error, the median over the draws; parameters of the
        network; seconds; unfinished, by about how many nats the search for the best variances ended early. The score
        of ConditionalEvidence is log_conditional_evidence.
    posteriors : of every model.
    warnings : what should be known before the table is relied on, in sentences.
    """

    dataset: xr.Dataset
    posteriors: Mapping[str, Posterior]
    warnings: tuple[str, ...] = ()

    def rows(self) -> list[list[str]]:
        """The table as text, its head first."""
        shown = {name: head for name, head in _COLUMNS.items() if self.dataset[name].notnull().any()}
        rows = [["model", *(label for label, _ in shown.values())]]
        for model in self.dataset.model.values:
            values = [(float(self.dataset[name].sel(model=model)), form) for name, (_, form) in shown.items()]
            rows.append([str(model), *("" if math.isnan(value) else f"{value:{form}}" for value, form in values)])
        return rows

    def __str__(self) -> str:
        return "\n".join([*aligned(self.rows()), *([""] if self.warnings else []), *self.warnings])


def compare(
    models: Mapping[str, BayesianModel],
    data: Data,
    *,
    engine: Engine | None = None,
    method: EvidenceMethod | None = None,
    test: Data = None,
    group: Group | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    progress: bool = True,
) -> Comparison:
    """Fit models to the same data, and put side by side what speaks for each.

    Parameters
    ----------
    models : by the names that they shall have in the table.
    data, seed, device, progress : see ``DeepEnsemble.fit``; all models get the same seed.
    engine : what fits every model. By default EmpiricalBayes(refinements=20), which lets each model's own evidence
        choose its prior variances and its noise: with guessed variances a comparison of models is one of guesses.
        Refinements take long for large networks: give them fewer, or none.
    method : of the evidence of every model, with the variances that the engine found. By default the engine's own, if
        it is EmpiricalBayes: the Laplace evidence at the mode, sought from the weights of the best member, integrated
        over the variances that have hyperpriors; else LaplaceEvidence(). PSISLOO and ConditionalEvidence give scores,
        and no probabilities.
    test : other data, for the test scores.
    group : against which the equivariance error is measured, by default each network's own; at test inputs if there
        are some.

    Returns
    -------
    Comparison, whose warnings are logged, too.

    Raises
    ------
    ValueError, TypeError
        If there are no models, one of them is no BayesianModel or does not fit the data, or engine or method refuse.

    Examples
    --------
    >>> models = {"RPP": rpp, "EMLP": emlp, "MLP": mlp}
    >>> found = compare(models, data.train, test=data.test, group=data.group)
    >>> print(found)
    >>> found.dataset.probability.sel(model="RPP")
    """
    engine = EmpiricalBayes(refinements=20) if engine is None else engine
    require_engine(engine)
    if method is not None and not callable(getattr(method, "estimate", None)):
        raise TypeError(f"method must be an evidence method, as LaplaceEvidence(), got {method!r}.")
    _check(models, data, test)
    rows: list[dict[str, float | None]] = []
    posteriors, warnings = {}, []
    for name, model in models.items():
        _progress.info("fitting %s, model %d of %d", name, len(rows) + 1, len(models))
        began = time.perf_counter()
        posterior = posteriors[name] = engine.fit(model, data, seed=seed, device=device, progress=progress)
        fitted = posterior.bayesian_model
        if method is None and isinstance(engine, EmpiricalBayes):
            evidence = integrated_evidence(model, posterior, engine, device)
        else:
            evidence = (method or LaplaceEvidence()).estimate(fitted, data, seed=seed, device=device, progress=progress)
        column = _SCORES.get(type(method), "log_evidence")
        row = {column: evidence.value, f"{column}_error": evidence.standard_error}
        row["unfinished"] = evidence.details.get("unfinished")
        row["parameters"] = float(sum(math.prod(law.shape) for law in fitted.parameter_priors.values()))
        row["seconds"] = time.perf_counter() - began
        loo = _leave_one_out(posterior)
        if loo is not None:
            row = {"elpd_loo": loo.value, "elpd_loo_error": loo.standard_error} | row
        pair = None if test is None else resolve_data(fitted, test)
        row |= {} if pair is None else _test_scores(posterior, pair)
        row["equivariance_error"] = _error(posterior, pair or resolve_data(fitted, data), group)
        rows.append(row)
        if posterior.interrupted:
            warnings.append(f"{name}: the fit was interrupted, and its row is of what was trained until then.")
        warnings += [f"{name}: {warning}" for warning in (*evidence.warnings, *(loo.warnings if loo else ()))]
    names = *_COLUMNS, "unfinished"
    table = {name: ("model", np.array([row.get(name) for row in rows], dtype=float)) for name in names}
    dataset = xr.Dataset(table, {"model": list(models)})
    dataset.attrs = {"engine": type(engine).__name__, "evidence": evidence.method}
    factors = dataset.log_evidence - dataset.log_evidence.max()  # all evidences are finite, or none
    dataset = dataset.assign(log_bayes_factor=factors, probability=np.exp(factors) / np.exp(factors).sum(skipna=False))
    warnings += _remarks(dataset, isinstance(engine, EmpiricalBayes) and method is not None)
    for warning in warnings:
        logger.warning("%s", warning)
    return Comparison(dataset, posteriors, tuple(warnings))


def _check(models: Mapping[str, BayesianModel], data: Data, test: Data) -> None:
    if not isinstance(models, Mapping) or not models:
        raise ValueError(f"models must be a mapping from names to one BayesianModel or more, got {models!r}.")
    for name, model in models.items():
        if not isinstance(model, BayesianModel):
            raise TypeError(f"models[{name!r}] must be a BayesianModel, got {type(model).__name__}.")
        for which, given in (("data", data), ("test", test)):
            try:
                resolve_data(model, data if given is None else given)
            except (ValueError, TypeError) as error:
                raise type(error)(f"models[{name!r}] and {which} do not fit: {error}") from error


def _leave_one_out(posterior: Posterior) -> Evidence | None:
    """PSIS-LOO, where there are draws."""
    try:
        require_draws(posterior, "LOO")
    except ValueError:
        return None
    return loo_of(posterior)


def _test_scores(posterior: Posterior, pair: Pair) -> dict[str, float]:
    x, y = pair
    scores, of_draws = log_scores(posterior.log_likelihood(x, y))
    error = math.hypot(float(scores.std()) / math.sqrt(len(scores)), of_draws) if len(scores) > 1 else math.nan
    found = {"test_log_score": float(scores.mean()), "test_log_score_error": error}
    return found | {
        f"test_{name}": value
        for name, value in prediction_errors(posterior.predict(x, keep_samples=False).mean, y).items()
    }


def _error(posterior: Posterior, pair: Pair | None, group: Group | None) -> float:
    network = posterior.bayesian_model.network
    if pair is None or not (hasattr(network, "rep_in") and hasattr(network, "rep_out")):
        return math.nan
    return float(np.median(equivariance_error(posterior, pair[0][:_POINTS], group)))


def _remarks(dataset: xr.Dataset, chosen_before: bool) -> list[str]:
    """What the whole table leaves to be desired."""
    method, logs = dataset.attrs["evidence"], dataset.log_evidence.values
    if np.isnan(logs).all():
        return [f"{method} gives no evidence of the data, and so no probabilities of models."]
    remarks = []
    if chosen_before:
        remarks.append(
            "The data chose the variances, under which the evidence is taken: it is too large, by a few nats for each "
            "of them."
        )
    if len(logs) > 1:
        second, first = np.argsort(logs)[-2:]
        gap, error = logs[first] - logs[second], np.hypot(*dataset.log_evidence_error.values[[first, second]])
        best = " and ".join(str(dataset.model.values[k]) for k in (first, second))
        if gap < (CLOSE if np.isnan(error) else 2 * error):
            known = "without a standard error" if np.isnan(error) else f"with a standard error of {error:.2g}"
            remarks.append(f"The log evidences of {best} differ by {gap:.2g}, {known}: that does not decide.")
    return remarks
