"""The numbers of the benchmarks, one set a processor, in examples/results/benchmarks.json, and the pages made of them.

Each benchmark keeps its numbers when it is run with --record, in place of those of the same processor; with the name of
a file in $BENCHMARKS it keeps them there instead.

    python tests/benchmarks/record.py    # writes docs/results/speed.md and bases.md of what is there
"""

from __future__ import annotations

import datetime
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "examples"))

from recording.result_pages import PAGES, RESULTS, captioned, figure, processor, rows_of  # noqa: E402

BENCHMARKS = RESULTS / "benchmarks.json"
STEP = "a training step of RPPEMLP to that of the MLP with the same hidden widths (channels 384, batch 500)"
ROWS = {  # benchmark: (number, what it measures, unit, what is wanted)
    "training_step": [
        (f"{case}{kind}, 1 thread", f"{label}{how}", "x", wanted)
        for kind, how, limits in (
            ("", "", ("at most 4", "at most 1.7", "", "at most 1.4", "at most 1.4", "", "")),
            (
                ", compiled",
                ", both compiled",
                ("at most 2.6", "at most 1.6", "", "at most 1.3", "at most 1.3", "at most 2.5", ""),
            ),
        )
        for (case, label), wanted in zip(
            (
                ("Inertia, O(3), RPPEMLP", f"{STEP}: Inertia, O(3)"),
                ("Inertia, O(3), no bilinear", "the same without bilinear layers"),
                ("SO13p, RPPEMLP", "the same for the Lorentz group SO13p"),
                ("Z(2), RPPEMLP", "the same for Z(2), which needs no bilinear layer"),
                ("Z(4), RPPEMLP", "the same for Z(4)"),
                ("Inertia, O(3), 10 members, RPPEMLP", "ten members in a stack, channels 64, batch 100"),
                ("Inertia, O(3), 32 members, RPPEMLP", "32 members"),
            ),
            limits,
            strict=True,
        )
    ]
    + [
        (f"rollouts, {name}, 1 thread", label, "x", wanted)
        for name, label, wanted in (
            ("RPPEMLP", "rollouts of 4 steps, the paper's network to an MLP of the states, channels 128", "at most 3"),
            ("invariant features", "the same with scalar channels on states and inner products", ""),
            ("invariant features, compiled", "the same, both compiled", "at most 1.5"),
            ("MLP of invariant features, compiled", "an MLP of states and inner products, both compiled", ""),
        )
    ],
    "image_step": [
        (f"{case}, {number}", f"{label}: {case} pixels", "x", f"at most {wanted}")
        for number, label, wanted in (
            (
                "step",
                "a training step of RPPConvNet to those of its convolutions and of its dense layers together",
                1.05,
            ),
            ("memory", "its memory to that of the dense layers", 1.05),
        )
        for case in ("2 x 4", "8 x 8", "8 x 8, 5 members", "16 x 16", "32 x 32")
    ],
    "ensemble_stack": [
        (f"channels {channels}", f"ten members one after another to one stack, {channels} channels", "x", wanted)
        for channels, wanted in ((16, ""), (32, ""), (64, "at least 3"), (128, ""), (256, ""), (384, ""))
    ],
    "samplers": [
        ("NUTS to HMC", "NUTS, 16 chains in turn, to HMC as one stack, per effective draw", "x", "at least 20"),
        ("HMC, gradient", "a gradient of HMC for 16 chains to that of 16 stacked networks", "x", "at most 1.15"),
        ("SGHMC, 1 chain", "a step of SGHMC to one of Adam, one chain", "x", "at most 1.2"),
        ("SGHMC, 16 chains", "the same with 16 chains and 16 members", "x", "at most 1.2"),
    ],
    "imports": [
        ("import bayes_rpp", "`import bayes_rpp` to `import torch, pyro`", "x", "at most 1.2"),
        ("import inference", "`import inference`", "x", ""),
        ("import analysis", "`import analysis`", "x", "at most 1.5"),
        ("every name of analysis", "`from analysis import *`", "x", ""),
        ("bayes-rpp --help, seconds", "`bayes-rpp --help`", " s", "at most 0.5"),
    ],
    "evidence_step": [
        *(
            (
                f"gradient, {name}",
                f'a gradient of the Laplace evidence to a training step, `"{name}"`',
                "x",
                "at most 5",
            )
            for name in ("symmetric", "kronecker", "diagonal")
        ),
        *(
            (f"curvature, {name}", f'its curvature, taken once for ten gradients, `"{name}"`', "x", "")
            for name in ("symmetric", "kronecker", "diagonal")
        ),
        *(
            (f"{number}, {name}", f'{label} with dense blocks, `"{name}"`', unit, "")
            for number, label, unit in (
                ("seconds of an update", "an update of ten gradients", " s"),
                ("epochs apart", "epochs between updates that then cost at most four times the training", ""),
            )
            for name in ("layer", "full")
        ),
    ],
    "memory": [
        row
        for name, label in (
            ("predict", "`predict(x)`"),
            ("predict, no samples", "`predict(x, keep_samples=False)`"),
            ("log_likelihood", "`log_likelihood(x, y)`"),
            ("equivariance_error", "`equivariance_error`, 8 elements a point"),
            ("local_equivariance_error", "`local_equivariance_error`, 3 generators"),
            ("save", "`save` of 4,000 draws, 314 MB"),
        )
        for row in (
            (f"{name}, MB above the result", f"{label}: peak of memory above the result", " MB", "at most 300"),
            (f"{name}, seconds", f"{label}: time", " s", ""),
        )
    ],
    "bases": [
        ("cases", "bases with the right rank (emlp has one wrong: 6 maps for RubiksCube, where there are 9)", "", "91"),
        ("geometric mean", "speed over emlp, geometric mean", "x", "at least 100"),
        ("least", "the least over all", "x", "at least 1"),
        ("least of the slow", "the least over those that take emlp more than 3 s", "x", "at least 20"),
        ("O(3), T(4) -> T(4)", "O(3), T(4) -> T(4), 6,561 unknowns", " s", "at most 2"),
        ("S(30), T(2) -> T(2)", "S(30), T(2) -> T(2), 810,000 unknowns", " s", "at most 1"),
        ("S(5), 384 channels", "S(5), assembling solved pieces, 384 channels", " s", ""),
        ("S(5), 1536 channels", "the same, 1536 channels", " s", ""),
    ],
    "build": [
        (
            "least seconds",
            "RPPEMLP, built cold: the fastest of O(3), SO(4), S(5), Lorentz, SL(3)",
            " s",
            "",
        ),
        ("most seconds", "the slowest of these", " s", "at most 2"),
        ("least MB", "memory on top of the imports, the least", " MB", ""),
        ("most MB", "memory on top of the imports, the most", " MB", "at most 500"),
        ("MB before", "memory of the imports", " MB", ""),
    ],
}


