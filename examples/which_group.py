"""Which group do the data have? O(3), O2eR3 (what keeps the z axis) or none, by ``compare``: a confusion table.

Ten data sets of inertia tensors are made with each: exactly symmetric, broken along the z axis, and broken in a way that
leaves no symmetry. As in symmetry_level.py the models are one layer from sum_i m_i r_i r_i^T to y, with hyperpriors, so
that evidences are exact; N = 300, noise of variance 0.2. The smaller the break c, the harder the question.

    python examples/which_group.py [--sets 10]
"""

from __future__ import annotations

import argparse

import torch
from symmetry_level import NOISE, REP, moments

from analysis import compare, symmetry_candidates
from analysis.evidence import ExactEvidence, ExactSampling
from bayes_rpp import Gaussian, O, O2eR3, Trivial
from bayes_rpp.datasets import inertia

GROUPS = [O(3), O2eR3(), Trivial(3)]
KINDS = {"O(3)": "axis", "O2eR3": "axis", "Trivial(3)": "generic"}
BREAKS = (0.01, 0.03, 0.1, 0.3, 1.0)


def picked(truth: str, breaking: float, seed: int) -> tuple[str, float]:
    """The group with the largest evidence, and its probability."""
    data = inertia(
        train=300, test=1, symmetry_breaking=0.0 if truth == "O(3)" else breaking, kind=KINDS[truth], seed=seed
    )
    noise = torch.randn(data.train.y.shape, generator=torch.Generator().manual_seed(seed))
    pair = moments(data.train.x), data.train.y + NOISE**0.5 * noise
    models = symmetry_candidates(REP, REP, GROUPS, Gaussian(NOISE), layers=0)
    found = compare(models, pair, engine=ExactSampling(draws=100), method=ExactEvidence(), seed=seed).dataset
    return str(found.log_evidence.idxmax().item()), float(found.probability.max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=10, help="data sets of each kind")
    sets = parser.parse_args().sets
    print("| made with | picks", " | picks ".join(KINDS), "| smallest probability of a pick |", sep=" ")
    print("|---" * 5 + "|")
    for truth in KINDS:
        for breaking in BREAKS[:1] if truth == "O(3)" else BREAKS:
            picks = [picked(truth, breaking, seed) for seed in range(sets)]
            counts = " | ".join(str([name for name, _ in picks].count(group)) for group in KINDS)
            label = truth if truth == "O(3)" else f"{truth}, c = {breaking:g}"
            print(f"| {label} | {counts} | {min(probability for _, probability in picks):.2f} |", flush=True)


if __name__ == "__main__":
    main()
