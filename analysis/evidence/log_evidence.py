"""log_evidence: every method by one name."""

from __future__ import annotations

import logging

import torch

from analysis.evidence.laplace import LaplaceEvidence
from analysis.evidence.protocol import Evidence, EvidenceMethod
from inference.data import Data, Model

logger = logging.getLogger(__name__)


def log_evidence(
    model: Model,
    data: Data,
    method: EvidenceMethod | None = None,
    *,
    seed: int = 0,
    device: str | torch.device = "auto",
    progress: bool = True,
) -> Evidence:
    """log p(y | x), how well a model with its prior predicted the data before it saw them, in nats.

    Parameters
    ----------
    model : a BayesianModel; or a LogDensity with data=None, where the method can do without a prior of its own.
    data : (x, y) as tensors or arrays, or a Dataset of such pairs.
    method : ExactEvidence, LaplaceEvidence (the default), AnnealedImportanceSampling, TemperedSMC;
        or a predictive score instead, PSISLOO or ConditionalEvidence.
    seed, device, progress : see ``DeepEnsemble.fit``.

    Returns
    -------
    Evidence with the value, its standard error where the method has one, its cost and its warnings, which are logged.

    Raises
    ------
    ValueError, TypeError
        If the data are missing or refused, or the method cannot take this model.

    Examples
    --------
    >>> print(log_evidence(model, data.train, LaplaceEvidence("layer")))
    -812.45 nats (Laplace, layer, 12.3 s)
    """
    chosen = LaplaceEvidence() if method is None else method
    if not callable(getattr(chosen, "estimate", None)):
        raise TypeError(f"method must be an evidence method, as LaplaceEvidence(), got {method!r}.")
    evidence = chosen.estimate(model, data, seed=seed, device=device, progress=progress)
    for warning in evidence.warnings:
        logger.warning("%s: %s", evidence.method, warning)
    return evidence
