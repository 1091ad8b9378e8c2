"""Runs that are kept in a file as they finish, so that a script resumes where it was stopped."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from inference.atomic_write import atomic_write
from recording.result_pages import date_record

Row = dict[str, float]
Results = dict[str, Row]


def run_all(path: Path, cases: Iterable[tuple[str, ...]], run: Callable[..., Row]) -> Results:
    """Run every case whose key, its parts joined by slashes, is not in the file yet. A case that Ctrl-C cuts short is
    not kept: engines return what they have then.
    """
    interrupts: list[int] = []

    def interrupt(number: int, _: object) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        return _run_all(path, cases, run, interrupts)
    finally:
        signal.signal(signal.SIGINT, before)


def known(path: Path) -> Results:
    """What is in the file."""
    results: Results = json.loads(path.read_text()) if path.exists() else {}
    return results


def _run_all(path: Path, cases: Iterable[tuple[str, ...]], run: Callable[..., Row], interrupts: list[int]) -> Results:
    results = known(path)
    path.parent.mkdir(exist_ok=True)
    for case in cases:
        key = "/".join(case)
        if key not in results:
            row = run(*case)
            if interrupts:
                raise KeyboardInterrupt
            results[key] = row
            with atomic_write(path) as beside:
                beside.write_text(json.dumps(results, indent=1))
            date_record(path)
            print(key, json.dumps(results[key]), flush=True)
    return results
