"""Runs that are kept in a file as they finish, so that a script resumes where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from result_pages import date_record

from inference.atomic_write import atomic_write

Row = dict[str, float]
Results = dict[str, Row]


def run_all(path: Path, cases: Iterable[tuple[str, ...]], run: Callable[..., Row]) -> Results:
    """Run every case whose key, its parts joined by slashes, is not in the file yet."""
    results: Results = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(exist_ok=True)
    for case in cases:
        key = "/".join(case)
        if key not in results:
            results[key] = run(*case)
            with atomic_write(path) as beside:
                beside.write_text(json.dumps(results, indent=1))
            date_record(path)
            print(key, json.dumps(results[key]), flush=True)
    return results
