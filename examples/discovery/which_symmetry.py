"""Does ``kept_symmetry`` find the truth? Data whose symmetry is known, and ensembles that are not told it.

Moments of inertia keep all rotations; modified ones (the axis of the modification turned at random) keep those about an
axis, and "generic" ones none. Among all 3 x 3 matrices each keeps one direction more, scalings. The networks prefer
O(3), whatever the data keep. The interval of the axis is checked against its truth, over data sets.

MLPs, which prefer nothing, learn functions that keep the Lorentz group, S(3) x S(2) among S(5), and a reflection among
D(4). For the first the singular values of LieGG (Moskalev et al., NeurIPS 2022) of single networks are taken too: those
of the rows grad f(x) x^T, whose null space is the symmetry; the dimension is read off their largest ratio. MLPs learn
two tasks of LieGAN (Yang et al., ICML 2023) as well: orbits of two bodies, and a function that turns by sevenths keep.

The double pendulum in a wind keeps rotations about the direction in which things fall, gravity and wind together.

    python examples/discovery/which_symmetry.py            # seven hours on one core
    python examples/discovery/which_symmetry.py --quick --out quick/which_symmetry.json  # seconds
    python examples/discovery/which_symmetry.py --report-only
"""

from __future__ import annotations

import itertools
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1]))

import exact_axes
import learned_functions
import liegan_tasks
import turned_inertia
import windy_pendulum
from learned_functions import LEARNED
from recording.result_pages import RESULTS, captioned, page, parser, publish, rows_of, trial_options
from recording.resumed_runs import Results, run_all
from turned_inertia import KEPT, POINTS, Size

RECORD = RESULTS / "which_symmetry.json"
AXES = {300: 40, 1000: 10}  # examples to train on, and data sets that keep an axis
LINEAR = (300, 40)  # the same of linear models
LEVELS = ("30", "100", "300", "1000"), ("0.02", "0.2", "2", "20"), 10  # examples, variances of noise, data sets
TASKS = {"orbits": 10_000, "sevenths": 20_000}  # examples
OTHERS = 5  # data sets of each other kind
SIZES = (500, 5000)  # examples of functions that MLPs learn
FORMS = ("so", "gl")
NOISE = 0.3  # standard deviation of the noise in some data, relative to that of the targets
FULL, QUICK = Size(10, 256, 2, 1500), Size(3, 16, 1, 20)


def of(results: Results, kind: str, train: int | str, noise: float) -> list[dict[str, Any]]:
    found: list[Any] = [row for key, row in results.items() if key.split("/")[:3] == [kind, str(train), f"{noise:g}"]]
    return found


def report(results: Results) -> str:
    of_inertia: list[Any] = [row for key, row in results.items() if key.split("/")[0] in KEPT]
    seconds = statistics.median(row["seconds"] - row["seconds of training"] for row in of_inertia) if of_inertia else 0
    return page(
        __file__,
        "Which symmetry is it?",
        captioned(
            "How often `kept_symmetry` finds as many dimensions as the data keep, among rotations, so(3), and among "
            "all matrices, gl(3), from ten members trained on N examples. Rotations are told apart in all data; among "
            "all matrices a break of 4 % a radian is about two posterior standard deviations from 0, and is found in "
            f"part of them. Both searches of a posterior at {POINTS} points take {seconds:.0f} seconds together on one "
            "core, beside other work.",
            dimensions_table(results),
        ),
        captioned(
            "The same of draws from the exact posterior of linear models of sum_i m_i r_i r_i^T: in how many of the data "
            "sets the dimension in so(3), and in gl(3), is wrong, by the variance of the noise that is added to y. With "
            "more noise or fewer data, breaks are not told from 0, and the dimension is too large.",
            levels_table(results),
        ),
        captioned(
            "The axis of modified inertia, a random direction in each data set: the error of the axis that is found, "
            "in degrees, the radius of its 90 % region, and how often that holds the true axis. Ensembles of networks, "
            "and draws from the exact posterior of linear models.",
            axes_table(results),
        ),
        captioned(
            "Linear models of the same data that are exactly symmetric under the rotations that were found, less "
            "others: by how many nats the log evidence is larger (exact; the median and the least over data sets).",
            evidence_table(results),
        ),
        captioned(
            "Functions that MLPs learn without being told of any symmetry. The angle is the largest principal angle "
            "between so(1, 3) and what is found among all 4 x 4 matrices, in degrees; LieGG's dimension is that below "
            "the largest ratio of neighbouring singular values, network by network.",
            learned_table(results),
        ),
        captioned(
            f"The double pendulum, from {windy_pendulum.CHUNKS} chunks of 4 steps: energies that prefer O2eR3, the "
            "symmetry about the vertical. The wind tilts the axis of what is kept, gravity and wind together. Medians "
            "over data sets, in degrees; the angle is that between the axis that is found and the true one.",
            pendulum_table(results),
        ),
        captioned(
            "Two tasks of LieGAN, with data made anew and MLPs that are told no symmetry. Orbits: the cosine of the "
            "angle between the direction that is kept best, among all 2 x 2 matrices, and rotations. Scalings are no "
            "symmetry of the problem, but data of orbits do not show it: a scaled one is none. Sevenths: the MLPs miss "
            "the sawtooth, and the error that would be told from 0 says so.",
            tasks_table(results),
        ),
    )


