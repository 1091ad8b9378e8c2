"""Figure 3 (right) of the paper with the evidence beside the test error: a 7 x 7 grid of prior variances on Inertia and
Modified Inertia.

The network, the noise and the training are those of evidence_inertia.py. Each criterion sees the training data alone.
For each: the test error of the cell that it chooses over that of the best cell, and its rank correlation with minus the
test error over the grid. Beside them stand the variances that the gradient of the evidence found, in
results/evidence_inertia.json. Finished grids are kept in results/evidence_grid.json, so that the script resumes.

    python examples/evidence_grid.py            # about two hours on one core
    python examples/evidence_grid.py --figure   # only the picture, of what is there
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
from pathlib import Path

import numpy as np
import xarray as xr
from evidence_inertia import BATCH, DATA, EPOCHS, LR, SEEDS, network
from evidence_inertia import RESULTS as BY_GRADIENT
from matplotlib.figure import Figure
from resumed_runs import run_all
from scipy.stats import spearmanr

from analysis import plot_prior_sweep, prior_sweep
from analysis.evidence import LaplaceEvidence, loo_of
from analysis.sweep_criteria import Criterion
from bayes_rpp import BayesianModel, Gaussian, RPPPrior
from bayes_rpp.datasets import inertia
from inference import MAP, Laplace, Posterior

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "evidence_grid.json"
GRID = {
    "equivariant_variance": [10.0 ** (half / 2) for half in range(-2, 5)],
    "dense_variance": [10.0**power for power in range(-6, 1)],
}
CURVATURES = ("symmetric", "kronecker", "diagonal")


def last_layer_loo(posterior: Posterior) -> float:
    """PSIS-LOO over draws of the last layer, all others being fixed."""
    draws = Laplace("last_layer", draws=200).fit(
        posterior.bayesian_model, posterior.data, seed=0, start=posterior, progress=False
    )
    return loo_of(draws).value


def run(data_name: str, seed: str) -> dict:
    """Inertia: one sweep, for its time. Modified Inertia: all criteria, and another sweep on the first half of the data,
    for the conditional evidence of the second half."""
    data = inertia(train=1000, test=1000, symmetry_breaking=DATA[data_name], seed=int(seed))
    noise = Gaussian(noise_variance=0.01 * float(data.train.y.var()), learned=True, floor=1e-4)
    model = BayesianModel(network("RPP", data), RPPPrior(), noise)
    criteria: dict[str, Criterion] = {f"laplace_{name}": LaplaceEvidence(name) for name in CURVATURES}
    mode = MAP(epochs=EPOCHS, batch_size=BATCH, lr=LR)
    sweep = functools.partial(prior_sweep, model, test=data.test, mode=mode, seed=int(seed), **GRID)
    least = {"laplace_symmetric": LaplaceEvidence("symmetric")}
    first = sweep(tuple(part[: len(part) // 2] for part in data.train), criteria=least)
    found = sweep(data.train, criteria=criteria | {"psis_loo": last_layer_loo})
    found["conditional_evidence"] = (found.laplace_symmetric - first.laplace_symmetric).assign_attrs(best="max")
    found.attrs["criteria"] = [*found.attrs["criteria"], "conditional_evidence"]
    return _plain(found)


def _plain(found: xr.Dataset) -> dict:
    return {"seconds": found.attrs["seconds"], "dataset": found.to_dict()}


def table(grids: dict[str, xr.Dataset]) -> str:
    """Each criterion on each data set, the mean over the seeds."""
    gradient = json.loads(BY_GRADIENT.read_text())
    lines = [
        "| data | chosen by | test MSE, mean (each seed) | over the best cell | Spearman with -test MSE |\n"
        "|---|---|---|---|---|"
    ]
    for data in DATA:
        sweeps = {key.split("/")[1]: grid for key, grid in grids.items() if key.startswith(f"{data}/")}
        best = {seed: float(grid.test_mse.min()) for seed, grid in sweeps.items()}
        rows = {"the best cell": list(best.values())}
        ranks: dict[str, list[float]] = {}
        first = next(iter(sweeps.values()))
        for name in [*first.attrs["criteria"], "log_joint", "train_mse"]:
            signs = {seed: -1 if grid[name].attrs.get("best") == "min" else 1 for seed, grid in sweeps.items()}
            rows[name] = [
                float(grid.test_mse.values.flat[np.nanargmax(signs[seed] * grid[name].values)])
                for seed, grid in sweeps.items()
            ]
            ranks[name] = [
                float(spearmanr(signs[seed] * grid[name].values.ravel(), -grid.test_mse.values.ravel()).statistic)
                for seed, grid in sweeps.items()
            ]
        for name in ("RPP", "RPP per layer"):
            rows[f"gradient, {name}"] = [gradient[f"{data}/{name}/{seed}"]["test_mse"] for seed in best]
        for name, errors in rows.items():
            ratio = statistics.mean(errors) / statistics.mean(best.values())
            rank = f"{statistics.mean(ranks[name]):.2f}" if name in ranks else ""
            each = ", ".join(f"{error:.3f}" for error in errors)
            lines.append(f"| {data} | {name} | {statistics.mean(errors):.3f} ({each}) | {ratio:.2f} | {rank} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--figure", action="store_true", help="make the table and the picture of what is there")
    chosen = parser.parse_args()
    cases = [] if chosen.figure else [(data, str(seed)) for seed in SEEDS for data in reversed(DATA)]
    results = run_all(chosen.out, cases, run)
    grids = {key: xr.Dataset.from_dict(row["dataset"]) for key, row in results.items()}
    print(table(grids))
    print("seconds of a sweep:", *(round(row["seconds"]) for key, row in results.items() if key.startswith("Inertia")))
    figure = Figure(figsize=(10, 4), layout="constrained")
    plot_prior_sweep(grids["Modified Inertia/0"], beside="test_mse", axes=figure.subplots(1, 2))
    figure.savefig(HERE / "figures" / "prior_sweep.png", dpi=150)


if __name__ == "__main__":
    main()
