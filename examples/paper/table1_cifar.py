"""Table 1 of the RPP paper: CIFAR-10 with convolutions, dense layers, and both.

Small enough for a processor by default: images averaged to 16 x 16, and four layers of strides 1, 2, 1, 2. With --full
the nine layers of appendix C.2 on 32 x 32 images, for an accelerator of 24 GB or more. Either way the prior variance
that a kind of network varies and the learning rate are those of a grid with the fewest errors on a tenth of the
training data that is left out, by one network that is trained for a third as long; then an ensemble is trained on all
of them. What a training would take is estimated and printed before it begins. Training is kept every minute in files
beside the record, so that the script resumes where it was stopped, with the same bits.

    python examples/paper/table1_cifar.py --root data/cifar10   # about two hours on one core
    python examples/paper/table1_cifar.py --root data/cifar10 --full --out full/table1_cifar.json
    python examples/paper/table1_cifar.py --root data/cifar10 --quick --out quick/table1_cifar.json  # a minute
    python examples/paper/table1_cifar.py --report-only
"""

from __future__ import annotations

import itertools
import math
import resource
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

sys.path.append(str(Path(__file__).parents[1]))

from recording.result_pages import RESULTS, captioned, page, parser, publish, rows_of, trial_options
from recording.resumed_runs import Results, run_all

from analysis import interval, pathway_shares, reliability
from bayes_rpp import BayesianModel, Categorical, RPPConvNet, RPPPrior
from bayes_rpp.datasets import cifar10
from inference import DeepEnsemble, FlipsAndCrops, Posterior

RECORD = RESULTS / "table1_cifar.json"
KINDS = ("rpp", "conv", "mlp")
VARIED = {"rpp": "dense_variance", "mlp": "mlp_variance", "conv": "equivariant_variance"}
VARIANCES = {"rpp": (1e-2, 1e-1, 1.0), "mlp": (10.0, 100.0, 1000.0), "conv": (10.0, 100.0, 1000.0)}
RATES = (1e-2, 3e-2)
BROAD = 100.0  # of the other weights: labels are nearly certain, so that logits must be able to be large
LEFT_OUT = 0.1


class Size(NamedTuple):
    side: int  # of the images
    examples: int
    network: dict[str, Any]
    members: int
    engine: dict[str, Any]
    bytes_each: (
        int  # that a weight takes while it is trained: itself, its gradient, its value in its unit, and Adam's two
    )


SMALL = Size(
    16,
    50_000,
    {"channels": [4, 8, 8, 16], "strides": [1, 2, 1, 2]},
    5,
    {"epochs": 15, "batch_size": 200, "augment": FlipsAndCrops(padding=0)},
    20,
)
FULL = Size(
    32,
    50_000,
    {"channels": [16, 16, 16, *[32] * 6], "pool_after": [3, 6]},
    1,
    {"epochs": 200, "batch_size": 500, "augment": FlipsAndCrops(padding=4), "bfloat16": True},
    20,
)
QUICK = SMALL._replace(side=8, examples=300, members=2, engine=SMALL.engine | {"epochs": 3})


