"""Figure 3 (left) of the RPP paper: how the equivariance error of RPP networks develops while they are trained.

Ensembles of ten RPP networks on Inertia, where the symmetry is exact, approximate (a share of 0.3 is broken) and wrong
(SL(3) in place of O(3)). The errors of all members are kept at ten stages of the training; each trial has data and
networks of its own seed, and densities are over the members of all trials. The error of the function that made the data
stands beside them. Every finished ensemble is kept, so that the script resumes where it was stopped.

    python examples/paper/figure3_left.py --trials 2  # half an hour on one core
    python examples/paper/figure3_left.py --quick --out quick/figure3_left.json  # seconds: small networks, few epochs
    python examples/paper/figure3_left.py --report-only
"""

from __future__ import annotations

import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.figure import Figure

sys.path.append(str(Path(__file__).parents[1]))

from recording.result_pages import RESULTS, captioned, figure, page, parser, publish, rows_of, trial_options
from recording.resumed_runs import Results, run_all

from analysis import equivariance_error
from analysis.plots.kernel_density import log_density, log_grid
from bayes_rpp import RPPEMLP, SL, BayesianModel, Gaussian, Group, NormalizedNetwork, O, RPPPrior, Scalar, T, Vector
from bayes_rpp.datasets import inertia
from inference import DeepEnsemble

RECORD = RESULTS / "figure3_left.json"
REP_IN, REP_OUT = 5 * Scalar + 5 * Vector, T(2)
STAGES = 9  # before the last
POINTS = 200  # of the error
ZERO = 1e-6  # what rounding leaves of an exact symmetry


class Case(NamedTuple):
    breaking: float
    group: Group


CASES = {
    "exact": Case(0.0, O(3)),
    "approximate": Case(0.3, O(3)),
    "wrong": Case(0.0, SL(3)),
}


class Size(NamedTuple):
    channels: int
    epochs: int
    members: int


FULL, QUICK = Size(128, 500, 10), Size(16, 20, 3)


def run(name: str, trial: str, size: Size) -> dict[str, Any]:
    """The errors of all members at each epoch that is kept, and that of the function itself."""
    case = CASES[name]
    data = inertia(1000, 1000, case.breaking, seed=int(trial))
    network = NormalizedNetwork.fit(RPPEMLP(REP_IN, REP_OUT, case.group, channels=size.channels), *data.train)
    model = BayesianModel(network, RPPPrior(), Gaussian(noise_variance=0.2))
    engine = DeepEnsemble(members=size.members, epochs=size.epochs, snapshots=STAGES, compile=False)
    posterior = engine.fit(model, data.train, seed=int(trial), progress=sys.stderr.isatty())
    stages = {past.epoch: posterior.at(past) for past in posterior.history} | {size.epochs: posterior}
    x = data.test.x[:POINTS]
    return {
        "errors": {str(epoch): equivariance_error(at, x).values.ravel().tolist() for epoch, at in stages.items()},
        "truth": float(equivariance_error(data.function, x, case.group, rep_in=REP_IN, rep_out=REP_OUT)),
        "test_mse": float((posterior.predict(data.test.x, keep_samples=False).mean - data.test.y).square().mean()),
        "seconds": posterior.stats["seconds"],
    }


def errors_by_epoch(results: Results, name: str) -> dict[int, xr.DataArray]:
    """The errors of the members of all trials."""
    rows: list[dict[str, Any]] = [row for key, row in results.items() if key.startswith(f"{name}/")]
    epochs = [int(epoch) for epoch in rows[0]["errors"]] if rows else []
    return {e: xr.DataArray(np.concatenate([row["errors"][str(e)] for row in rows]), dims="draw") for e in epochs}


def truth_of(results: Results, name: str) -> float:
    return statistics.median(row["truth"] for key, row in results.items() if key.startswith(f"{name}/"))


def table(results: Results) -> str:
    rows = []
    for name in CASES:
        for epoch, errors in errors_by_epoch(results, name).items():
            low, median, high = np.quantile(errors, [0.05, 0.5, 0.95])
            truth = truth_of(results, name)
            rows.append(
                (name, str(epoch), f"{median:.2g}", f"{low:.2g} to {high:.2g}", f"{truth:.2g}" if truth > ZERO else "0")
            )
    return rows_of(("symmetry", "epochs", "median error", "5 % to 95 %", "of the function itself"), rows)


def picture(results: Results) -> Figure:
    """Densities of the error, one panel a symmetry, the darker the later."""
    made = Figure(figsize=(11, 3.4), layout="constrained")
    for axes, name in zip(made.subplots(1, len(CASES), sharex=True), CASES, strict=True):
        stages = errors_by_epoch(results, name)
        if not stages:
            continue
        grid = log_grid(list(stages.values()), largest=1.0)
        for place, (epoch, errors) in enumerate(stages.items()):
            shade = colormaps["viridis_r"](0.15 + 0.85 * place / max(len(stages) - 1, 1))
            axes.plot(10**grid, log_density(errors, grid, 1.0), color=shade, label=f"{epoch}")
        if (truth := truth_of(results, name)) > ZERO:
            axes.axvline(truth, color="black", linestyle="--", linewidth=1, label="function itself")
        axes.set(title=f"{name} symmetry", xscale="log", xlabel="equivariance error")
    made.axes[0].set_ylabel("density of the logarithm")
    made.legend(*made.axes[-1].get_legend_handles_labels(), title="epochs", fontsize=7, loc="outside right center")
    return made


def report(results: Results) -> str:
    caption = (
        "Equivariance errors of the members of RPP ensembles in the course of their training, beside that of the function "
        "that made the data. Where the symmetry is exact errors stay small; where it is approximate or wrong they go to "
        "that of the function itself."
    )
    return page(
        __file__,
        "The equivariance error in the course of training",
        figure("figure3_left", "Densities of the equivariance error at ten stages of training, for three data sets"),
        captioned(caption, table(results)),
    )


def main() -> None:
    chosen = trial_options(parser(__doc__, RECORD), 2)
    size = QUICK if chosen.quick else FULL
    cases = [(name, str(trial)) for trial in range(chosen.trials) for name in CASES]
    results = run_all(chosen.out, [] if chosen.report_only else cases, partial(run, size=size))
    publish(chosen.out, report(results), {"figure3_left": picture(results)})


if __name__ == "__main__":
    main()
