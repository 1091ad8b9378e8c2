"""How costs grow: a training step with channels, a stack with members, predictions and diagnostics with rows.

    python tests/benchmarks/curves.py [--record]

With --record the numbers are kept and examples/figures/speed_curves.png is drawn from all that are.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial

import torch
from record import BENCHMARKS, ROOT, keep
from side_by_side import median_seconds

from analysis import equivariance_error
from bayes_rpp import MLP, RPPEMLP, BayesianModel, Gaussian, RPPPrior
from bayes_rpp.datasets import inertia
from inference import Posterior
from inference.training.parameter_stack import joint_stack

CHANNELS = (16, 32, 64, 128, 256, 512, 1024)
MEMBERS = (1, 2, 4, 8, 16, 32, 64)
ROWS = (1_000, 10_000, 100_000, 1_000_000)
DRAWS, ROUNDS = 10, 9
PICTURE = ROOT / "examples" / "figures" / "speed_curves.png"
PANELS = {  # what grows: (title, unit, the lines)
    "channels": ("A training step (batch 500)", "ms", ("MLP", "RPPEMLP", "RPPEMLP, no bilinear")),
    "members": ("A stack, each member (64 channels, batch 100)", "ms", ("MLP", "RPPEMLP")),
    "rows": ("Ten draws of RPPEMLP, 64 channels", "s", ("predict", "equivariance error, one element a point")),
}


def step(kind: str, channels: int, members: int, batch: int) -> Callable[[], object]:
    """A training step of a stack."""
    data = inertia(train=batch, test=1, seed=0)
    options = {"bilinear": False} if kind.endswith("no bilinear") else {}
    network = MLP if kind == "MLP" else partial(RPPEMLP, **options)
    model = BayesianModel(network(data.rep_in, data.rep_out, data.group, channels=channels), RPPPrior(), Gaussian(0.2))
    x, y = (part.expand(members, *part.shape) for part in data.train)
    return partial(joint_stack(model, list(range(members)), batch).step, (x, y), 1e-3)


def on_rows(rows: int) -> dict[str, Callable[[], object]]:
    """Means of predictions, and the equivariance error, of draws around an initial state."""
    data = inertia(train=1, test=rows, seed=0)
    model = BayesianModel(RPPEMLP(data.rep_in, data.rep_out, data.group, channels=64), RPPPrior(), Gaussian(0.2))
    samples = {name: value.expand(1, DRAWS, *value.shape) for name, value in model.initial_params(0).items()}
    posterior = Posterior(model, samples, data=data.train)
    return {
        "predict": lambda: posterior.predict(data.test.x, keep_samples=False),
        PANELS["rows"][2][1]: lambda: equivariance_error(posterior, data.test.x, elements=1),
    }


def cases() -> Iterator[tuple[str, int, dict[str, Callable[[], object]], float, int]]:
    """What grows, how large it is, what is timed, what its seconds are multiplied by, and how often."""
    for channels in CHANNELS:
        kinds = PANELS["channels"][2]
        yield "channels", channels, {kind: step(kind, channels, 1, 500) for kind in kinds}, 1e3, ROUNDS
    for members in MEMBERS:
        kinds = PANELS["members"][2]
        yield "members", members, {kind: step(kind, 64, members, 100) for kind in kinds}, 1e3 / members, ROUNDS
    for rows in ROWS:
        yield "rows", rows, on_rows(rows), 1.0, ROUNDS if rows < 100_000 else 1


def draw() -> None:
    """Draw the curves of every processor that is recorded."""
    import matplotlib.pyplot as plt

    runs = json.loads(BENCHMARKS.read_text())["curves"]
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for axis, (grows, (title, unit, lines)) in zip(axes, PANELS.items(), strict=True):
        sizes = {"channels": CHANNELS, "members": MEMBERS, "rows": ROWS}[grows]
        for name, run in runs.items():
            for line in lines:
                values = [run["numbers"][f"{grows} {size}, {line}"] for size in sizes]
                axis.loglog(sizes, values, marker="o", label=line if len(runs) == 1 else f"{line} ({name})")
        axis.set(title=title, xlabel=grows, ylabel=f"time ({unit})")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(PICTURE, dpi=120)


def main() -> None:
    torch.set_num_threads(1)
    for grows, size, functions, factor, rounds in cases():
        seconds = median_seconds(functions, rounds, warmup=1 if rounds > 1 else 0)
        found = {name: factor * statistics.median(values) for name, values in seconds.items()}
        print(f"  {grows} {size:9,}: " + "  ".join(f"{name} {value:.3g}" for name, value in found.items()), flush=True)
        keep("curves", {f"{grows} {size}, {name}": value for name, value in found.items()})
    if "--record" in sys.argv[1:]:
        draw()


if __name__ == "__main__":
    main()
