"""Figure 3 (right) of the paper with the evidence beside the test error: grids of prior variances on Modified Inertia.

* members: the network, the noise, the training and the members of evidence_inertia.py, in a grid of 5 x 5.
* single: one fit in each cell of 7 x 7, of a network with two hidden layers, and on some seeds all criteria. Single fits
  end in optima of very different quality, so that neighbouring cells differ by half.

Each criterion sees the training data alone. For each: the test error of the cell that it chooses over that of the best
cell, and its rank correlation with minus the test error over the grid. Beside them stand the variances that the gradient
of the evidence found, in results/evidence_inertia.json. Finished grids are kept, so that the script resumes.

    python examples/paper/figure3_right.py --trials 3  # three hours on one core
    python examples/paper/figure3_right.py --quick --out quick/figure3_right.json  # a minute: 2 x 2 cells, few epochs
    python examples/paper/figure3_right.py --report-only
"""

from __future__ import annotations

import functools
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from scipy.stats import spearmanr

sys.path.append(str(Path(__file__).parents[1]))

from evidence_inertia import BATCH, EPOCHS, LR, MEMBERS, SEEDS, START, network
from evidence_inertia import RESULTS as BY_GRADIENT
from recording.result_pages import RESULTS as RECORDS
from recording.result_pages import captioned, figure, page, parser, publish, trial_options
from recording.resumed_runs import Results, run_all

from analysis import plot_prior_sweep, prior_sweep
from analysis.evidence import LaplaceEvidence, loo_of
from bayes_rpp import BayesianModel, Gaussian, RPPPrior
from bayes_rpp.datasets import inertia
from inference import MAP, DeepEnsemble, Laplace, Posterior

RESULTS = RECORDS / "figure3_right.json"
GRIDS = {
    "members": {
        "equivariant_variance": [0.1, 0.3, 1.0, 3.0, 10.0],
        "dense_variance": [1e-4, 1e-3, 1e-2, 1e-1, 1.0],
    },
    "single": {
        "equivariant_variance": [10.0 ** (half / 2) for half in range(-2, 5)],
        "dense_variance": [10.0**power for power in range(-6, 1)],
    },
}
MODES = {
    "members": DeepEnsemble(members=MEMBERS, epochs=EPOCHS, batch_size=BATCH, lr=LR),
    "single": MAP(epochs=400, batch_size=BATCH, lr=3e-2),
}
QUICK = {f"laplace_{name}": LaplaceEvidence(name) for name in ("symmetric", "kronecker")}
ALL_CRITERIA = ("0", "1")  # seeds on which single fits have the criteria that take longer than the training, too


def last_layer_loo(posterior: Posterior) -> float:
    """PSIS-LOO over draws of the last layer, all others being fixed."""
    draws = Laplace("last_layer", draws=200).fit(
        posterior.bayesian_model, posterior.data, seed=0, start=posterior, progress=False
    )
    return loo_of(draws).value


