"""Table 1 of the RPP paper: regression on UCI tables with convolutions, dense layers, and both.

Rows are standardised and laid out as images; networks have three layers of 32 channels with kernels of 3 x 3 and a
linear layer, as in appendix C.2. One rule sets the variances and the noise of every kind of network on every table: of
a grid, the pair with the least squared error on a fifth of the training data that is left out, after which an ensemble
is trained on all of them. The noise of the predictions is the mean square of the residuals on that fifth.
Every finished ensemble is kept, so that the script resumes where it was stopped.

    python examples/paper/table1_uci.py --root data/uci   # hours on one core; --only wine for one table
    python examples/paper/table1_uci.py --root data/uci --quick --out quick/table1_uci.json  # a minute
    python examples/paper/table1_uci.py --report-only
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Normal

sys.path.append(str(Path(__file__).parents[1]))

from recording.result_pages import RESULTS, captioned, page, parser, publish, rows_of, trial_options
from recording.resumed_runs import Results, run_all

from analysis import chosen_cell, prior_sweep
from bayes_rpp import BayesianModel, Gaussian, RPPConvNet, RPPPrior
from bayes_rpp.datasets import as_images, uci
from inference import DeepEnsemble, Posterior

RECORD = RESULTS / "table1_uci.json"
PAPER = {  # mean squared errors in the units of the tables
    "energy": {"mlp": 0.39, "rpp": 0.73, "conv": 1.34},
    "fertility": {"mlp": 0.049, "rpp": 0.060, "conv": 0.076},
    "pendulum": {"mlp": 4.65, "rpp": 4.25, "conv": 4.63},
    "wine": {"mlp": 0.66, "rpp": 0.69, "conv": 0.79},
}
KINDS = ("rpp", "mlp", "conv")
VARIED = {"rpp": "dense_variance", "mlp": "mlp_variance", "conv": "equivariant_variance"}
VARIANCES = {"rpp": (1e-2, 1e-1, 1.0, 10.0), "mlp": (1e-1, 1.0, 10.0, 100.0), "conv": (1e-1, 1.0, 10.0, 100.0)}
NOISES = (1e-3, 1e-2, 1e-1)  # variances, of standardised targets
LEFT_OUT = 0.2


class Size(NamedTuple):
    channels: int
    members: int
    steps: int


FULL, QUICK = Size(32, 10, 600), Size(4, 2, 20)
BATCH, RATE = 100, 1e-2


class Standardized(NamedTuple):
    """A split in units of its training data, as images."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    scale: float  # of the target


def standardized(name: str, split: int, root: Path) -> Standardized:
    data = uci(name, split, root)
    parts = []
    for train, test in ((data.train.x, data.test.x), (data.train.y, data.test.y)):
        mean, scale = train.mean(0), train.std(0).clamp_min(1e-12)
        parts.append([(part - mean) / scale for part in (train, test)])
    (x, test_x), (y, test_y) = parts
    return Standardized((as_images(x), y), (as_images(test_x), test_y), float(data.train.y.std()))


def model_of(kind: str, image: tuple[int, ...], size: Size, variance: float, noise: float) -> BayesianModel:
    net = RPPConvNet(image, 1, [size.channels] * 3, kind)
    return BayesianModel(net, RPPPrior(**{VARIED[kind]: variance}), Gaussian(noise))


