"""Figure 5 of the RPP paper: soft actor-critic with and without residual pathways.

RPP policies and critics against plain networks of the same widths on six MuJoCo environments, see learning_curves.py.
Each finished run is kept, so that the script resumes where it was stopped.

    python examples/paper/figure5_sac.py --steps 100000 --trials 2   # half an hour a run on one core
    python examples/paper/figure5_sac.py --only Walker2d --steps 20000 --transitions runs/transitions
    python examples/paper/figure5_sac.py --quick --out quick/figure5_sac.json  # two minutes: a few hundred steps
    python examples/paper/figure5_sac.py --report-only
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from learning_curves import picture, run_cases, table
from recording.result_pages import RESULTS, captioned, figure, page, parser, publish, trial_options
from recording.resumed_runs import Results

RECORD = RESULTS / "figure5_sac.json"
KINDS = ("RPP", "MLP")


def report(results: Results) -> str:
    caption = (
        "Soft actor-critic with residual pathways and without, in networks of two hidden layers of 256: the mean of the "
        "returns over training, and of the last three for each run. Symmetries are the defaults of environment_symmetry. "
        "By 100,000 steps published implementations, each with its own settings, reach returns of about 500 to 1,300 on "
        "Walker2d, 40 on Swimmer and 2,000 to 2,600 on Hopper."
    )
    return page(
        __file__,
        "Soft actor-critic",
        figure("figure5_sac", "Returns against steps of RPP and MLP policies"),
        captioned(caption, table(results, KINDS)),
    )


def main() -> None:
    options = parser(__doc__, RECORD)
    options.add_argument("--steps", type=int, default=100_000, help="of the environment (default: %(default)s)")
    options.add_argument("--only", default="", help="environments whose name holds this")
    options.add_argument("--transitions", type=Path, help="a folder for what the runs saw")
    chosen = trial_options(options, 2)
    results = run_cases(chosen, KINDS)
    publish(chosen.out, report(results), {"figure5_sac": picture(results, KINDS)})


if __name__ == "__main__":
    main()
