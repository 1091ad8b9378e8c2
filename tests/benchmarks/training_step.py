"""A training step (forward, backward, Adam) of RPPEMLP against that of the MLP with the same hidden widths.

Prints, for each group, for a stack of ten and for rollouts of energies and of transition models, the ratio as it is and
compiled, to the MLP in the same way. Compiling takes minutes the first time.

    python tests/benchmarks/training_step.py [threads] [--rollouts]  # these alone
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from functools import partial

import torch
from record import keep
from side_by_side import median_seconds, ratio
from torch import nn

from bayes_rpp import (
    MLP,
    RPPEMLP,
    BayesianModel,
    Gaussian,
    Group,
    HamiltonianRollout,
    InvariantLift,
    LiftedNetwork,
    O,
    O2eR3,
    Regular,
    Rep,
    RPPPrior,
    Scalar,
    SO13p,
    T,
    TransitionRollout,
    Vector,
    Z,
)
from inference.training.parameter_stack import joint_stack

ROUNDS = 40

CASES: list[tuple[str, Group, Rep, Rep]] = [
    ("Inertia, O(3)", O(3), 5 * Scalar + 5 * Vector, T(2)),
    ("SO13p", SO13p(), 2 * Vector, Scalar),
    ("Z(2)", Z(2), 4 * Scalar + 4 * Vector, Scalar),
    ("Z(4)", Z(4), 4 * Scalar + 2 * Vector, Scalar),
]


def networks(group: Group, rep_in: Rep, rep_out: Rep, channels: int) -> dict[str, nn.Module]:
    return {
        "MLP": MLP(rep_in, rep_out, group, channels=channels),
        "RPPEMLP": RPPEMLP(rep_in, rep_out, group, channels=channels),
        "collapsed": RPPEMLP(rep_in, rep_out, group, channels=channels, parametrization="collapsed"),
        "no bilinear": RPPEMLP(rep_in, rep_out, group, channels=channels, bilinear=False),
    }


def rollouts(channels: int) -> dict[str, nn.Module]:
    """Rollouts of 4 steps of the double pendulum: of an MLP of the states, the paper's network, and networks of scalar
    channels on the states and their inner products.
    """
    states, group = 4 * Vector, O2eR3()
    lift = InvariantLift(states, group)

    def lifted(kind: type[MLP | RPPEMLP]) -> LiftedNetwork:
        return LiftedNetwork(kind(lift.rep_out, Scalar, group, channels=channels * Scalar), lift)

    energies: dict[str, nn.Module] = {
        "MLP": MLP(states, Scalar, group, channels=channels),
        "RPPEMLP": RPPEMLP(states, Scalar, group, channels=channels),
        "invariant features": lifted(RPPEMLP),
        "MLP of invariant features": lifted(MLP),
    }
    return {name: HamiltonianRollout(energy, 4, 0.2) for name, energy in energies.items()}


def transitions() -> dict[str, nn.Module]:
    """Rollouts of 10 steps of a system that a mirror keeps, with as many numbers as a Walker2d: 17, and 6 actions."""
    group = Z(2)
    state, action = 5 * Scalar + 6 * Regular, 3 * Regular
    changes = {
        "MLP": MLP(state + action, state, group, channels=256, layers=2),
        "RPPEMLP": RPPEMLP(state + action, state, group, channels=128 * Regular, layers=2),
    }
    return {name: TransitionRollout(change, action, 10) for name, change in changes.items()}


def steps(networks: dict[str, nn.Module], members: int, batch: int) -> dict[str, Callable[[], object]]:
    """Of each network, as it is and compiled; compiling rollouts with bilinear layers takes more than 20 minutes."""
    result: dict[str, Callable[[], object]] = {}
    for name, network in networks.items():
        model = BayesianModel(network, RPPPrior(), Gaussian(0.2))
        x = torch.randn(members, batch, model.network.rep_in.size)
        y = torch.randn(members, batch, model.network.rep_out.size)
        slow = isinstance(network, HamiltonianRollout) and name == "RPPEMLP"
        for compiled in (False,) if slow else (False, True):
            stack = joint_stack(model, list(range(members)), batch)
            stack.prepare(compiled, 1, (x, y))
            result[name + ", compiled" * compiled] = partial(stack.step, (x, y), 1e-3)
    return result


def measure(label: str, functions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The ratios to the MLP, each network's as it is to the MLP's as it is, and compiled to compiled."""
    seconds, numbers = median_seconds(functions, ROUNDS), {}
    for name in functions:
        reference = "MLP, compiled" if name.endswith("compiled") else "MLP"
        if name != reference:
            numbers[f"{label}, {name}"] = ratio(seconds, name, reference)
    eager, compiled = (1e3 * statistics.median(seconds[name]) for name in ("MLP", "MLP, compiled"))
    ratios = "  ".join(f"{name.removeprefix(f'{label}, ')} {value:.2f}x" for name, value in numbers.items())
    print(f"  {label:22} MLP {eager:5.1f} ms, compiled {compiled:5.1f} ms;  {ratios}", flush=True)
    return numbers


def main() -> None:
    threads = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 1
    torch.set_num_threads(threads)
    suffix = f"{threads} thread" + "s" * (threads > 1)
    print(f"training step, channels 384, batch 500, {suffix}; ratios to the MLP's in the same way")
    numbers = measure("rollouts", steps(rollouts(128), 1, 500))
    for members in (1, 5):
        numbers |= measure(f"transitions, {members} members", steps(transitions(), members, 200))
    others = "--rollouts" not in sys.argv
    for label, group, rep_in, rep_out in CASES if others else []:
        functions = steps(networks(group, rep_in, rep_out, 384), 1, 500)
        numbers |= measure(label, functions)
    label, group, rep_in, rep_out = CASES[0]
    kinds = {name: network for name, network in networks(group, rep_in, rep_out, 64).items() if name != "collapsed"}
    for members in (10, 32) if others else ():
        print(f"a stack of {members}, channels 64, batch 100 each")
        numbers |= measure(f"{label}, {members} members", steps(kinds, members, 100))
    keep("training_step", {f"{name}, {suffix}": value for name, value in numbers.items()})


if __name__ == "__main__":
    main()
