"""What does the wind break? Chains of groups on the double pendulum, compared by their evidence.

The calm pendulum is symmetric under O2eR3, rotations about the vertical and reflections that keep it. A wind leaves of
it the mirror whose plane holds the wind. The Laplace evidence with dense blocks, which sees the training data alone,
compares RPP energies whose weights may leave O2eR3 altogether, only as far as that mirror allows, or, as a control,
only as far as the mirror across the wind allows, under winds from 0 to 0.05; it chooses the variance of what leaves
O2eR3 as well. States are measured with an error of 0.01, which is more than the networks miss them by: without noise, a
network prefers whatever freedom fits better. Networks have two hidden layers of 16 scalar channels, for whose evidence a
chunk counts 48 outputs. Every finished sweep is kept, so that the script resumes where it was stopped.

    python examples/dynamics/pendulum_wind.py --trials 3  # two hours and a half on one core
    python examples/dynamics/pendulum_wind.py --quick --out quick/pendulum_wind.json  # a minute: few data, few epochs
    python examples/dynamics/pendulum_wind.py --report-only
"""

from __future__ import annotations

import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from matplotlib.figure import Figure

sys.path.append(str(Path(__file__).parents[1]))

from recording.result_pages import RESULTS, captioned, figure, page, parser, publish, rows_of, trial_options
from recording.resumed_runs import Results, run_all
from torch import Tensor

from analysis import prior_sweep
from analysis.comparison.prior_sweep import chosen_cell
from analysis.evidence import LaplaceEvidence
from analysis.plots.style import COLORS
from bayes_rpp import (
    RPPEMLP,
    BayesianModel,
    Gaussian,
    Group,
    HamiltonianRollout,
    InvariantLift,
    LiftedNetwork,
    NormalizedNetwork,
    O2eR3,
    RPPPrior,
    Scalar,
)
from bayes_rpp.datasets import double_pendulum
from inference import MAP

RECORD = RESULTS / "pendulum_wind.json"
WINDS = (0.0, 0.005, 0.02, 0.05)
ALONG, UP = torch.tensor([8.0, 5.0, 0.0], dtype=torch.float64) / 89**0.5, torch.tensor([0.0, 0.0, 1.0]).double()


def mirror(normal: Float[Tensor, "3"], name: str) -> Group:
    """The reflection in the plane with this unit normal."""
    return Group(generators=[torch.eye(3, dtype=torch.float64) - 2 * torch.outer(normal, normal)], name=name)


KEPT, ACROSS = "mirror along the wind", "mirror across the wind"
CHAINS = {
    "nothing": [O2eR3()],
    KEPT: [O2eR3(), mirror(torch.linalg.cross(ALONG, UP), KEPT)],
    ACROSS: [O2eR3(), mirror(ALONG, ACROSS)],
}
VARIANCES = (1e-8, 1e-5, 1e-2)
SWEPT = {chain: "pathway_variances[1]" if len(groups) > 1 else "dense_variance" for chain, groups in CHAINS.items()}


class Size(NamedTuple):
    chunks: int
    epochs: int
    channels: int


FULL, QUICK = Size(100, 500, 16), Size(10, 10, 4)
NOISE = 1e-4  # variance of a measurement's error


def run(wind: str, chain: str, trial: str, size: Size) -> dict[str, Any]:
    """The cell that the evidence chooses."""
    data = double_pendulum(size.chunks, 200, float(wind), seed=int(trial))
    errors = torch.randn(data.train.y.shape, generator=torch.Generator().manual_seed(int(trial)))
    lift = InvariantLift(data.rep_in, data.group)
    hidden = RPPEMLP(lift.rep_out, Scalar, CHAINS[chain], channels=size.channels * Scalar, layers=2)
    energy = NormalizedNetwork.fit(LiftedNetwork(hidden, lift), data.train.x)
    prior = RPPPrior(1.0, VARIANCES[0], pathway_variances=[1.0, *[VARIANCES[0]] * (len(CHAINS[chain]) - 1)])
    model = BayesianModel(HamiltonianRollout(energy, data.steps, data.dt), prior, Gaussian(noise_variance=NOISE))
    found = prior_sweep(
        model,
        (data.train.x, data.train.y + NOISE**0.5 * errors),
        criteria=[LaplaceEvidence("layer")],
        test=data.test,
        mode=MAP(epochs=size.epochs, lr=1e-2, batch_size=20, compile=False),
        seed=int(trial),
        **{SWEPT[chain]: VARIANCES},
    )
    chosen = chosen_cell(found)
    cell = found.sel(chosen)
    return {
        "variance": chosen[SWEPT[chain]],
        "log_evidence": float(cell.laplace_layer),
        "test_mse": float(cell.test_mse),
        "seconds": found.attrs["seconds"],
    }


