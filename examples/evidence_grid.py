"""Figure 3 (right) of the paper with the evidence beside the test error: a 7 x 7 grid of prior variances on Modified
Inertia.

The network, the noise and the training are those of evidence_inertia.py. Each criterion sees the training data alone.
For each: the test error of the cell that it chooses over that of the best cell, and its rank correlation with minus the
test error over the grid. Beside them stand the variances that the gradient of the evidence found, in
results/evidence_inertia.json. Finished grids are kept in results/evidence_grid.json, so that the script resumes.

    python examples/evidence_grid.py            # an hour on one core
    python examples/evidence_grid.py --figure   # only the table and the picture, of what is there
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
from pathlib import Path

import numpy as np
import xarray as xr
from evidence_inertia import BATCH, EPOCHS, LR, SEEDS, START, network
from evidence_inertia import RESULTS as BY_GRADIENT
from matplotlib.figure import Figure
from resumed_runs import run_all
from scipy.stats import spearmanr

from analysis import plot_prior_sweep, prior_sweep
from analysis.evidence import LaplaceEvidence, loo_of
from analysis.sweep_criteria import Criterion
from bayes_rpp import BayesianModel, Gaussian
from bayes_rpp.datasets import inertia
from inference import MAP, Laplace, Posterior

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "evidence_grid.json"
GRID = {
    "equivariant_variance": [10.0 ** (half / 2) for half in range(-2, 5)],
    "dense_variance": [10.0**power for power in range(-6, 1)],
}
QUICK = {f"laplace_{name}": LaplaceEvidence(name) for name in ("symmetric", "kronecker")}
ALL_CRITERIA = ("0", "1")  # the seeds on which the criteria that take longer than the training are measured, too


def last_layer_loo(posterior: Posterior) -> float:
    """PSIS-LOO over draws of the last layer, all others being fixed."""
    draws = Laplace("last_layer", draws=200).fit(
        posterior.bayesian_model, posterior.data, seed=0, start=posterior, progress=False
    )
    return loo_of(draws).value


def run(seed: str) -> dict:
    """The quick criteria; on some seeds all of them, and another sweep on the first half of the data, for the
    conditional evidence of the second half."""
    data = inertia(train=1000, test=1000, symmetry_breaking=0.3, seed=int(seed))
    noise = Gaussian(noise_variance=0.01 * float(data.train.y.var()), learned=True, floor=1e-4)
    model = BayesianModel(network("RPP", data), START, noise)
    mode = MAP(epochs=EPOCHS, batch_size=BATCH, lr=LR)
    sweep = functools.partial(prior_sweep, model, test=data.test, mode=mode, seed=int(seed), **GRID)
    if seed not in ALL_CRITERIA:
        return _plain(sweep(data.train, criteria=QUICK))
    longer: dict[str, Criterion] = {"laplace_diagonal": LaplaceEvidence("diagonal"), "psis_loo": last_layer_loo}
    first = sweep(tuple(part[: len(part) // 2] for part in data.train), criteria=QUICK)
    found = sweep(data.train, criteria=QUICK | longer)
    found["conditional_evidence"] = (found.laplace_symmetric - first.laplace_symmetric).assign_attrs(best="max")
    found.attrs["criteria"] = [*found.attrs["criteria"], "conditional_evidence"]
    return _plain(found)


def _plain(found: xr.Dataset) -> dict:
    quick = found.attrs["criteria"] == list(QUICK)
    return {"seconds": found.attrs["seconds"], "quick": quick, "dataset": found.to_dict()}


def table(grids: dict[str, xr.Dataset]) -> str:
    """What each criterion chooses, the mean over the seeds on which it was measured."""
    gradient = json.loads(BY_GRADIENT.read_text())
    best = {key: float(grid.test_mse.min()) for key, grid in grids.items()}
    chosen: dict[str, dict[str, float]] = {"the best cell": best}
    ranks: dict[str, list[float]] = {}
    names = dict.fromkeys(name for grid in grids.values() for name in grid.attrs["criteria"])
    for name in [*names, "log_joint", "train_mse"]:
        having = {key: grid for key, grid in grids.items() if name in grid}
        sign = -1 if name == "train_mse" else 1
        chosen[name] = {
            k: float(g.test_mse.values.flat[np.nanargmax(sign * g[name].values)]) for k, g in having.items()
        }
        ranks[name] = [
            float(spearmanr(sign * grid[name].values.ravel(), -grid.test_mse.values.ravel()).statistic)
            for grid in having.values()
        ]
    for name in ("RPP", "RPP per layer", "RPP, kronecker"):
        chosen[f"gradient, {name}"] = {key: gradient[f"Modified Inertia/{name}/{key}"]["test_mse"] for key in grids}
    lines = [
        "| chosen by | test MSE, mean (each seed) | over the best cell | Spearman with -test MSE |\n|---|---|---|---|"
    ]
    for name, errors in chosen.items():
        ratio = statistics.mean(errors.values()) / statistics.mean(best[key] for key in errors)
        rank = f"{statistics.mean(ranks[name]):.2f}" if name in ranks else ""
        each = ", ".join(f"{error:.3f}" for error in errors.values())
        lines.append(f"| {name} | {statistics.mean(errors.values()):.3f} ({each}) | {ratio:.2f} | {rank} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--figure", action="store_true", help="make the table and the picture of what is there")
    chosen = parser.parse_args()
    cases = [] if chosen.figure else [(str(seed),) for seed in SEEDS]
    results = run_all(chosen.out, cases, run)
    grids = {key: xr.Dataset.from_dict(row["dataset"]) for key, row in results.items()}
    print(table(grids))
    print("seconds of a sweep with the quick criteria:", *(row["seconds"] for row in results.values() if row["quick"]))
    figure = Figure(figsize=(10, 4), layout="constrained")
    plot_prior_sweep(grids["0"], "laplace_kronecker", beside="test_mse", axes=figure.subplots(1, 2))
    figure.savefig(HERE / "figures" / "prior_sweep.png", dpi=150)


if __name__ == "__main__":
    main()