def keep(benchmark: str, numbers: dict[str, float]) -> None:
    """Record the numbers of this processor if the command line asks for it."""
    aside = os.environ.get("BENCHMARKS")
    if aside is None and "--record" not in sys.argv[1:]:
        return
    file = Path(aside) if aside else BENCHMARKS
    found = json.loads(file.read_text()) if file.exists() else {}
    kept = found.setdefault(benchmark, {}).setdefault(processor(), {"numbers": {}})
    kept["date"] = datetime.date.today().isoformat()
    kept["numbers"] |= numbers
    file.write_text(json.dumps(found, indent=1) + "\n")
    if not aside:
        write_pages()


def table(benchmark: str) -> str:
    """One row a number, one column a processor."""
    found = json.loads(BENCHMARKS.read_text()).get(benchmark, {})
    rows = []
    for number, label, unit, wanted in ROWS[benchmark]:
        values = [run["numbers"].get(number) for run in found.values()]
        rows.append((label, *("" if value is None else with_unit(value, unit) for value in values), wanted))
    return rows_of(("measured", *(f"{name}, {run['date']}" for name, run in found.items()), "wanted"), rows)


def with_unit(value: float, unit: str) -> str:
    """A number with three digits."""
    return f"{float(f'{value:.3g}'):g}{unit}"