def medians(results: Results, wind: float, chain: str) -> dict[str, float]:
    """Over trials."""
    rows = [row for key, row in results.items() if key.startswith(f"{wind}/{chain}/")]
    return (
        {name: statistics.median(row[name] for row in rows) for name in rows[0]} | {"trials": len(rows)} if rows else {}
    )


def table(results: Results) -> str:
    rows = []
    for wind in WINDS:
        found = {chain: medians(results, wind, chain) for chain in CHAINS}
        if all(found.values()):
            free = found["nothing"]["log_evidence"]
            rows.append(
                (
                    f"{wind:g}",
                    *(f"{cell['variance']:.0e}" for cell in found.values()),
                    *(f"{found[chain]['log_evidence'] - free:.0f}" for chain in (KEPT, ACROSS)),
                    *(f"{cell['test_mse']:.2g}" for cell in found.values()),
                    f"{found['nothing']['trials']}",
                )
            )
    header = (
        "wind",
        *(f"variance, {chain} kept" for chain in CHAINS),
        *(f"evidence, {chain} kept [nats]" for chain in (KEPT, ACROSS)),
        *(f"test MSE, {chain} kept" for chain in CHAINS),
        "trials",
    )
    return rows_of(header, rows)


def picture(results: Results) -> Figure:
    """How far the chains are ahead, in every trial, against the wind."""
    made = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = made.subplots()
    for place, chain in enumerate((KEPT, ACROSS)):
        ahead = [
            (WINDS.index(float(wind)) + 0.1 * (2 * place - 1), row["log_evidence"] - other["log_evidence"])
            for wind, which, trial, row in ((*key.split("/"), row) for key, row in results.items())
            if which == chain and (other := results.get(f"{wind}/nothing/{trial}"))
        ]
        if ahead:
            axes.plot(*zip(*ahead, strict=True), "os"[place], color=COLORS[place], label=f"the {chain} kept")
    axes.axhline(0, color="black", linewidth=1)
    axes.set_xticks(range(len(WINDS)), [f"{wind:g}" for wind in WINDS])
    axes.set(xlabel="wind", ylabel="evidence ahead of nothing kept [nats]", xlim=(-0.5, len(WINDS) - 0.5))
    axes.set_yscale("symlog", linthresh=100)
    axes.margins(y=0.15)
    axes.grid(axis="y", alpha=0.3)
    if axes.lines[1:]:
        axes.legend(fontsize=8)
    return made


def report(results: Results) -> str:
    caption = (
        "Evidence of networks whose weights, as far as they leave O2eR3, keep the mirror in whose plane the wind blows, "
        "or the one across it, against those that keep nothing, and the variance that it chooses for the weights that "
        "leave O2eR3, among 1e-8, 1e-5 and 1e-2; medians over trials. States are measured with an error of 0.01; test errors "
        "are those of predictions without it. A fit that ends in a poor optimum, which its test error shows, has less "
        "evidence by hundreds of nats."
    )
    return page(
        __file__,
        "What the wind breaks",
        figure("pendulum_wind", "Evidence of keeping either mirror, ahead of keeping nothing, against the wind"),
        captioned(caption, table(results)),
    )


def main() -> None:
    chosen = trial_options(parser(__doc__, RECORD), 3)
    size = QUICK if chosen.quick else FULL
    winds = WINDS[::3] if chosen.quick else WINDS
    cases = [(str(wind), chain, str(trial)) for trial in range(chosen.trials) for wind in winds for chain in CHAINS]
    results = run_all(chosen.out, [] if chosen.report_only else cases, partial(run, size=size))
    publish(chosen.out, report(results), {"pendulum_wind": picture(results)})


if __name__ == "__main__":
    main()
