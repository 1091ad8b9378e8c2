"""Do the intervals of ``bayes-rpp predict`` hold as many observations as they say? Energy and wine, ten splits.

Each split's tables are written as files of commas; ``fit`` takes what it takes by default, an ensemble of ten, and
``predict`` writes the 90 % intervals of the test rows.

    python examples/command/command_intervals.py --root data/uci  # two hours on one core
    python examples/command/command_intervals.py --root data/uci --quick --out quick/command_intervals.json  # a minute
    python examples/command/command_intervals.py --report-only
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

import pandas as pd
import torch

sys.path.append(str(Path(__file__).parents[1]))

from recording.result_pages import RESULTS, captioned, page, parser, publish, rows_of, trial_options
from recording.resumed_runs import Results, Row, run_all

from analysis.cli.main import main as command
from bayes_rpp.datasets import uci

RECORD = RESULTS / "command_intervals.json"
SETS, SPLITS = ("energy", "wine"), 10
QUICK = ["--members", "2", "--epochs", "2", "--channels", "8", "--layers", "1"]


def run(name: str, split: str, root: Path, options: list[str]) -> Row:
    """Fit and predict by the command, in a folder of its own."""
    data = uci(name, int(split), root)
    with tempfile.TemporaryDirectory() as folder:
        paths = {part: Path(folder) / f"{part}.csv" for part in ("train", "test", "predicted")}
        for part in ("train", "test"):
            x, y = getattr(data, part)
            columns = [f"x{i}" for i in range(x.shape[1])] + ["y"]
            pd.DataFrame(torch.cat([x, y], 1).numpy(), columns=columns).to_csv(paths[part], index=False)
        out = str(Path(folder) / "run")
        given = ["--y", "y", "--likelihood", "gaussian", "--test", str(paths["test"]), "--out", out, *options]
        for arguments in (
            ["fit", str(paths["train"]), *given],
            ["predict", out, str(paths["test"]), "--out", str(paths["predicted"])],
        ):
            if status := command(arguments):
                raise RuntimeError(f"bayes-rpp {arguments[0]} ended with status {status}.")
        found, y = pd.read_csv(paths["predicted"]), data.test.y[:, 0].double().numpy()
    inside = (found.y_lower <= y) & (y <= found.y_upper)
    return {
        "coverage": float(inside.mean()),
        "mse": float(((found.y - y) ** 2).mean()),
        "width": float((found.y_upper - found.y_lower).mean()),
        "rows": len(y),
    }


def report(results: Results) -> str:
    rows = []
    for name in SETS:
        if found := [row for key, row in results.items() if key.startswith(f"{name}/")]:
            covered = sum(row["coverage"] * row["rows"] for row in found) / sum(row["rows"] for row in found)
            least, most = (edge(row["coverage"] for row in found) for edge in (min, max))
            mse, width = (statistics.mean(row[key] for row in found) for key in ("mse", "width"))
            cells = f"{covered:.1%}", f"{least:.1%} to {most:.1%}", f"{mse:.3g}", f"{width:.3g}"
            rows.append((name, str(len(found)), *cells))
    return page(
        __file__,
        "Intervals of the command",
        captioned(
            "The share of test rows that the 90 % intervals of `bayes-rpp predict` hold, after `bayes-rpp fit` with its "
            "defaults but for the columns: over all rows of the splits, and from split to split; the mean square error "
            "and the mean width of the intervals.",
            rows_of(("data", "splits", "held", "by split", "test MSE", "width"), rows),
        ),
    )


def main() -> None:
    arguments = parser(__doc__, RECORD)
    arguments.add_argument("--root", type=Path, help="folder that holds a folder for each data set")
    chosen = trial_options(arguments, 1)
    torch.set_num_threads(1)
    splits = 1 if chosen.quick else SPLITS
    cases = [(name, str(split)) for split in range(splits) for name in SETS]
    one = partial(run, root=chosen.root, options=QUICK if chosen.quick else [])
    publish(chosen.out, report(run_all(chosen.out, [] if chosen.report_only else cases, one)))


if __name__ == "__main__":
    main()
