"""Figure 6 of the RPP paper: residual pathways in the policy alone, with plain critics.

The same as figure5_sac.py, with a third kind of agent. Each finished run is kept, so that the script resumes where it was
stopped.

    python examples/paper/figure6_policy_only.py --steps 100000 --trials 2   # half an hour a run on one core
    python examples/paper/figure6_policy_only.py --quick --out quick/figure6_policy_only.json  # three minutes
    python examples/paper/figure6_policy_only.py --report-only
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from learning_curves import picture, run_cases, table
from recording.result_pages import RESULTS, captioned, figure, page, parser, publish, trial_options
from recording.resumed_runs import Results

RECORD = RESULTS / "figure6_policy_only.json"
KINDS = ("RPP", "RPP, plain critics", "MLP")


def report(results: Results) -> str:
    caption = (
        "Residual pathways in policy and critics, in the policy alone, and in neither: the mean of the returns over "
        "training, and of the last three for each run."
    )
    return page(
        __file__,
        "Soft actor-critic with pathways in the policy alone",
        figure("figure6_policy_only", "Returns against steps of three kinds of agents"),
        captioned(caption, table(results, KINDS)),
    )


def main() -> None:
    options = parser(__doc__, RECORD)
    options.add_argument("--steps", type=int, default=100_000, help="of the environment (default: %(default)s)")
    options.add_argument("--only", default="", help="environments whose name holds this")
    chosen = trial_options(options, 2)
    results = run_cases(chosen, KINDS)
    publish(chosen.out, report(results), {"figure6_policy_only": picture(results, KINDS)})


if __name__ == "__main__":
    main()
