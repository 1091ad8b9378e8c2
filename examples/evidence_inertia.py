"""Prior variances chosen by the evidence on Inertia and Modified Inertia, without looking at test data.

1000 examples to train, 1000 to test; three hidden layers that hold the tensors that an inertia tensor needs (about 42,000
parameters). EmpiricalBayes learns the variances and the noise, globally or layer by layer, of three members each, of
networks with the right group, with a wrong one (SL(3)), with no freedom to break it (EMLP) and with none to keep (MLP);
and of an RPP as the symmetry is broken more and more. The noise starts at a hundredth of the variance of the outputs.
The two RPPs have a second pass, from fresh weights under the variances of the first. Every finished run is kept in
results/evidence_inertia.json, so that the script resumes where it was stopped.

    python examples/evidence_inertia.py           # two hours on one core
    python examples/evidence_inertia.py --tables  # only the tables of what is there
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from resumed_runs import Results, Row, run_all
from scipy.stats import spearmanr
from torch import nn

from analysis import equivariance_error
from bayes_rpp import EMLP, MLP, RPPEMLP, SL, BayesianModel, Gaussian, RPPPrior, Scalar, T, Vector
from bayes_rpp.datasets import inertia
from bayes_rpp.datasets.regression_data import RegressionData
from inference import EmpiricalBayes

RESULTS = Path(__file__).parent / "results" / "evidence_inertia.json"
DATA = {"Inertia": 0.0, "Modified Inertia": 0.3}
CHANNELS = 10 * Scalar + 6 * Vector + 4 * T(2) + 2 * T(3)
LEVELS = {"Inertia": 0.0, "c = 0.01": 0.01, "c = 0.03": 0.03, "c = 0.1": 0.1, "Modified Inertia": 0.3, "c = 1": 1.0}
LAYERS = 3
NETWORKS = ("RPP", "RPP per layer", "EMLP", "MLP", "RPP of SL(3)")
SEEDS = (0, 1, 2)
MEMBERS, EPOCHS, BATCH, LR = 3, 200, 100, 1e-2
THIRD = "RPP, three passes"  # of one seed: does the variance go on falling?
PASSES = {"RPP": 2, "RPP per layer": 2, THIRD: 3}  # the others have one pathway, or one that says nothing: one pass
START = RPPPrior(1.0, 3e-2)  # a loose dense pathway is easier to train; the evidence then narrows it


def network(name: str, data: RegressionData, layers: int = LAYERS) -> nn.Module:
    if name == "RPP of SL(3)":
        reps = 5 * Scalar + 5 * Vector, T(2)
        return RPPEMLP(*reps, SL(3), channels=CHANNELS, layers=layers)
    made = {"EMLP": EMLP, "MLP": MLP}.get(name, RPPEMLP)
    return made(data.rep_in, data.rep_out, data.group, channels=CHANNELS, layers=layers)


def run(data_name: str, name: str, seed: str) -> Row:
    data = inertia(train=1000, test=1000, symmetry_breaking=LEVELS[data_name], seed=int(seed))
    noise = Gaussian(noise_variance=0.01 * float(data.train.y.var()), learned=True, floor=1e-4)
    engine = EmpiricalBayes(
        passes=PASSES.get(name, 1),
        members=MEMBERS,
        epochs=EPOCHS,
        batch_size=BATCH,
        lr=LR,
        per_layer=name == "RPP per layer",
    )
    model = BayesianModel(network(name, data), START, noise)
    posterior = engine.fit(model, data.train, seed=int(seed))
    prediction = posterior.predict(data.test.x)
    errors = equivariance_error(posterior, data.test.x, rep_in=data.rep_in, rep_out=data.rep_out)
    return {
        "test_mse": float((prediction.mean - data.test.y).square().mean()),
        "member_test_mse": float((prediction.samples - data.test.y).square().mean()),
        "train_mse": float((posterior.predict(data.train.x).mean - data.train.y).square().mean()),
        "log_evidence": posterior.stats["log_evidence"],
        "equivariance_error": float(errors.median()),
        "least_error": float(errors.min()),
        "largest_error": float(errors.max()),
        **posterior.stats["variances"],
        "seconds": posterior.stats["seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--tables", action="store_true", help="make the tables of what is there")
    chosen = parser.parse_args()
    cases = [(data, name, str(seed)) for seed in SEEDS for data in reversed(DATA) for name in NETWORKS]
    cases += [(data, THIRD, "0") for data in DATA]
    cases += [(data, "RPP", str(seed)) for seed in SEEDS for data in LEVELS if data not in DATA]
    results = run_all(chosen.out, [] if chosen.tables else cases, run)
    print(network_table(results), level_table(results), sep="\n\n")


def recorded(results: Results, data: str, name: str) -> list[Row]:
    """The rows of all seeds that are there."""
    keys = [f"{data}/{name}/{seed}" for seed in SEEDS]
    return [results[key] for key in keys if key in results]


def network_table(results: Results) -> str:
    """Every network on both data sets."""
    lines = [
        "| data | network | test MSE, mean (each seed) | log evidence | dense variance | seconds |\n|---|---|---|---|---|---|"
    ]
    for data in DATA:
        for name in (*NETWORKS, THIRD):
            rows = recorded(results, data, name)
            if not rows:
                continue
            errors = [row["test_mse"] for row in rows]
            mean = {
                key: statistics.mean(row.get(key, float("nan")) for row in rows)
                for key in ("log_evidence", "dense_variance", "seconds")
            }
            each = ", ".join(f"{error:.3f}" for error in errors)
            lines.append(
                f"| {data} | {name} | {statistics.mean(errors):.3f} ({each}) | {mean['log_evidence']:.0f} | "
                f"{mean['dense_variance']:.2g} | {mean['seconds']:.0f} |"
            )
    return "\n".join(lines)


def level_table(results: Results) -> str:
    """What the RPP finds as the symmetry is broken more and more."""
    lines = ["| c | true error | equivariance error (each seed) | dense variance (each seed) |\n|---|---|---|---|"]
    found = []
    for data, c in LEVELS.items():
        problem = inertia(train=1, test=1000, symmetry_breaking=c, seed=0)
        reps = {"rep_in": problem.rep_in, "rep_out": problem.rep_out}
        truth = float(equivariance_error(problem.function, problem.test.x, **reps))
        rows = recorded(results, data, "RPP")
        if not rows:
            continue
        found += [(c, row["equivariance_error"], row["dense_variance"]) for row in rows]
        each = [", ".join(f"{row[name]:.2g}" for row in rows) for name in ("equivariance_error", "dense_variance")]
        lines.append(f"| {c:g} | {truth:.2g} | {' | '.join(each)} |")
    levels, errors, variances = zip(*found, strict=True)
    if len(set(levels)) > 2:
        ranks = [spearmanr(levels, values).statistic for values in (errors, variances)]
        lines.append(f"Spearman correlation with c: {ranks[0]:.2f} of the error, {ranks[1]:.2f} of the variance")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
