"""Does ``kept_symmetry`` find the truth? Data whose symmetry is known, and ensembles that are not told it.

Moments of inertia keep all rotations; modified ones (the axis of the modification turned at random) keep those about an
axis, and "generic" ones none. Among all 3 x 3 matrices each keeps one direction more, scalings. The networks prefer
O(3), whatever the data keep. The interval of the axis is checked against its truth, over data sets.

    python examples/which_symmetry.py            # two hours on one core
    python examples/which_symmetry.py --quick --out quick/which_symmetry.json  # seconds
    python examples/which_symmetry.py --report-only
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from recording.result_pages import RESULTS, captioned, page, parser, publish, rows_of, trial_options
from recording.resumed_runs import Results, run_all
from torch import Tensor

from analysis import KeptAlgebra, kept_symmetry
from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, NormalizedNetwork, RPPPrior
from bayes_rpp.datasets import inertia
from inference import DeepEnsemble

RECORD = RESULTS / "which_symmetry.json"
DATA = {"exact": (0.0, "axis"), "axis": (0.3, "axis"), "generic": (0.3, "generic")}
KEPT = {"exact": (3, 4), "axis": (1, 2), "generic": (0, 1)}  # dimensions in so(3) and gl(3)
POINTS = 1000
AXES = {300: 40, 1000: 10}  # examples to train on, and data sets that keep an axis
OTHERS = 5  # data sets of each other kind
NOISE = 0.3  # standard deviation of the noise in some data, relative to that of the targets


class Size(NamedTuple):
    members: int
    channels: int
    layers: int
    steps: int


FULL, QUICK = Size(10, 256, 2, 1500), Size(3, 16, 1, 20)


def run(kind: str, train: str, noise: str, seed: str, *, size: Size) -> dict[str, Any]:
    breaking, form = DATA[kind]
    data = inertia(int(train), POINTS, breaking, int(seed), form)
    turn = SO(3).sample(1, int(seed))[0]
    turned = turned_function(data.function, turn, data.rep_in, data.rep_out)
    generator = torch.Generator().manual_seed(int(seed))
    y = turned(data.train.x)
    y = y + float(noise) * y.std() * torch.randn(y.shape, generator=generator)
    began = time.process_time()
    inner = RPPEMLP(data.rep_in, data.rep_out, data.group, channels=size.channels, layers=size.layers)
    network = NormalizedNetwork.fit(inner, data.train.x, y)
    variance = 0.2 + (float(noise) * float(y.std())) ** 2
    model = BayesianModel(network, RPPPrior(), Gaussian(noise_variance=variance))
    epochs = max(1, size.steps * 100 // int(train))
    engine = DeepEnsemble(members=size.members, epochs=epochs, lr=1e-2)
    posterior = engine.fit(model, (data.train.x, y), seed=int(seed), progress=False)
    trained = time.process_time() - began
    mse = float((posterior.predict(data.test.x).mean - turned(data.test.x)).square().mean())
    reps = {"rep_in": data.rep_in, "rep_out": data.rep_out}
    among_rotations = kept_symmetry(posterior, data.test.x, SO(3), **reps)
    among_all = kept_symmetry(posterior, data.test.x, algebra="gl", **reps)
    row: dict[str, Any] = {"mse": mse, "so": summary(among_rotations), "gl": summary(among_all)}
    if among_rotations.dimension == 1:
        row["so"]["angle"] = angle_between(among_rotations, turn[:, 2])
    return row | {"seconds of training": trained, "seconds": time.process_time() - began}


def turned_function(
    function: Callable[[Tensor], Tensor], turn: Tensor, rep_in: Any, rep_out: Any
) -> Callable[[Tensor], Tensor]:
    """g f(g^-1 x), which keeps g s g^-1 where f keeps s."""

    def turned(x: Tensor) -> Tensor:
        g = turn.to(x)
        result: Tensor = rep_out.apply(g, function(rep_in.apply(g.T, x)))
        return result

    return turned


def angle_between(kept: KeptAlgebra, axis: Tensor) -> float:
    """Between the axis of the rotations that are kept and a true one, in degrees."""
    a = kept.along[0]
    found = torch.stack([a[2, 1], a[0, 2], a[1, 0]])
    return math.degrees(math.asin(min(1.0, float(torch.linalg.cross(found / found.norm(), axis).norm()))))


def summary(kept: KeptAlgebra) -> dict[str, Any]:
    return {
        "dimension": kept.dimension,
        "share": kept.share,
        "distances": kept.distances.values.tolist(),
        "radius": kept.radius() if kept.dimension < len(kept.along) else 0.0,
        "unsure": kept.is_unsure,
        "words": kept.known.words if kept.known else "",
    }


def of(results: Results, kind: str, train: int, noise: float) -> list[dict[str, Any]]:
    found: list[Any] = [row for key, row in results.items() if key.split("/")[:3] == [kind, str(train), f"{noise:g}"]]
    return found


def report(results: Results) -> str:
    rows, axes = [], []
    for kind, (rotations, matrices) in KEPT.items():
        for train in AXES:
            for noise in (0.0, NOISE):
                found = of(results, kind, train, noise)
                if not found:
                    continue
                right = [
                    sum(row[name]["dimension"] == truth for row in found)
                    for name, truth in (("so", rotations), ("gl", matrices))
                ]
                size = f"{statistics.median(row['mse'] for row in found):.2g}"
                counts = (f"{k} of {len(found)}" for k in right)
                rows.append(
                    (kind, str(train), f"{noise:g}", size, str(rotations), next(counts), str(matrices), next(counts))
                )
                angles = [(row["so"]["angle"], row["so"]["radius"]) for row in found if "angle" in row["so"]]
                if kind == "axis" and angles:
                    inside = sum(angle < radius for angle, radius in angles) / len(angles)
                    errors = sorted(angle for angle, _ in angles)
                    radii = statistics.median(radius for _, radius in angles)
                    numbers = (f"{number:.2f}" for number in (statistics.median(errors), errors[-1], radii))
                    axes.append((str(train), f"{noise:g}", str(len(angles)), *numbers, f"{100 * inside:.0f} %"))
    seconds: list[Any] = [row["seconds"] - row["seconds of training"] for row in results.values()]
    return page(
        __file__,
        "Which symmetry is it?",
        captioned(
            "How often `kept_symmetry` finds as many dimensions as the data keep, among rotations, so(3), and among "
            "all matrices, gl(3), from ten members trained on N examples. Both searches of a posterior at "
            f"{POINTS} points take {statistics.median(seconds):.0f} seconds together on one core.",
            rows_of(
                ("data", "N", "noise", "test MSE", "so(3): truth", "found", "gl(3): truth", "found"),
                rows,
            ),
        ),
        captioned(
            "The axis of modified inertia, a random direction in each data set: the error of the axis that is found, "
            "in degrees, the radius of its 90 % region, and how often that holds the true axis.",
            rows_of(("N", "noise", "data sets", "median error", "largest", "radius", "covered"), axes),
        ),
    )


def cases() -> list[tuple[str, ...]]:
    result: list[tuple[str, ...]] = []
    for seed in range(max(AXES.values())):
        named = [("axis", train, "0") for train, count in AXES.items() if seed < count]
        if seed < OTHERS:
            named += [(kind, train, "0") for kind in ("exact", "generic") for train in AXES]
            named += [("axis", 1000, f"{NOISE:g}")]
        result += [(kind, str(train), noise, str(seed)) for kind, train, noise in named]
    return result


def main() -> None:
    chosen = trial_options(parser(__doc__, RECORD), 1)
    torch.set_num_threads(1)
    todo = cases()[:1] if chosen.quick else cases()
    size = QUICK if chosen.quick else FULL
    publish(chosen.out, report(run_all(chosen.out, [] if chosen.report_only else todo, partial(run, size=size))))


if __name__ == "__main__":
    main()