def dimensions_table(results: Results) -> str:
    rows = []
    for kind, truth in KEPT.items():
        for train, noise in itertools.product(AXES, (0.0, NOISE)):
            if found := of(results, kind, train, noise):
                mse = f"{statistics.median(row['mse'] for row in found):.2g}"
                so, gl = (
                    (str(k), f"{sum(row[name]['dimension'] == k for row in found)} of {len(found)}")
                    for name, k in zip(FORMS, truth, strict=True)
                )
                rows.append((kind, str(train), f"{noise:g}", mse, *so, *gl))
    header = ("data", "N", "noise", "test MSE", "so(3): truth", "found", "gl(3): truth", "found")
    return rows_of(header, rows)


def levels_table(results: Results) -> str:
    rows = []
    for (kind, truth), train in itertools.product(KEPT.items(), LEVELS[0]):
        cells = []
        for variance in LEVELS[1]:
            found = of(results, f"linear, {kind}", train, float(variance))
            wrong = (sum(row[name]["dimension"] != k for row in found) for name, k in zip(FORMS, truth, strict=True))
            cells.append(", ".join(map(str, wrong)) + f" of {len(found)}" if found else "")
        if any(cells):
            rows.append((kind, train, *cells))
    return rows_of(("data", "N", *(f"noise {variance}" for variance in LEVELS[1])), rows)


def pendulum_table(results: Results) -> str:
    rows = []
    for wind in windy_pendulum.WINDS:
        if found := of(results, "pendulum", wind, 0.0):
            mse = statistics.median(row["mse"] for row in found)
            cells = [wind, str(len(found)), f"{found[0]['tilt']:.2f}", f"{mse:.1g}"]
            for name in FORMS:
                seen = [row[name] for row in found if "angle" in row[name]]
                cells += [f"{len(seen)} of {len(found)}"]
                medians = [statistics.median(row[key] for row in seen) for key in ("angle", "radius") if seen]
                cells += [f"{number:.2g}" for number in medians] or ["", ""]
            rows.append(tuple(cells))
    names = (f"{each}: {algebra}" for algebra in ("so(3)", "gl(3)") for each in ("one kept", "angle", "90 % radius"))
    return rows_of(("wind", "data sets", "tilt", "test MSE", *names), rows)


def tasks_table(results: Results) -> str:
    rows = []
    for kind, train in TASKS.items():
        if found := of(results, kind, train, 0.0):
            error, seen = (f"{statistics.median(row[key] for row in found):.2g}" for key in ("error", "detectable"))
            kept = sorted({row["kept"] for row in found})
            cosine = f"{min(row['cosine'] for row in found):.6f}" if kind == "orbits" else ""
            rows.append((kind, str(train), str(len(found)), error, ", ".join(kept), cosine, seen))
    header = ("task", "N", "data sets", "relative error", "kept", "cosine, least", "error told from 0")
    return rows_of(header, rows)


