"""The files of a report. Each carries a mark inside, so that nobody else's file of the same name is taken for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image, UnidentifiedImageError

from inference.atomic_write import atomic_write

REPORT, PICTURE, PAGE = "report.json", "equivariance.png", "report.html"
MARK = "bayes_rpp report"

_HEAD = 500  # letters of a page, among which its generator is named


def write_numbers(reports: dict[str, dict[str, Any]], folder: Path) -> None:
    """Write the report on labelled runs, each of which has ``MARK`` for its "format"."""
    with atomic_write(folder / REPORT) as beside:
        beside.write_text(json.dumps(reports, indent=1))


def write_page(page: str, folder: Path) -> None:
    """Write the page, whose generator is ``MARK``."""
    with atomic_write(folder / PAGE) as beside:
        beside.write_text(page, encoding="utf-8")


def write_picture(figure: Figure, folder: Path) -> None:
    """Write the picture."""
    with atomic_write(folder / PICTURE) as beside:
        figure.savefig(beside, dpi=150, format="png", metadata={"Description": MARK})


def check_report_replaceable(folder: Path) -> None:
    """Raise FileExistsError if files of the report's names are there that no report has written."""
    for name in (REPORT, PICTURE, PAGE):
        if (folder / name).exists() and not _is_own(folder / name):
            raise FileExistsError(f"{folder / name} was not written by bayes-rpp: move it to another place first.")


def remove_report(folder: Path) -> None:
    """Remove a report, and leave files of its names alone that no report has written."""
    for name in (REPORT, PICTURE, PAGE):
        if _is_own(folder / name):
            (folder / name).unlink()


def _is_own(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                return bool(picture.info.get("Description") == MARK)
        if path.suffix == ".html":
            return f'<meta name="generator" content="{MARK}">' in path.read_text(encoding="utf-8")[:_HEAD]
        reports = json.loads(path.read_text()).values()
        return bool(reports) and all(report["format"] == MARK for report in reports)
    except (UnidentifiedImageError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
