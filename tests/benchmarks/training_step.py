"""A training step (forward, backward, Adam) of RPPEMLP against that of the MLP with the same hidden widths.

Prints, for each group, the ratio with bilinear layers (where the group needs them), without them, and collapsed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import torch
from record import keep
from side_by_side import median_seconds, ratio

from bayes_rpp import MLP, RPPEMLP, BayesianModel, Gaussian, Group, O, Rep, RPPPrior, Scalar, T, Vector, Z
from inference.training.parameter_stack import joint_stack

BATCH, ROUNDS = 500, 40

CASES: list[tuple[str, Group, Rep, Rep]] = [
    ("Inertia, O(3)", O(3), 5 * Scalar + 5 * Vector, T(2)),
    ("Z(2)", Z(2), 4 * Scalar + 4 * Vector, Scalar),
    ("Z(4)", Z(4), 4 * Scalar + 2 * Vector, Scalar),
]


def steps(group: Group, rep_in: Rep, rep_out: Rep) -> dict[str, Callable[[], object]]:
    networks = {
        "MLP": MLP(rep_in, rep_out, group),
        "RPPEMLP": RPPEMLP(rep_in, rep_out, group),
        "collapsed": RPPEMLP(rep_in, rep_out, group, parametrization="collapsed"),
        "no bilinear": RPPEMLP(rep_in, rep_out, group, bilinear=False),
    }
    x = torch.randn(BATCH, networks["MLP"].rep_in.size)
    y = torch.randn(BATCH, networks["MLP"].rep_out.size)
    models = {name: BayesianModel(network, RPPPrior(), Gaussian(0.2)) for name, network in networks.items()}
    stacks = {name: joint_stack(model, [0], BATCH) for name, model in models.items()}
    return {name: partial(stack.step, (x[None], y[None]), 1e-3) for name, stack in stacks.items()}


def main() -> None:
    numbers = {}
    for threads in sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(threads)
        print(f"training step, channels 384, batch {BATCH}, {threads} thread(s); ratios to the MLP's")
        for label, group, rep_in, rep_out in CASES:
            seconds = median_seconds(steps(group, rep_in, rep_out), ROUNDS)
            ratios = "  ".join(f"{name} {ratio(seconds, name, 'MLP'):.2f}x" for name in seconds if name != "MLP")
            for name in seconds:
                if name != "MLP":
                    plural = "thread" if threads == 1 else "threads"
                    numbers[f"{label}, {name}, {threads} {plural}"] = ratio(seconds, name, "MLP")
            print(f"  {label:14} MLP {1e3 * statistics.median(seconds['MLP']):5.1f} ms  {ratios}")
    keep("training_step", numbers)


if __name__ == "__main__":
    main()
