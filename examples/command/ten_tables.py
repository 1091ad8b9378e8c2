"""The command on ten tables as people have them, from the file to predictions: a transcript.

python examples/command/ten_tables.py                # ten minutes on one core
python examples/command/ten_tables.py --quick --out quick/ten_tables.json  # the smallest table alone
python examples/command/ten_tables.py --report-only
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.append(str(Path(__file__).parents[1]))

from recording.result_pages import RESULTS, page, parser, publish, trial_options
from recording.resumed_runs import Results, run_all

RECORD = RESULTS / "ten_tables.json"
SMALL = "--members 3 --channels 32 --layers 1 --epochs 150 --lr 0.01"


def measured(rows: int, seed: int) -> pd.DataFrame:
    """A pendulum's length and amplitude, and its period with an error of measurement."""
    random = np.random.default_rng(seed)
    length, amplitude = random.uniform(0.2, 2.0, rows), random.uniform(0.0, 1.0, rows)
    period = 2 * np.pi * np.sqrt(length / 9.81) * (1 + amplitude**2 / 16)
    return pd.DataFrame({"length": length, "amplitude": amplitude, "period": period + random.normal(0, 0.02, rows)})


def semicolons(path: Path, seed: int) -> None:
    measured(300, seed).round(4).to_csv(path, sep=";", decimal=",", index=False)


def tabs(path: Path, seed: int) -> None:
    measured(300, seed).round(4).to_csv(path, sep="\t", index=False)


def byte_order_mark(path: Path, seed: int) -> None:
    text = measured(300, seed).round(4).to_csv(index=False, lineterminator="\r\n")
    path.write_bytes(text.encode("utf-8-sig"))


def index_column(path: Path, seed: int) -> None:
    measured(300, seed).round(4).to_csv(path)


def text_columns(path: Path, seed: int) -> None:
    table = measured(300, seed).round(4)
    days = pd.date_range("2026-03-01", periods=300).strftime("%Y-%m-%d")
    table.insert(0, "day", days)
    table.insert(1, "observer", np.where(np.arange(300) % 3 == 0, "Foucault, L.", "Huygens, C."))
    table.to_csv(path, index=False)


def gaps(path: Path, seed: int) -> None:
    table = measured(300, seed).round(4)
    table.loc[[3, 40, 41], "amplitude"] = np.nan
    table.loc[7, "period"] = np.nan
    table.to_csv(path, index=False, na_rep="NA")


def eight_rows(path: Path, seed: int) -> None:
    measured(8, seed).round(4).to_csv(path, index=False)


def many_rows(path: Path, seed: int) -> None:
    measured(200_000, seed).round(4).to_csv(path, index=False)


def large_units(path: Path, seed: int) -> None:
    table = measured(300, seed)
    pressure = 2.5e6 + 40 * table.amplitude
    pd.DataFrame({"pressure_Pa": pressure, "depth_um": 1e6 * table.length, "period": table.period}).to_csv(
        path, index=False
    )


def labels(path: Path, seed: int) -> None:
    table = measured(300, seed).round(4)
    table["verdict"] = np.where(table.period > 2, "slow", np.where(table.period > 1.5, "middling", "fast"))
    table.drop(columns="period").to_csv(path, index=False)


COLUMNS = "--x length,amplitude --y period"
# The title, what writes the table, what is typed to fit it, and what is typed first and refused.
TABLES: dict[str, tuple[Callable[[Path, int], None], str, list[str]]] = {
    "Semicolons and decimal commas": (semicolons, f"pendulum.csv {COLUMNS} {SMALL}", []),
    "Tabs": (tabs, f"pendulum.tsv {COLUMNS} {SMALL}", []),
    "A byte-order mark, and lines as Windows ends them": (byte_order_mark, f"pendulum.csv {COLUMNS} {SMALL}", []),
    "An index column without a name": (index_column, f"pendulum.csv {COLUMNS} {SMALL}", []),
    "Columns of dates and names": (text_columns, f"pendulum.csv {COLUMNS} {SMALL}", []),
    "Gaps": (gaps, f"pendulum.csv {COLUMNS} {SMALL} --drop-incomplete", [f"pendulum.csv {COLUMNS}"]),
    "Eight rows": (eight_rows, f"pendulum.csv {COLUMNS} {SMALL}", []),
    "200,000 rows": (
        many_rows,
        f"pendulum.csv {COLUMNS} --members 3 --channels 32 --layers 1 --epochs 3 --batch-size 1000 --lr 0.01",
        [],
    ),
    "Units of a millionth, and a large offset": (
        large_units,
        f"pendulum.csv --x pressure_Pa,depth_um --y period {SMALL}",
        [],
    ),
    "Labels in words": (
        labels,
        f"pendulum.csv --x length,amplitude --y verdict --likelihood categorical {SMALL}",
        ["pendulum.csv --x length,amplitude --y verdict"],
    ),
}


def run(title: str) -> Any:
    """The table's first lines, and every command with what it printed and its exit status."""
    write, fit, refused = TABLES[title]
    file = fit.split()[0]
    new = f"new{Path(file).suffix}"
    drop = " --drop-incomplete" if "--drop-incomplete" in fit else ""
    after = ["report run", f"predict run {new} --out predicted.csv{drop}"]
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in enumerate((file, new)):
            write(Path(folder) / name, seed)
        head = (Path(folder) / file).read_bytes()[:400].decode("utf-8-sig").splitlines()[:4]
        typed = [f"fit {words}" for words in refused] + [f"fit {fit} --out run", *after]
        lines = [{"typed": words, **_typed(words, Path(folder))} for words in typed]
        predicted = (Path(folder) / "predicted.csv").read_text().splitlines()[:4]
    return {"head": head, "lines": lines, "predicted": predicted}


def _typed(words: str, folder: Path) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("bayes-rpp")), *shlex.split(words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return {"printed": done.stdout.rstrip(), "status": done.returncode}


def report(results: Results) -> str:
    parts = [
        "Each table is made by the script, from the length, the amplitude and the period of a pendulum, and holds what "
        "tables of people hold; new.csv is made in the same way, with other numbers. What is typed, and all that is printed:"
    ]
    for title in (title for title in TABLES if title in results):
        row: Any = results[title]
        parts += [f"## {title}", _block(row["head"], "csv")]
        shown = []
        for line in row["lines"]:
            shown += [f"$ bayes-rpp {line['typed']}", *line["printed"].splitlines()]
            shown += [f"(status {line['status']})"] if line["status"] else []
            shown += [""]
        parts += [_block(shown[:-1], "text"), "The first lines of predicted.csv:", _block(row["predicted"], "csv")]
    return page(__file__, "Ten tables", *parts)


def _block(lines: list[str], kind: str) -> str:
    return "\n".join([f"```{kind}", *lines, "```"])


def main() -> None:
    chosen = trial_options(parser(__doc__, RECORD), 1)
    titles = ["Eight rows"] if chosen.quick else list(TABLES)
    todo = [] if chosen.report_only else [(title,) for title in titles]
    publish(chosen.out, report(run_all(chosen.out, todo, run)))


if __name__ == "__main__":
    main()
