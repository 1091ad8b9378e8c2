"""Pages of the documentation that show what a script measured, written from the numbers that it recorded.

The page of results/NAME.json is docs/results/NAME.md. results/records.json holds the date of each record, and the
processor on which it was measured where that is known.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from inference.atomic_write import atomic_write

HERE = Path(__file__).parents[1]
RESULTS, FIGURES = HERE / "results", HERE / "figures"
PAGES = HERE.parent / "docs" / "results"
CPU_INFO = Path("/proc/cpuinfo")


def options(description: str | None, record: Path) -> argparse.Namespace:
    """What the command line says."""
    return _parsed(parser(description, record))


def parser(description: str | None, record: Path) -> argparse.ArgumentParser:
    """The options that every script has: where its numbers are kept, and to write the page without measuring."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, default=record, help="the record (default: %(default)s)")
    made.add_argument("--report-only", action="store_true", help="measure nothing; write the page of what is recorded")
    return made


def trial_options(made: argparse.ArgumentParser, trials: int) -> argparse.Namespace:
    """What the command line says of a script with trials. A quick run is one trial, and must not go into the record.

    Parameters
    ----------
    made : of ``parser``, with the script's own options.
    trials : how many by default.
    """
    made.add_argument("--trials", type=int, default=trials, help="how many (default: %(default)s)")
    made.add_argument("--quick", action="store_true", help="one trial, small and short")
    chosen = _parsed(made)
    if chosen.quick:
        if chosen.out == made.get_default("out"):
            made.error("--quick measures nothing worth keeping: give another --out")
        chosen.trials = 1
    return chosen


def _parsed(made: argparse.ArgumentParser) -> argparse.Namespace:
    chosen = made.parse_args()
    if chosen.report_only and not chosen.out.exists():
        made.error(f"nothing is recorded in {chosen.out} yet: run once without --report-only")
    return chosen


def processor() -> str:
    """The name of the processor, as the operating system gives it."""
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def date_record(record: Path) -> None:
    """Note today's date and this processor for a record that has just been written."""
    dates = record.parent / "records.json"
    noted = json.loads(dates.read_text()) if dates.exists() else {}
    noted[record.stem] = {"date": datetime.date.today().isoformat(), "processor": processor()}
    with atomic_write(dates) as beside:
        beside.write_text(json.dumps(dict(sorted(noted.items())), indent=1) + "\n")


def page(script: str, title: str, *parts: str) -> str:
    """A whole page: the title, where its numbers come from, and its parts.

    Parameters
    ----------
    script : the script that measures, in examples; its record is ``examples/results/NAME.json``.
    """
    path = Path(script).resolve()
    name, place = path.stem, path.relative_to(HERE.parent)
    noted = json.loads((RESULTS / "records.json").read_text()).get(name)
    source = f"Measured by `python {place}`"
    if noted:  # not of a record that is kept elsewhere
        where = f" on {noted['processor']}" if noted.get("processor") else ""
        source += f"; recorded in `examples/results/{name}.json` on {noted['date']}{where}"
    source += f". This page is written by `python {place} --report-only`."
    return "\n\n".join([f"# {title}", source, *parts]) + "\n"


def captioned(caption: str, table: str) -> str:
    """A table below the sentences that say what to see in it."""
    return f"{caption}\n\n{table}"


def rows_of(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(name: str, shows: str) -> str:
    """A picture of examples/figures, which the site holds beside the pages."""
    return f"![{shows}](../figures/{name}.png)"


def publish(record: Path, text: str, pictures: Mapping[str, Figure] | None = None) -> None:
    """Write the page of a record and its pictures: into the documentation, or beside a record that is kept elsewhere."""
    target = PAGES / f"{record.stem}.md" if record.parent == RESULTS else record.with_suffix(".md")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    for name, drawn in (pictures or {}).items():
        drawn.savefig((FIGURES if record.parent == RESULTS else record.parent) / f"{name}.png", dpi=150)
    print(text)