def engine(size: Size, members: int, examples: int) -> DeepEnsemble:
    epochs = max(1, size.steps // math.ceil(examples / BATCH))
    return DeepEnsemble(members=members, epochs=epochs, batch_size=BATCH, lr=RATE)


def log_joint(posterior: Posterior) -> float:
    """What a sweep measures of every cell beside its errors."""
    params = {name: value[0, 0] for name, value in posterior.samples.items()}
    return float(posterior.bayesian_model.log_joint(params, *posterior.data))


def run(name: str, kind: str, split: str, *, size: Size, root: Path) -> dict[str, Any]:
    """An ensemble on a split, with the variance and the noise that the left-out part prefers."""
    data, began = standardized(name, int(split), root), time.process_time()
    x, y = data.train
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(int(split)))
    held, rest = order[: round(LEFT_OUT * len(x))], order[round(LEFT_OUT * len(x)) :]
    image = tuple(x.shape[1:])
    first = model_of(kind, image, size, VARIANCES[kind][0], NOISES[0])
    found = prior_sweep(
        first,
        (x[rest], y[rest]),
        criteria={"log_joint_of_draw": log_joint},
        test=(x[held], y[held]),
        mode=engine(size, 1, len(rest)),
        seed=int(split),
        progress=False,
        **{VARIED[kind]: VARIANCES[kind], "noise_variance": NOISES},
    )
    cell = chosen_cell(found, "test_mse")
    noise = float(found["test_mse"].sel(cell))
    model = model_of(kind, image, size, cell[VARIED[kind]], cell["noise_variance"])
    posterior = engine(size, size.members, len(x)).fit(model, data.train, seed=int(split), progress=False)
    predicted = posterior.predict(data.test[0])
    errors = (predicted.samples[:, 0] - data.test[1]) * data.scale  # (member, example, 1)
    spread = (predicted.epistemic + noise).sqrt() * data.scale
    residual = (predicted.mean - data.test[1]) * data.scale
    return {
        "mse": float(residual.square().mean()),
        "one network": float(errors.square().mean()),
        "log score": float(Normal(0.0, spread).log_prob(residual).mean()),
        "coverage": float((residual.abs() <= 1.6449 * spread).float().mean()),
        "variance": cell[VARIED[kind]],
        "noise_variance": cell["noise_variance"],
        "seconds": time.process_time() - began,
    }


def rows_for(results: Results, name: str, kind: str) -> list[dict[str, Any]]:
    return [row for key, row in results.items() if key.startswith(f"{name}/{kind}/")]


def table(results: Results) -> str:
    rows = []
    for name in PAPER:
        for kind in KINDS:
            if splits := rows_for(results, name, kind):
                mse = [row["mse"] for row in splits]
                spread = f" ± {statistics.stdev(mse):.2g}" if len(mse) > 1 else ""
                rows.append(
                    (
                        name,
                        kind,
                        f"{statistics.mean(mse):.3g}{spread}",
                        f"{statistics.mean(row['one network'] for row in splits):.3g}",
                        f"{PAPER[name][kind]:g}",
                        f"{statistics.mean(row['log score'] for row in splits):.2f}",
                        f"{100 * statistics.mean(row['coverage'] for row in splits):.0f} %",
                        f"{statistics.median(row['variance'] for row in splits):g}",
                        f"{statistics.median(row['noise_variance'] for row in splits):g}",
                        str(len(splits)),
                    )
                )
    header = ("table", "kind", "error", "one network", "paper", "log score", "90 % bands hold", "variance", "noise")
    return rows_of((*header, "splits"), rows)


def ratio(results: Results) -> str:
    """The geometric mean of RPP's error over that of the better of the others, where all were measured."""
    logs = []
    for name in PAPER:
        found = {kind: [row["mse"] for row in rows_for(results, name, kind)] for kind in KINDS}
        if all(found.values()):
            means = {kind: statistics.mean(errors) for kind, errors in found.items()}
            logs.append(math.log(means["rpp"] / min(means["mlp"], means["conv"])))
    if not logs:
        return ""
    return (
        f"RPP's error over that of the better of the other two, as a geometric mean over {len(logs)} table(s): "
        f"{math.exp(statistics.mean(logs)):.2f}."
    )


def report(results: Results) -> str:
    caption = (
        "Mean squared errors on the test data, in the units of each table: of the mean of ten networks, with the "
        "standard deviation over splits, and of one network on average. The log score is that of a normal distribution "
        "with the ensemble's variance and the noise of the left-out part, per example. Variance and noise are medians "
        f"over splits of what the left-out part prefers. {ratio(results)} Wine was measured with a coarser grid, of the "
        "three smallest variances and the two largest noises."
    )
    return page(__file__, "UCI tables with convolutions", captioned(caption, table(results)))


def main() -> None:
    options = parser(__doc__, RECORD)
    options.add_argument("--root", type=Path, default=Path("data/uci"), help="the folder of the tables")
    options.add_argument("--only", default="", help="tables whose name holds this")
    chosen = trial_options(options, 10)
    torch.set_num_threads(1)
    size = QUICK if chosen.quick else FULL
    cases = [
        (name, kind, str(split))
        for split in range(chosen.trials)
        for name in PAPER
        if chosen.only in name
        for kind in KINDS
    ]
    results = run_all(chosen.out, [] if chosen.report_only else cases, partial(run, size=size, root=chosen.root))
    publish(chosen.out, report(results))


if __name__ == "__main__":
    main()