def run(kind: str, seed: str, quick: bool = False) -> dict:
    """The dataset of one sweep, as a dictionary. With all criteria there is another sweep on the first half of the
    data, for the conditional evidence of the second half."""
    data = inertia(train=1000, test=1000, symmetry_breaking=0.3, seed=int(seed))
    noise = Gaussian(noise_variance=0.01 * float(data.train.y.var()), learned=True, floor=1e-4)
    net = network("RPP", data, **({"layers": 2} if kind == "single" else {}))
    dense = START.dense_variance if kind == "members" else 1e-2
    start = RPPPrior(1.0 if kind == "members" else 10.0, dense, scaling="layer_fan_in")
    grid, mode = GRIDS[kind], MODES[kind]
    if quick:
        grid = {name: [values[0], values[-1]] for name, values in grid.items()}
        mode = replace(mode, epochs=5, members=1) if isinstance(mode, DeepEnsemble) else replace(mode, epochs=5)
    sweep = functools.partial(
        prior_sweep, BayesianModel(net, start, noise), test=data.test, mode=mode, seed=int(seed), **grid
    )
    if quick or kind == "members" or seed not in ALL_CRITERIA:
        return {"dataset": sweep(data.train, criteria=QUICK).to_dict()}
    first = sweep(tuple(part[: len(part) // 2] for part in data.train), criteria=QUICK)
    found = sweep(
        data.train, criteria=QUICK | {"laplace_diagonal": LaplaceEvidence("diagonal"), "psis_loo": last_layer_loo}
    )
    found["conditional_evidence"] = (found.laplace_symmetric - first.laplace_symmetric).assign_attrs(best="max")
    found.attrs["criteria"] = [*found.attrs["criteria"], "conditional_evidence"]
    return {"dataset": found.to_dict()}


NAMES = {
    "laplace_symmetric": '`LaplaceEvidence("symmetric")`',
    "laplace_kronecker": '`LaplaceEvidence("kronecker")`',
    "laplace_diagonal": '`LaplaceEvidence("diagonal")`',
    "psis_loo": "PSIS-LOO over draws of the last layer",
    "conditional_evidence": "conditional evidence of the second half",
    "log_joint": "log joint",
    "train_mse": "training error",
}


def table(grids: dict[str, xr.Dataset], by_gradient: dict[str, dict[str, float]]) -> str:
    """What each criterion chooses, the mean over the seeds on which it was measured.

    Parameters
    ----------
    grids : of each seed.
    by_gradient : the test errors of other choices, by what they are called, of each seed.
    """
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
    lines = [
        "| chosen by | test MSE, mean (each seed) | over the best cell | Spearman with -test MSE |\n|---|---|---|---|"
    ]
    for name, errors in (chosen | by_gradient).items():
        ratio = statistics.mean(errors.values()) / statistics.mean(best[key] for key in errors)
        rank = f"{statistics.mean(ranks[name]):.2f}" if name in ranks else ""
        each = ", ".join(f"{error:.3f}" for error in errors.values())
        lines.append(
            f"| {NAMES.get(name, name)} | {statistics.mean(errors.values()):.3f} ({each}) | {ratio:.2f} | {rank} |"
        )
    return "\n".join(lines)


def recorded(results: Results, kind: str) -> dict[str, xr.Dataset]:
    """The grids of one kind by their seeds."""
    rows = {key.split("/")[1]: row for key, row in results.items() if key.startswith(f"{kind}/")}
    return {seed: xr.Dataset.from_dict(row["dataset"]) for seed, row in rows.items()}


def report(results: Results) -> str:
    gradient = json.loads(BY_GRADIENT.read_text())
    members, single = (recorded(results, kind) for kind in GRIDS)
    by_gradient = {
        f"`EmpiricalBayes`, {label}": {
            seed: gradient[f"Modified Inertia/{name}/{seed}"]["test_mse"] for seed in members
        }
        for label, name in (("global", "RPP"), ("layer by layer", "RPP per layer"))
    }
    minutes = [grid.attrs["seconds"] / 60 for grid in members.values()]
    several = (
        "Grids of 5 x 5 variances (equivariant 0.1 to 10, dense 1e-4 to 1) on Modified Inertia, three members a cell, "
        f"{min(minutes):.0f} to {max(minutes):.0f} minutes a sweep on a shared core: the test error of the cell that each "
        "criterion chooses from the training data alone. Both Laplace evidences choose the best cell on every seed but "
        "one, where the next best has nearly the same error. The gradient of the evidence (`EmpiricalBayes`) needs no "
        "grid and comes close; it may fall below 1.00, since it is not bound to the cells."
    )
    alone = (
        "One fit in each cell of a grid of 7 x 7, of a network with two hidden layers; the criteria that take longer than "
        "the training were measured on seeds 0 and 1. Neighbouring cells differ by half, since each fit ends in an "
        "optimum of its own, and the least of 49 errors is a lucky one: use several members in each cell. The training "
        "error chooses well only because these data have no noise."
    )
    shows = "Log evidence over the grid of prior variances, beside the test error"
    return page(
        __file__,
        "Grids of prior variances",
        "## Three members in each cell",
        captioned(several, table(members, by_gradient)),
        figure("prior_sweep", shows),
        "Log evidence (Kronecker-factored Laplace) and test error over the grid of seed 0.",
        "## One fit in each cell",
        captioned(alone, table(single, {})),
    )


def main() -> None:
    chosen = trial_options(parser(__doc__, RESULTS), len(SEEDS))
    cases = [] if chosen.report_only else [(kind, str(trial)) for kind in GRIDS for trial in range(chosen.trials)]
    results = run_all(chosen.out, cases, functools.partial(run, quick=chosen.quick))
    picture = Figure(figsize=(10, 4), layout="constrained")
    plot_prior_sweep(
        recorded(results, "members")["0"], "laplace_kronecker", beside="test_mse", axes=picture.subplots(1, 2)
    )
    publish(chosen.out, report(results), {"prior_sweep": picture})


if __name__ == "__main__":
    main()