def axes_table(results: Results) -> str:
    rows = []
    for kind, name in (("axis", "ensemble"), ("linear", "exact posterior")):
        for train, noise in itertools.product(AXES, (0.0, NOISE)):
            found = [row["so"] for row in of(results, kind, train, noise) if "angle" in row["so"]]
            if found:
                angles = [row["angle"] for row in found]
                inside = statistics.mean(row["angle"] < row["radius"] for row in found)
                numbers = statistics.median(angles), max(angles), statistics.median(row["radius"] for row in found)
                shown = (f"{number:.2f}" for number in numbers)
                rows.append((name, str(train), f"{noise:g}", str(len(found)), *shown, f"{100 * inside:.0f} %"))
    header = ("model", "N", "noise", "data sets", "median error", "largest", "median radius", "covered")
    return rows_of(header, rows)


def evidence_table(results: Results) -> str:
    found = [row["nats"] for row in of(results, "linear", LINEAR[0], 0.0) if "nats" in row]
    names = {
        "O(3)": "all rotations, O(3)",
        "SO2eR3": "rotations about z, as declared",
        "Trivial(3)": "the same, and a dense pathway",
    }
    rows = []
    for group, name in names.items():
        if nats := [row[group] for row in found]:
            rows.append((name, str(len(nats)), f"{statistics.median(nats):.0f}", f"{min(nats):.0f}"))
    return rows_of(("instead of what was found", "data sets", "median", "least"), rows)


def learned_table(results: Results) -> str:
    rows = []
    for kind, (_, _, _, group, truth) in LEARNED.items():
        for train in SIZES:
            found = of(results, kind, train, 0.0)
            if not found:
                continue
            right = f"{sum(row['right'] for row in found)} of {len(found)}"
            angle, baseline = "", ""
            if kind == "lorentz":
                angle = f"{max(row['angle'] for row in found):.2f}"
                members = [values for row in found for values in row["singular values"]]
                dimensions = [largest_ratio(values) for values in members]
                baseline = f"{sum(k == len(group.lie_algebra) for k in dimensions)} of {len(members)}"
            fit = f"{statistics.median(row['error'] for row in found):.2g}"
            rows.append(
                (f"{truth} in {'gl(4)' if kind == 'lorentz' else group}", str(train), fit, right, angle, baseline)
            )
    header = ("symmetry", "N", "relative error", "found", "largest angle", "LieGG, single networks")
    return rows_of(header, rows)


def largest_ratio(values: list[float]) -> int:
    """How many singular values lie below the largest ratio of neighbours."""
    ratios = [later / max(earlier, 1e-12) for earlier, later in itertools.pairwise(values)]
    return 1 + ratios.index(max(ratios))


def cases() -> list[tuple[str, ...]]:
    trains, variances, sets = LEVELS
    result: list[tuple[str, ...]] = []
    for seed in map(str, range(OTHERS)):
        result += [("pendulum", wind, "0", seed) for wind in windy_pendulum.WINDS]
        result += [(kind, str(train), "0", seed) for kind, train in TASKS.items()]
    for seed in map(str, range(sets)):
        result += [(f"linear, {kind}", *level, seed) for kind in KEPT for level in itertools.product(trains, variances)]
    for seed in range(max(AXES.values())):
        named = [("axis", train, "0") for train, count in AXES.items() if seed < count]
        if seed < OTHERS:
            named += [(kind, train, "0") for kind in ("exact", "generic") for train in AXES]
            named += [("axis", 1000, f"{NOISE:g}")]
            named += [(kind, train, "0") for kind in LEARNED for train in SIZES]
        result += [(kind, str(train), noise, str(seed)) for kind, train, noise in named]
    return result + [("linear", str(LINEAR[0]), "0", str(seed)) for seed in range(LINEAR[1])]


def run_any(kind: str, *case: str, size: Size) -> dict[str, Any]:
    if kind.startswith("linear"):
        return (exact_axes.run_level if kind.startswith("linear,") else exact_axes.run)(kind, *case)
    measured = (
        {"pendulum": windy_pendulum} | dict.fromkeys(TASKS, liegan_tasks) | dict.fromkeys(LEARNED, learned_functions)
    )
    return measured.get(kind, turned_inertia).run(kind, *case, size=size)


def main() -> None:
    chosen = trial_options(parser(__doc__, RECORD), 1)
    torch.set_num_threads(1)
    todo = cases()[:1] if chosen.quick else cases()
    size = QUICK if chosen.quick else FULL
    publish(chosen.out, report(run_all(chosen.out, [] if chosen.report_only else todo, partial(run_any, size=size))))


if __name__ == "__main__":
    main()
