"""Runs the benchmarks one after another and prints what they measured in one table, beside what is wanted.

    python tests/benchmarks/all.py [names]

It takes about an hour on one core, a good part of it compilation; each benchmark shows its own lines as it goes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from record import ROWS, with_unit

HERE = Path(__file__).parent


def main(names: list[str]) -> None:
    """Run them, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "numbers.json"
        for name in names:
            print(f"{name}:", flush=True)
            subprocess.run([sys.executable, HERE / f"{name}.py"], check=True, env=os.environ | {"BENCHMARKS": kept})
        found = json.loads(kept.read_text())
    print(f"\n{'measured':110} {'':>10}  wanted")
    for name in names:
        numbers = next(iter(found[name].values()))["numbers"]
        for number, label, unit, wanted in ROWS[name]:
            if number in numbers:
                print(f"{label:110} {with_unit(numbers[number], unit):>10}  {wanted}")


if __name__ == "__main__":
    main(sys.argv[1:] or list(ROWS))
