"""Linear models of inertia, whose posteriors and evidences are exact: what draws keep, an axis, and models that have it."""

from __future__ import annotations

import time
from typing import Any

import torch
from symmetry_level import NOISE, REP, moments
from torch import Tensor
from turned_inertia import DATA, POINTS, angle_between, summary, turned_function

from analysis import compare, kept_symmetry, symmetry_candidates
from analysis.evidence import ExactEvidence, ExactSampling
from bayes_rpp import SO, Gaussian, O, SO2eR3, Trivial
from bayes_rpp.datasets import inertia

DRAWS = 100
COMPARED = 10  # of the data sets
GROUPS = [O(3), SO2eR3(), Trivial(3)]


def turned_moments(kind: str, train: str, variance: float, seed: str) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
    """sum_i m_i r_i r_i^T and noisy moments of inertia to fit, points, and the rotation that turned the axis from z."""
    breaking, form = DATA[kind]
    data = inertia(int(train), POINTS, breaking, int(seed), form)
    turn = SO(3).sample(1, int(seed))[0]
    y = turned_function(data.function, turn, data.rep_in, data.rep_out)(data.train.x)
    generator = torch.Generator().manual_seed(int(seed))
    noisy = y + variance**0.5 * torch.randn(y.shape, generator=generator)
    return (moments(data.train.x), noisy), moments(data.test.x), turn


def run(kind: str, train: str, noise: str, seed: str) -> dict[str, Any]:
    """The axis of modified inertia, turned at random, from draws, and the evidence of models that have it."""
    began = time.process_time()
    pair, points, turn = turned_moments("axis", train, NOISE, seed)
    models = symmetry_candidates(REP, REP, GROUPS, Gaussian(NOISE), layers=0)
    posterior = ExactSampling(DRAWS).fit(models["Trivial(3)"], pair, seed=int(seed))
    kept = kept_symmetry(posterior, points, SO(3), rep_in=REP, rep_out=REP)
    row: dict[str, Any] = {"so": summary(kept), "seconds": time.process_time() - began}
    if kept.dimension == 1:
        row["so"]["angle"] = angle_between(kept, turn[:, 2])
        if int(seed) < COMPARED:
            groups = [kept.as_group(), *GROUPS]
            models = symmetry_candidates(REP, REP, groups, Gaussian(NOISE), layers=0)
            found = compare(models, pair, engine=ExactSampling(25), method=ExactEvidence(), progress=False)
            evidences = found.dataset.log_evidence
            row["nats"] = {
                str(group): float(evidences[0] - value) for group, value in zip(groups, evidences, strict=True)
            }
    return row


def run_level(kind: str, train: str, variance: str, seed: str) -> dict[str, Any]:
    """How many dimensions draws keep, for noise of this variance."""
    began = time.process_time()
    pair, points, _ = turned_moments(kind.removeprefix("linear, "), train, float(variance), seed)
    models = symmetry_candidates(REP, REP, GROUPS, Gaussian(float(variance)), layers=0)
    posterior = ExactSampling(DRAWS).fit(models["Trivial(3)"], pair, seed=int(seed))
    reps = {"rep_in": REP, "rep_out": REP}
    row = {
        "so": summary(kept_symmetry(posterior, points, SO(3), **reps)),
        "gl": summary(kept_symmetry(posterior, points, algebra="gl", **reps)),
    }
    return row | {"seconds": time.process_time() - began}
