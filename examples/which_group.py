"""Which group do the data have? The evidence's choice among O(3), O2eR3 (rotations about the z axis and reflections that
keep it) and no group at all, on data made with each: a confusion table of ten data sets a kind.

Inertia tensors, exactly O(3)-equivariant; with the symmetry broken along the z axis; and broken without any symmetry
left. Each fit chooses its variances by its own evidence. Every finished fit is kept in results/which_group.json, so that
the script resumes where it was stopped; delete the file to start again.

    python examples/which_group.py [--sets 10]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from resumed_runs import Results, Row, run_all

from analysis import compare, symmetry_candidates
from bayes_rpp import Gaussian, O, O2eR3, Scalar, T, Trivial, Vector
from bayes_rpp.datasets import inertia
from inference import EmpiricalBayes

RESULTS = Path(__file__).parent / "results" / "which_group.json"
GROUPS = [O(3), O2eR3(), Trivial(3)]
DATA = {"O(3)": (0.0, "axis"), "O2eR3": (1.0, "axis"), "Trivial(3)": (1.0, "generic")}
# Products of vectors, which the tensor needs, come from the T(3): a bilinear layer takes them for maps.
CHANNELS = 5 * Scalar + 5 * Vector + 5 * T(2) + 3 * T(3)
ENGINE = EmpiricalBayes(epochs=120, batch_size=100, lr=0.01, burn_in=60, evidence_lr=0.2)


def run(truth: str, candidate: str, seed: str) -> Row:
    breaking, kind = DATA[truth]
    data = inertia(train=300, test=1000, symmetry_breaking=breaking, kind=kind, seed=int(seed))
    likelihood = Gaussian(noise_variance=0.2)  # what a network of this size may miss
    models = symmetry_candidates(data.rep_in, data.rep_out, GROUPS, likelihood, channels=CHANNELS, layers=2)
    found = compare({candidate: models[candidate]}, data.train, engine=ENGINE, test=data.test, seed=int(seed))
    table = found.dataset.isel(model=0)
    return {name: float(table[name]) for name in ("log_evidence", "test_log_score", "test_mse", "seconds")}


def best(results: Results, truth: str, seed: int, score: str) -> str | None:
    """The candidate with the highest score, once all have run."""
    rows = {group: results.get(f"{truth}/{group}/{seed}") for group in DATA}
    if any(row is None for row in rows.values()):
        return None
    return max(rows, key=lambda group: rows[group][score])  # type: ignore[index]


def table(results: Results, sets: int) -> str:
    lines = []
    for score, title in (("log_evidence", "the evidence"), ("test_log_score", "the test score")):
        lines += [f"| data made with | {' | '.join(f'{title} picks {group}' for group in DATA)} |", "|---" * 4 + "|"]
        for truth in DATA:
            picks = [best(results, truth, seed, score) for seed in range(sets)]
            lines.append(f"| {truth} | {' | '.join(str(picks.count(group)) for group in DATA)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=10, help="data sets of each kind")
    sets = parser.parse_args().sets
    cases = [(truth, group, str(seed)) for seed in range(sets) for truth in DATA for group in DATA]
    print(table(run_all(RESULTS, cases, run), sets))


if __name__ == "__main__":
    main()
