"""Runs the statistical tests under shifted seeds, and says which failed under which shift.

    python tests/seed_shifts.py --shifts 20 [--log tests/seed_shifts.jsonl] [tests/inference/tempering/test_path.py ...]

The log, which is kept with the tests, gets a line for each shift of each file as it ends; what it holds of a file, and
of the conftest.py files that it uses, as they are now is not run again: two hours of one core for all. A test that
fails under any shift needs more draws, a margin that follows from the error rate of the suite, or a larger effect.
"""

import argparse
import hashlib
import json
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


class Outcomes:
    """Collects, as a plugin of pytest, how each test ended and the seconds that it took."""

    def __init__(self):
        self.tests = {}

    def pytest_runtest_logreport(self, report):
        """Keep the worst of set-up, call and tear-down."""
        outcome, seconds = self.tests.get(report.nodeid, ("passed", 0.0))
        self.tests[report.nodeid] = (
            "failed" if report.failed else outcome,
            round(seconds + report.duration, 2),
        )


def run(file, shift, extra):
    """The outcomes of one file's statistical tests under one shift, in this process."""
    for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
        del sys.modules[name]  # what modules and their caches made of the shift before
    outcomes = Outcomes()
    places = [str(ROOT / file), f"--rootdir={ROOT}", f"--config-file={ROOT / 'pyproject.toml'}"]
    arguments = [*places, f"--seed-shift={shift}", "-m", "statistical", "-p", "no:cacheprovider", *extra]
    code = pytest.main(arguments, plugins=[outcomes])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise SystemExit(f"pytest ended with {code!r} for {file}")
    return outcomes.tests


def digest(name):
    """Of what a file and the conftest.py files in its folder and above say now."""
    used = [folder / "conftest.py" for folder in (ROOT / name).parents if folder.is_relative_to(ROOT / "tests")]
    texts = [file.read_bytes() for file in (*used, ROOT / name) if file.exists()]
    return hashlib.sha256(b"".join(texts)).hexdigest()[:16]


def summary(name, shift, tests):
    """A line of the log."""
    failed = [test for test, (outcome, _) in tests.items() if outcome == "failed"]
    seconds = round(sum(seconds for _, seconds in tests.values()), 1)
    return {
        "file": name, "digest": digest(name), "shift": shift,
        "passed": len(tests) - len(failed), "failed": failed, "seconds": seconds,
    }  # fmt: skip


def read(log, names):
    """The entries of these files as they are now, by file and shift."""
    entries, now = map(json.loads, log.read_text().splitlines() if log.exists() else []), {n: digest(n) for n in names}
    return {(e["file"], e["shift"]): e for e in entries if now.get(e["file"]) == e["digest"]}


def table(found):
    """A line for each test that failed, and one for each shift."""
    failures, shifts = defaultdict(list), defaultdict(lambda: [0, 0, 0.0])
    for (_, shift), entry in sorted(found.items(), key=lambda item: item[0][1]):
        for column, value in enumerate((entry["passed"], len(entry["failed"]), entry["seconds"])):
            shifts[shift][column] += value
        for name in entry["failed"]:
            failures[name].append(shift)
    lines = [f"{'shift':>5} {'passed':>7} {'failed':>7} {'seconds':>8}"]
    lines += [f"{shift:5} {passed:7} {failed:7} {seconds:8.0f}" for shift, (passed, failed, seconds) in shifts.items()]
    lines += [f"failed under {', '.join(map(str, under))}: {name}" for name, under in sorted(failures.items())]
    return "\n".join(lines if failures else [*lines, "No test failed."])


def main():
    """Run what the log does not hold yet, and print the table of everything asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("tests", nargs="*", default=["tests"], help="files or folders (all tests)")
    parser.add_argument("--shifts", type=int, default=20, help="run shifts 1 to this one (20)")
    parser.add_argument("--log", type=Path, default=ROOT / "tests" / "seed_shifts.jsonl")
    given, extra = parser.parse_known_args()  # the rest is for pytest
    sys.path.insert(0, str(ROOT))
    places = [ROOT / place for place in given.tests]
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("test_*.py")))]
    names = [str(file.relative_to(ROOT)) for file in files if "statistical" in file.read_text()]
    given.log.parent.mkdir(parents=True, exist_ok=True)
    found = read(given.log, names)
    for shift in range(1, given.shifts + 1):
        for name in names:
            if (name, shift) not in found:
                found[name, shift] = summary(name, shift, run(name, shift, extra))
                with given.log.open("a") as stream:
                    stream.write(json.dumps(found[name, shift]) + "\n")
    print(table({key: entry for key, entry in found.items() if key[1] <= given.shifts}))


if __name__ == "__main__":
    main()
