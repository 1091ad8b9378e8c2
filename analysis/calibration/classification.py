"""Predicted classes against labels: how often predictions of a confidence are right, and what abstaining gains."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from bayes_rpp.positive_integer import positive_integer

_ROUNDING = 1e-3  # in a sum of probabilities


def reliability(
    probabilities: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"], bins: int = 15
) -> xr.Dataset:
    """How often predictions of a confidence, the largest probability, are right (Guo et al., ICML 2017).

    Bins hold nearly equal numbers of examples, the least confident first, so that no bin rests on a few.

    Parameters
    ----------
    probabilities : such as ``posterior.predict(x).mean`` under a Categorical likelihood.
    labels : from 0 to classes - 1.
    bins : how many, at most one for each example.

    Returns
    -------
    Dataset with dims (bin): "confidence" and "accuracy", means over the examples of a bin, the accuracy's
    "standard_error", and "count". Its attributes are "error" (the share of wrong labels), "log_loss" (nats an example),
    "brier" (the squared distance from the one-hot label), and "calibration_error", the mean of |accuracy - confidence|
    over the examples' bins. That of a calibrated prediction is not 0: an accuracy among n examples scatters by
    sqrt(p (1 - p) / n); "calibration_error_of_chance" is what would be expected then, of the same confidences.

    Raises
    ------
    ValueError
        If shapes disagree, rows are no probabilities, or labels are out of range.

    Examples
    --------
    >>> found = reliability(post.predict(data.test.x).mean, data.test.y)
    >>> found.attrs["calibration_error"], found.attrs["calibration_error_of_chance"]
    """
    chances, truth = _checked(probabilities, labels)
    bins = min(positive_integer(bins, "bins"), len(truth))
    confidence, predicted = chances.max(1), chances.argmax(1)
    right = _mean_of_ties(predicted == truth, confidence)
    each = np.array_split(np.argsort(confidence, kind="stable"), bins)
    count = np.array([len(part) for part in each])
    accuracy, mean = (np.array([values[part].mean() for part in each]) for values in (right, confidence))
    spread = np.sqrt([np.sum(confidence[part] * (1 - confidence[part])) for part in each]) / count
    variables = {
        "confidence": mean,
        "accuracy": accuracy,
        "standard_error": np.sqrt(accuracy * (1 - accuracy) / count),
        "count": count,
    }
    own = np.clip(chances[np.arange(len(truth)), truth], np.finfo(float).tiny, None)
    one_hot = np.eye(chances.shape[1])[truth]
    summary = {
        "error": float(1 - right.mean()),
        "log_loss": float(-np.log(own).mean()),
        "brier": float(np.square(chances - one_hot).sum(1).mean()),
        "calibration_error": float(np.average(np.abs(accuracy - mean), weights=count)),
        "calibration_error_of_chance": float(np.average(spread * np.sqrt(2 / np.pi), weights=count)),
    }
    return xr.Dataset({name: ("bin", value) for name, value in variables.items()}, attrs=summary)


def accuracy_against_rejection(
    probabilities: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"]
) -> xr.DataArray:
    """The accuracy on the examples that are left when the least confident ones are left to somebody else.

    Returns
    -------
    DataArray with dims (rejected): the share of examples that are rejected, from 0 up; the last value is of the most
    confident example alone. Where several are equally confident, all count with the mean of them. Raises as
    ``reliability``.

    Examples
    --------
    >>> curve = accuracy_against_rejection(post.predict(data.test.x).mean, data.test.y)
    >>> float(curve.sel(rejected=0.2, method="nearest"))
    """
    chances, truth = _checked(probabilities, labels)
    confidence, predicted = chances.max(1), chances.argmax(1)
    surest_first = np.argsort(-confidence, kind="stable")
    right = np.cumsum(_mean_of_ties(predicted == truth, confidence)[surest_first])
    kept = np.arange(1, len(truth) + 1)
    return xr.DataArray((right / kept)[::-1], {"rejected": 1 - kept[::-1] / len(truth)}, ["rejected"], name="accuracy")


def _mean_of_ties(right: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """For each example the share of right ones among those of the same confidence: their order means nothing."""
    _, group, count = np.unique(confidence, return_inverse=True, return_counts=True)
    return (np.bincount(group, weights=right) / count)[group]


def _checked(probabilities: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    chances = torch.as_tensor(probabilities).detach().cpu().double()
    truth = torch.as_tensor(labels).detach().cpu()
    if chances.ndim != 2 or truth.shape != chances.shape[:1] or not len(truth):
        raise ValueError(
            f"probabilities (batch, classes) and labels (batch,) are wanted, got {tuple(chances.shape)} and "
            f"{tuple(truth.shape)}."
        )
    sums = chances.sum(1)
    if not (torch.isfinite(chances).all() and (chances >= 0).all() and ((sums - 1).abs() < _ROUNDING).all()):
        raise ValueError(
            "probabilities must be at least 0 and add up to 1 in every row, as predict(x).mean under a Categorical "
            "likelihood; its samples are logits."
        )
    classes = chances.shape[1]
    if truth.is_floating_point() or ((truth < 0) | (truth >= classes)).any():
        raise ValueError(f"labels must be integers from 0 to {classes - 1}, got {truth.unique()[:5].tolist()}, ...")
    return chances.numpy(), truth.long().numpy()
