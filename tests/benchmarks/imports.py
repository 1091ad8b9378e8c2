"""What importing the packages costs, against ``import torch, pyro``, and how long ``bayes-rpp --help`` takes.

    python tests/benchmarks/imports.py [repeats]

The programs take turns, each in a process of its own, so that a change of the machine's load meets all of them. The
times are medians of processor time, which other processes disturb less than time on the clock.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

from record import keep

BASE = "import torch, pyro"
PROGRAMS = {
    BASE: BASE,
    "import bayes_rpp": "import bayes_rpp",
    "import inference": "import inference",
    "import analysis": "import analysis",
    "every name of analysis": "from analysis import *",
    "bayes-rpp --help": "from analysis.cli.main import main; main(['--help'])",
}


def seconds(program: str) -> float:
    """The processor time of one run, user and system."""
    before = os.times()
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 7
    rounds = [{name: seconds(program) for name, program in PROGRAMS.items()} for _ in range(repeats)]
    for name in PROGRAMS:
        ratio = statistics.median(each[name] / each[BASE] for each in rounds)
        median = statistics.median(each[name] for each in rounds)
        print(f"{name:24} {median:6.2f} s  {ratio:5.2f} x")
        keep("imports", {name: ratio, f"{name}, seconds": median})


if __name__ == "__main__":
    main()
