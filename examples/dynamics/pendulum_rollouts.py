"""Rollouts of the double pendulum: do the bands hold the truth, and does the energy stay?

Ensembles of five RPP, EMLP and MLP energies, trained on 4 steps of the calm and of the windy pendulum as in
paper/figure2.py, with the dense variance that left-out data choose there. The noise of predictions is what the ensemble
leaves of the training data. On test data: coverage of 90 % bands and log score over 4 steps; over 100 steps
the error, the coverage, the drift of the true energy and the equivariance error, of which the ensemble has one for each
member. Every finished ensemble is kept, so that the script resumes where it was stopped.

    python examples/dynamics/pendulum_rollouts.py --trials 3  # an hour and a half on one core
    python examples/dynamics/pendulum_rollouts.py --quick --out quick/rollouts.json  # two minutes: small, few epochs
    python examples/dynamics/pendulum_rollouts.py --report-only
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.stats import norm
from torch import Tensor

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "paper")]

from figure2 import PANELS, Size, pendulum_network
from recording.result_pages import RESULTS, captioned, figure, page, parser, publish, rows_of, trial_options
from recording.resumed_runs import Results, run_all

from analysis import equivariance_error
from analysis.plots.style import COLORS
from bayes_rpp import BayesianModel, Gaussian, RPPPrior
from bayes_rpp.datasets import TrajectoryData, double_pendulum
from inference import DeepEnsemble, Posterior
from inference.posterior.prediction import Prediction

RECORD = RESULTS / "pendulum_rollouts.json"
KINDS = ("RPP", "EMLP", "MLP, of states")
WINDS = {"calm": 0.0, "windy": 0.01}
LONG, STARTS = 100, 100  # steps, and test points that they start from
Z90 = float(norm.ppf(0.95))


class Training(NamedTuple):
    size: Size
    members: int


FULL, QUICK = Training(Size(0, 128, 500, True), 5), Training(Size(0, 16, 20), 3)


def fitted(wind: str, kind: str, seed: int, training: Training) -> tuple[TrajectoryData, Posterior]:
    data = double_pendulum(500, 500, WINDS[wind], seed=seed, second_spring=2.0)
    network = pendulum_network(kind, PANELS["pendulum"], data, training.size)
    model = BayesianModel(network, RPPPrior(dense_variance=1e-2), Gaussian(noise_variance=1e-4))
    engine = DeepEnsemble(
        members=training.members, epochs=training.size.epochs, lr=1e-2, batch_size=100, compile=training.size.compile
    )
    posterior = engine.fit(model, data.train, seed=seed, progress=sys.stderr.isatty())
    left = float((posterior.predict(data.train.x).mean - data.train.y).square().mean())
    return data, Posterior(BayesianModel(network, model.prior, Gaussian(noise_variance=left)), posterior.samples)


def truth(data: TrajectoryData, x: Float[Tensor, "batch 12"], steps: int) -> Float[Tensor, "batch steps 12"]:
    """The states that follow, by the data's own function of a few steps at a time."""
    states = [x.double()]
    while len(states) <= steps:
        states += data.function(states[-1]).unflatten(1, (data.steps, -1)).unbind(1)
    return torch.stack(states[1 : steps + 1], dim=1)


def inside(prediction: Prediction, y: Tensor) -> Tensor:
    """Whether the 90 % band of each number holds it."""
    return (prediction.mean - y).abs() <= Z90 * prediction.variance.sqrt()


def run(wind: str, kind: str, trial: str, training: Training) -> dict[str, Any]:
    data, posterior = fitted(wind, kind, int(trial), training)
    short = posterior.predict(data.test.x)
    score = posterior.log_likelihood(*data.test).flatten(0, 1).logsumexp(0) - np.log(posterior.chains)
    x = data.test.x[:STARTS]
    y, far = truth(data, x, LONG), posterior.over(LONG)
    prediction = far.predict(x)
    of_members = prediction.samples.flatten(0, 1).unflatten(-1, (LONG, -1)).double()
    start, energies = data.energy(x.double()), data.energy(of_members)
    drift = (energies - start[:, None]).abs().median(dim=1).values  # (member, step): over starts
    error = (prediction.mean.unflatten(1, (LONG, -1)) - y).square().mean((0, 2))
    return {
        "test_mse": float((short.mean - data.test.y).square().mean()) * data.steps / (data.steps + 1),
        "coverage": inside(short, data.test.y).float().unflatten(1, (data.steps, -1)).mean((0, 2)).tolist(),
        "log_score": float(score.mean()),
        "equivariance_error": float(equivariance_error(far, x).median()),
        "long_coverage": inside(prediction, y.flatten(1)).float().unflatten(1, (LONG, -1)).mean((0, 2)).tolist(),
        "long_mse": error.tolist(),
        "band": prediction.variance.unflatten(1, (LONG, -1)).mean((0, 2)).tolist(),
        "drift": drift.median(0).values.tolist(),
    }


