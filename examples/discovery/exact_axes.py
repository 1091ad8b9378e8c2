"""Linear models of inertia, whose posteriors and evidences are exact: an axis from draws, and models that have it."""

from __future__ import annotations

import time
from typing import Any

import torch
from symmetry_level import NOISE, REP, moments
from turned_inertia import POINTS, angle_between, summary, turned_function

from analysis import compare, kept_symmetry, symmetry_candidates
from analysis.evidence import ExactEvidence, ExactSampling
from bayes_rpp import SO, Gaussian, O, SO2eR3, Trivial
from bayes_rpp.datasets import inertia

DRAWS = 100
COMPARED = 10  # of the data sets


def run(kind: str, train: str, noise: str, seed: str) -> dict[str, Any]:
    """The axis of modified inertia, turned at random, from draws of a linear model of sum_i m_i r_i r_i^T."""
    began = time.process_time()
    data = inertia(int(train), POINTS, 0.3, int(seed))
    turn = SO(3).sample(1, int(seed))[0]
    turned = turned_function(data.function, turn, data.rep_in, data.rep_out)
    generator = torch.Generator().manual_seed(int(seed))
    y = turned(data.train.x)
    pair = moments(data.train.x), y + NOISE**0.5 * torch.randn(y.shape, generator=generator)
    points = moments(data.test.x)
    groups = [O(3), SO2eR3(), Trivial(3)]
    models = symmetry_candidates(REP, REP, groups, Gaussian(NOISE), layers=0)
    posterior = ExactSampling(DRAWS).fit(models["Trivial(3)"], pair, seed=int(seed))
    kept = kept_symmetry(posterior, points, SO(3), rep_in=REP, rep_out=REP)
    row: dict[str, Any] = {"so": summary(kept), "seconds": time.process_time() - began}
    if kept.dimension == 1:
        row["so"]["angle"] = angle_between(kept, turn[:, 2])
        if int(seed) < COMPARED:
            groups.insert(0, kept.as_group())
            models = symmetry_candidates(REP, REP, groups, Gaussian(NOISE), layers=0)
            found = compare(models, pair, engine=ExactSampling(25), method=ExactEvidence(), progress=False)
            evidences = found.dataset.log_evidence
            row["nats"] = {
                str(group): float(evidences[0] - value) for group, value in zip(groups, evidences, strict=True)
            }
    return row