class Images(NamedTuple):
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def images(size: Size, root: Path) -> Images:
    """Pixels from 0 to 1, less the mean of each channel and over its standard deviation."""
    found = cifar10(root)
    train, test = (functional.avg_pool2d(part.x / 255, 32 // size.side) for part in (found.train, found.test))
    mean, scale = train.mean((0, 2, 3), keepdim=True), train.std((0, 2, 3), keepdim=True)
    train, test = (train - mean) / scale, (test - mean) / scale
    count = size.examples
    return Images((train[:count], found.train.y[:count]), (test[:count], found.test.y[:count]))


def model_of(kind: str, size: Size, variance: float) -> BayesianModel:
    net = RPPConvNet((3, size.side, size.side), 10, kind=kind, **size.network)
    variances = {"equivariant_variance": BROAD, "mlp_variance": BROAD, VARIED[kind]: variance}
    return BayesianModel(net, RPPPrior(**variances), Categorical())


def estimate(kind: str, size: Size) -> str:
    """The memory of a network in training, and the time of all, from its operations and this machine's speed."""
    layers = RPPConvNet((3, size.side, size.side), 10, kind="conv", **size.network).modules()
    maps = [layer.map for layer in layers if hasattr(layer, "map")]
    dense = sum(math.prod(each.shape) for each in maps) if kind != "conv" else 0
    taps = sum(each.positions * math.prod(each.taps.kernel) * each.in_channels * each.out_channels for each in maps)
    products = 6 * (dense + (taps if kind != "mlp" else 0))  # forward and twice backward, for an image
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kept = torch.bfloat16 if size.engine.get("bfloat16") else torch.float32
    square = torch.randn(1000, 1000, device=device, dtype=kept)
    rate = 2e9 / _seconds(lambda: square @ square, device)
    passed = torch.randn(10_000_000, device=device)
    moved = 8e7 / _seconds(lambda: passed + 1, device)
    epochs = size.engine["epochs"] * size.members
    steps = epochs * size.examples / size.engine["batch_size"]
    hours = (epochs * size.examples * products / rate + steps * 4 * dense * 14 / moved) / 3600
    return (
        f"{kind}: {dense:,} dense weights, {size.bytes_each * dense / 1e9:.2g} GB a network in training beside what the "
        f"images of a batch take; at least {hours:.2g} hours for {size.members} network(s) on this {device.type}"
    )


def _seconds(work: Any, device: torch.device) -> float:
    """The shortest of five, after a first."""
    found = []
    for _ in range(6):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return min(found[1:])


def wrong(posterior: Posterior, data: tuple[Tensor, Tensor]) -> float:
    labels = posterior.predict(data[0], keep_samples=False).mean.argmax(-1)
    return float((labels != data[1]).float().mean())


def chosen(kind: str, size: Size, data: tuple[Tensor, Tensor], beside: Path) -> tuple[float, float]:
    """The variance and the rate of the grid with the fewest errors on the part that is left out."""
    x, y = data
    held = round(LEFT_OUT * len(x))
    errors = {}
    for variance, rate in itertools.product(VARIANCES[kind], RATES):
        changed = {"members": 1, "lr": rate, "epochs": max(1, size.engine["epochs"] // 3)}
        found = DeepEnsemble(**size.engine | changed).fit(
            model_of(kind, size, variance),
            (x[held:], y[held:]),
            seed=0,
            checkpoint=beside.with_suffix(f".{kind}-{variance:g}-{rate:g}.checkpoint"),
        )
        if found.interrupted:
            raise KeyboardInterrupt
        errors[variance, rate] = wrong(found, (x[:held], y[:held]))
        print(
            f"{kind}: {100 * errors[variance, rate]:.1f} % errors on the part left out at {variance:g}, rate {rate:g}"
        )
    return min(errors, key=lambda cell: errors[cell])


def run(kind: str, *, size: Size, root: Path, out: Path) -> dict[str, Any]:
    print(estimate(kind, size), flush=True)
    data, began = images(size, root), time.process_time()
    variance, rate = chosen(kind, size, data.train, out)
    model = model_of(kind, size, variance)
    trained = time.perf_counter()
    posterior = DeepEnsemble(**size.engine, members=size.members, lr=rate).fit(
        model, data.train, seed=0, checkpoint=out.with_suffix(f".{kind}.checkpoint")
    )
    if posterior.interrupted:
        raise KeyboardInterrupt
    trained = time.perf_counter() - trained
    x, y = data.test
    predicted = posterior.predict(x)
    each = [reliability(logits.softmax(-1), y) for logits in predicted.samples[:, 0].double()]
    ensemble = reliability(predicted.mean, y)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    return {
        "errors": [found.attrs["error"] for found in each],
        "log losses": [found.attrs["log_loss"] for found in each],
        "calibration errors": [found.attrs["calibration_error"] for found in each],
        "ensemble": {name: float(value) for name, value in ensemble.attrs.items()},
        "dense shares": dense_shares(posterior) if kind == "rpp" else {},
        "parameters": sum(value[0, 0].numel() for value in posterior.samples.values()),
        "variance": variance,
        "rate": rate,
        "hours": (time.process_time() - began) / 3600,
        "seconds of training": posterior.stats["seconds"],
        "peak bytes": peak,
        "members": size.members,
        "side": size.side,
        "examples": len(data.train[0]),
        "epochs": size.engine["epochs"],
    }


def dense_shares(posterior: Posterior) -> dict[str, float]:
    found = interval(pathway_shares(posterior)).sel(pathway="dense", stat="median")
    return {str(layer): float(found.sel(layer=layer)) for layer in found.layer.values}


def table(results: Results) -> str:
    rows = []
    for kind in (kind for kind in KINDS if kind in results):
        row: Any = results[kind]
        spread = f" ± {100 * statistics.stdev(row['errors']):.1f}" if len(row["errors"]) > 1 else ""
        found = row["ensemble"]
        rows.append(
            (
                kind,
                f"{100 * statistics.mean(row['errors']):.1f}{spread}",
                f"{100 * found['error']:.1f}",
                f"{statistics.mean(row['log losses']):.3f}",
                f"{found['log_loss']:.3f}",
                f"{statistics.mean(row['calibration errors']):.3f}",
                f"{found['calibration_error']:.3f} ({found['calibration_error_of_chance']:.3f})",
                f"{row['variance']:g}",
                f"{row['rate']:g}",
                f"{row['parameters']:,}",
                f"{row['seconds of training'] / row['members'] / 60:.1f} min",
                f"{row['peak bytes'] / 1e9:.1f} GB",
            )
        )
    header = ("kind", "error of one", "of the ensemble", "log loss of one", "of the ensemble")
    header += (
        "calibration error of one",
        "of the ensemble (by chance)",
        "variance",
        "rate",
        "weights",
        "time of one",
        "memory",
    )
    return rows_of(header, rows)


def report(results: Results) -> str:
    first: Any = next(iter(results.values()))
    parts = [
        f"{first['examples']:,} training images of {first['side']} x {first['side']} pixels, reflected at random, "
        f"{first['epochs']} epochs, ensembles of {first['members']}, on all 10,000 test images. Errors in per cent, log "
        "losses in nats an image. The variance is that of the dense pathway (rpp), of the convolution (conv) or of the "
        "dense weights (mlp), and the rate the learning rate, that a left-out tenth prefers. A calibrated ensemble would have the calibration error in "
        "brackets. Times are of a network's share of the ensemble's training, beside other work on the same machine; "
        "memory is the largest that the process ever had."
    ]
    if shares := results.get("rpp", {}).get("dense shares"):
        rows = [(name, f"{100 * share:.1f} %") for name, share in shares.items()]
        parts.append(
            captioned(
                "The share of the squared weight that lies outside the convolutions, layer by layer (median over the "
                "members).",
                rows_of(("layer", "dense share"), rows),
            )
        )
    return page(__file__, "CIFAR-10 with convolutions", captioned(parts[0], table(results)), *parts[1:])


def main() -> None:
    options = parser(__doc__, RECORD)
    options.add_argument("--root", type=Path, default=Path("data/cifar10"), help="the folder of the images")
    options.add_argument("--full", action="store_true", help="the nine layers of the paper, on 32 x 32 images")
    options.add_argument("--kind", choices=KINDS, help="one kind of network alone")
    chosen = trial_options(options, 1)
    size = QUICK if chosen.quick else FULL if chosen.full else SMALL
    cases = [(kind,) for kind in KINDS if chosen.kind in (None, kind)]
    measured = partial(run, size=size, root=chosen.root, out=chosen.out)
    publish(chosen.out, report(run_all(chosen.out, [] if chosen.report_only else cases, measured)))


if __name__ == "__main__":
    main()