def trials_of(results: Results, wind: str, kind: str) -> list[dict[str, Any]]:
    return [row for key, row in results.items() if key.startswith(f"{wind}/{kind}/")]


def median_of(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.median([row[name] for row in rows], axis=0)


def table(results: Results) -> str:
    rows = []
    for wind in WINDS:
        for kind in KINDS:
            if trials := trials_of(results, wind, kind):
                of = partial(median_of, trials)
                rows.append(
                    (
                        wind,
                        kind,
                        f"{of('test_mse'):.2g}",
                        f"{100 * of('coverage').mean():.0f} %",
                        f"{of('log_score'):.0f}",
                        f"{of('long_mse')[-1] ** 0.5:.2g}",
                        f"{100 * of('long_coverage').mean():.0f} %",
                        f"{of('drift')[-1]:.2g}",
                        f"{of('equivariance_error'):.2g}",
                        str(len(trials)),
                    )
                )
    header = (
        "pendulum",
        "network",
        "test MSE",
        "90 % band, 4 steps",
        "log score",
        "error after 100",
        "90 % band, 100 steps",
        "energy drift",
        "equivariance error",
        "trials",
    )
    return rows_of(header, rows)


def picture(results: Results) -> Figure:
    """Error and band, coverage and energy drift against time."""
    winds = [wind for wind in WINDS if any(trials_of(results, wind, kind) for kind in KINDS)]
    made, time = Figure(figsize=(11, 3 * len(winds)), layout="constrained"), 0.2 * np.arange(1, LONG + 1)
    grid = made.subplots(len(winds), 3, sharex=True, squeeze=False)
    for wind, axes in zip(winds, grid, strict=True):
        for color, kind in zip(COLORS, KINDS, strict=False):
            if trials := trials_of(results, wind, kind):
                of = partial(median_of, trials)
                axes[0].plot(time, of("long_mse") ** 0.5, color=color, label=kind)
                axes[0].plot(time, of("band") ** 0.5, color=color, linestyle="--")
                axes[1].plot(time, of("long_coverage"), color=color)
                axes[2].plot(time, of("drift"), color=color)
        axes[1].axhline(0.9, color="black", linewidth=1, linestyle=":")
        axes[0].set(yscale="log", ylabel=f"{wind}: error, and band (dashed)")
        axes[1].set(ylim=(0, 1), ylabel="share inside the 90 % band")
        axes[2].set(yscale="log", ylabel="drift of the energy")
    for ax in grid[-1]:
        ax.set_xlabel("time in s")
    made.axes[0].legend(fontsize=8)
    return made


def drift_ratios(results: Results) -> str:
    """The energy drift of RPP over 100 steps, over that of the MLP."""
    found = {wind: [trials_of(results, wind, kind) for kind in ("RPP", "MLP, of states")] for wind in WINDS}
    ratio = {
        wind: median_of(rpp, "drift")[-1] / median_of(mlp, "drift")[-1]
        for wind, (rpp, mlp) in found.items()
        if rpp and mlp
    }
    return ", ".join(f"{wind} {value:.2f}" for wind, value in ratio.items())


def report(results: Results) -> str:
    caption = (
        "Ensembles of five networks after 4 steps, on which they are trained, and after 100; medians over trials. Bands "
        "hold 90 % of a normal distribution with the predicted mean and variance: they should hold 90 % of the test "
        "data. The error is the root of the mean square over states and coordinates, the drift the median of |H(t) - "
        "H(0)| of the true energy along each member's rollout, the equivariance error that of 100 steps. Drift of RPP "
        f"over that of the MLP after 100 steps: {drift_ratios(results)}."
    )
    return page(
        __file__,
        "Rollouts of the double pendulum",
        figure("pendulum_rollouts", "Error and band, coverage and energy drift over 20 seconds"),
        captioned(caption, table(results)),
    )


def main() -> None:
    chosen = trial_options(parser(__doc__, RECORD), 3)
    training = QUICK if chosen.quick else FULL
    cases = [(wind, kind, str(trial)) for trial in range(chosen.trials) for wind in WINDS for kind in KINDS]
    results = run_all(chosen.out, [] if chosen.report_only else cases, partial(run, training=training))
    publish(chosen.out, report(results), {"pendulum_rollouts": picture(results)})


if __name__ == "__main__":
    main()