def source(*benchmarks: str) -> str:
    """Which scripts measure and record."""
    names = ", ".join(f"`tests/benchmarks/{name}.py`" for name in benchmarks)
    return (
        f"Measured by {names}, each with `--record`, which keeps its numbers in `examples/results/benchmarks.json`. "
        "This page is written by `python tests/benchmarks/record.py`."
    )


def speed_page() -> str:
    """docs/results/speed.md."""
    return (
        "\n\n".join(
            [
                "# How fast is it?",
                source("training_step", "ensemble_stack", "samplers", "evidence_step", "memory", "curves", "imports"),
                "## Training",
                captioned(
                    "A training step with bilinear layers costs two and a half to three times that of the MLP as it "
                    "is, and a little over two times if both are compiled; without bilinear layers 1.1 to 1.6 times. "
                    "The MLP has the same prior, also outside of the graph. All ratios are measured side by side in "
                    "one run, on one thread. (The Xeon's are of full bilinear layers.)",
                    table("training_step"),
                ),
                captioned(
                    "A stack trains ten members several times as fast as one after another (batch 100, two threads); "
                    "wide networks gain less.",
                    table("ensemble_stack"),
                ),
                captioned(
                    "From 256 channels on a step grows with the square of the channels, as its multiplications do, and "
                    "the ratio to the MLP falls; below, its many small operations are what it costs. Stacking shares "
                    "them among the members. Time grows in proportion to rows, whose number memory does not depend on "
                    "(see below). One thread, nothing compiled.",
                    figure(
                        "speed_curves",
                        "Time of a training step over channels, of a stack over members, of "
                        "predictions and of the equivariance error over rows",
                    ),
                ),
                "## Sampling",
                captioned(
                    "A step of SGHMC costs as much as one of Adam; HMC as a stack of 16 chains needs a tenth of the "
                    "time of Pyro's NUTS for each effective draw of the worst of three functions (one residual "
                    "layer, one thread).",
                    table("samplers"),
                ),
                "## Evidence",
                captioned(
                    "What the choice of variances costs, 9,456 parameters and one thread. With `symmetric` and "
                    "`kronecker`, whose curvature is estimated from one random combination of the outputs, a "
                    "gradient costs less than a few training steps; dense blocks (the largest of 5,520 parameters) "
                    "are for small networks.",
                    table("evidence_step"),
                ),
                "## Predictions and diagnostics",
                captioned(
                    "100,000 rows and 100 draws of RPPEMLP with 64 channels need less than 300 MB above their result, "
                    "which is 371 MB with all samples and 11 MB without (each in a fresh process, one thread).",
                    table("memory"),
                ),
                "## Imports",
                captioned("Names of `analysis` are imported when they are first used.", table("imports")),
            ]
        )
        + "\n"
    )


def bases_page() -> str:
    """docs/results/bases.md."""
    return (
        "\n\n".join(
            [
                "# How fast are bases solved?",
                source("bases", "build"),
                captioned(
                    "The constraint solver against emlp 1.0.3, the reference implementation (on jax 0.4.30), case by "
                    "case in one run on one core from cold caches; the seconds of emlp include its compilation. No "
                    "basis is slower, and all ranks are right. `python tests/benchmarks/bases.py --reference "
                    "--record` repeats this.",
                    table("bases"),
                ),
                captioned("Building whole networks takes less than a tenth of a second.", table("build")),
                "With the pieces solved, assembling a basis for O(3), SO(4) or SL(3) takes a few milliseconds at "
                "most, from 96 channels to 1536; for permutation groups the time grows with the number of entries of "
                "the weight.",
            ]
        )
        + "\n"
    )


def write_pages() -> None:
    """Write both pages."""
    PAGES.mkdir(parents=True, exist_ok=True)
    (PAGES / "speed.md").write_text(speed_page())
    (PAGES / "bases.md").write_text(bases_page())


if __name__ == "__main__":
    write_pages()
