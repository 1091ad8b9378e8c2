"""Which symmetry do images have? Four tasks on scikit-learn's digits, each with another, for networks that prefer one.

A residual pathway network of images with three pathways, [equivariant under quarter turns and reflections, all other
convolutions, dense], each with a variance, beside networks that have one of them alone. Where the digits are turned and
reflected at random, the first pathway is enough; where their orientation is the label, it takes the second; where their
place is, the third. All tasks and networks share one set of variances, and the variance of the second pathway is varied.

    python examples/image_symmetries.py            # an hour on one core
    python examples/image_symmetries.py --quick --out quick/image_symmetries.json  # seconds
    python examples/image_symmetries.py --report-only
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Any, NamedTuple

import torch
from recording.result_pages import RESULTS, captioned, page, parser, publish, rows_of, trial_options
from recording.resumed_runs import Results, run_all
from torch import Tensor

from analysis import pathway_shares
from bayes_rpp import BayesianModel, Categorical, NormalizedNetwork, RPPConvNet, RPPPrior
from bayes_rpp.datasets import digits
from inference import DeepEnsemble

RECORD = RESULTS / "image_symmetries.json"
TASKS = {
    "shifted": "which digit, shifted at random round the edges",
    "turned": "which digit, turned and reflected at random",
    "orientation": "how a digit is turned: by 0, 1, 2 or 3 quarter turns",
    "place": "where a digit is: shifted by half the image down, to the right, both or not",
}
BROAD, DENSE = 100.0, 1e-2
KINDS = {
    "rpp, others 1": RPPPrior(pathway_variances=[BROAD, 1.0], dense_variance=DENSE),
    "p4m": RPPPrior(equivariant_variance=BROAD, mlp_variance=BROAD),
    "convolution": RPPPrior(equivariant_variance=BROAD, mlp_variance=BROAD),
    "mlp": RPPPrior(mlp_variance=BROAD),
    "rpp, others 0.01": RPPPrior(pathway_variances=[BROAD, 1e-2], dense_variance=DENSE),
    "rpp, others 100": RPPPrior(pathway_variances=[BROAD, BROAD], dense_variance=DENSE),
}


class Size(NamedTuple):
    members: int
    epochs: int


FULL, QUICK = Size(3, 60), Size(2, 1)


def examples(task: str, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Images of a task, and what is to be told of them."""
    generator = torch.Generator().manual_seed(seed)
    count = len(images)
    turns, halves = (torch.randint(4, (count,), generator=generator) for _ in range(2))
    shifts = torch.randint(8, (count, 2), generator=generator)
    flips = torch.rand(count, generator=generator) < 0.5
    if task == "shifted":
        return shifted(images, shifts), labels
    if task == "turned":
        return torch.where(flips[:, None, None, None], turned(images, turns).flip(-1), turned(images, turns)), labels
    if task == "orientation":
        return turned(images, turns), turns
    return shifted(images, 4 * torch.stack([halves // 2, halves % 2], 1)), halves


def turned(images: Tensor, turns: Tensor) -> Tensor:
    each = torch.stack([images.rot90(k, (-2, -1)) for k in range(4)])
    return each[turns, torch.arange(len(images))]


def shifted(images: Tensor, shifts: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    rows = (torch.arange(height) - shifts[:, :1]) % height
    columns = (torch.arange(width) - shifts[:, 1:]) % width
    return images[torch.arange(len(images))[:, None, None], :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def network(kind: str, classes: int) -> RPPConvNet:
    options: dict[str, Any] = {"pool_after": [1], "padding_mode": "circular", "head": "mean"}
    if kind in ("convolution", "mlp"):
        return RPPConvNet((1, 8, 8), classes, [16, 64], "conv" if kind == "convolution" else "mlp", **options)
    return RPPConvNet((1, 8, 8), classes, [2, 8], "conv" if kind == "p4m" else "rpp", group="p4m", **options)


def run(task: str, kind: str, *, size: Size) -> dict[str, Any]:
    data, began = digits(), time.process_time()
    train, test = (examples(task, part.x, part.y, seed) for seed, part in enumerate((data.train, data.test)))
    net = NormalizedNetwork.fit(network(kind, int(train[1].max()) + 1), train[0])
    engine = DeepEnsemble(members=size.members, epochs=size.epochs, batch_size=50, lr=2e-2, compile=False)
    posterior = engine.fit(BayesianModel(net, KINDS[kind], Categorical()), train, seed=0, progress=False)
    wrong = (posterior.predict(test[0]).samples[:, 0].argmax(-1) != test[1]).double().mean(1)
    row: dict[str, Any] = {"errors": wrong.tolist(), "seconds": time.process_time() - began}
    if kind.startswith("rpp"):
        found = pathway_shares(posterior).median(["chain", "draw"])
        layers = [found.isel(layer=k).dropna("pathway").values.tolist() for k in range(found.sizes["layer"])]
        row["shares"] = layers  # of each layer: what keeps the larger group, what keeps the smaller one, dense
    return row


def errors(results: Results, task: str, kind: str) -> str:
    if f"{task}/{kind}" not in results:
        return ""
    row: Any = results[f"{task}/{kind}"]
    return f"{100 * statistics.mean(row['errors']):.1f} ± {100 * statistics.stdev(row['errors']):.1f}"


def report(results: Results) -> str:
    first = "rpp, others 1"
    kinds = [first, "p4m", "convolution", "mlp"]
    tasks = [task for task in TASKS if f"{task}/{first}" in results]
    table = rows_of(
        ("task", "what is to be told", "rpp", *kinds[1:], "chance"),
        [
            (
                task,
                TASKS[task],
                *(errors(results, task, kind) for kind in kinds),
                "75" if task in ("orientation", "place") else "90",
            )
            for task in tasks
        ],
    )
    varied = [kind for kind in KINDS if kind.startswith("rpp")]
    rows = []
    for task in tasks:
        for kind in sorted(
            (kind for kind in varied if f"{task}/{kind}" in results), key=lambda k: float(k.split()[-1])
        ):
            layers: Any = results[f"{task}/{kind}"]["shares"]
            parts = (" / ".join(f"{100 * shares[k]:.1f}" for shares in layers) for k in range(3))
            rows.append((task, kind.split()[-1], errors(results, task, kind), *parts))
    header = ("task", "variance", "error", "keeps turns", "keeps shifts", "dense")
    return page(
        __file__,
        "Which symmetry images have",
        captioned(
            "Errors on the test images in per cent: means and standard deviations over three networks. One set of "
            f"variances serves all tasks: {BROAD:g} for the pathway that is equivariant under quarter turns and "
            f"reflections, 1 for other convolutions, {DENSE:g} for dense weights. Networks of one pathway fail where "
            "the label depends on what they cannot see; dense layers alone are best where digits stand in the middle.",
            table,
        ),
        captioned(
            "The same with other variances of the second pathway, and where the squared weight lies, in per cent, of the "
            "first, the second and the last layer: in what is equivariant under quarter turns and reflections, in other "
            "maps that treat all places alike, and in dense maps (medians over the networks).",
            rows_of(header, rows),
        ),
    )


def main() -> None:
    chosen = trial_options(parser(__doc__, RECORD), 1)
    torch.set_num_threads(1)
    cases = [(task, kind) for kind in KINDS for task in TASKS]
    size = QUICK if chosen.quick else FULL
    publish(chosen.out, report(run_all(chosen.out, [] if chosen.report_only else cases, partial(run, size=size))))


if __name__ == "__main__":
    main()
