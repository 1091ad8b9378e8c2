"""A training step (forward, backward, Adam) of Hamiltonian rollouts of 4 steps, against that of an MLP of the states.

The paper's network, RPPEMLP on the states with bilinear layers, and networks of scalar channels on the states and their
inner products, each as it is and compiled. Compiling takes minutes the first time.

    python tests/benchmarks/rollout_step.py
"""

from __future__ import annotations

import torch
from record import keep
from torch import nn
from training_step import measure, steps

from bayes_rpp import MLP, RPPEMLP, HamiltonianRollout, InvariantLift, LiftedNetwork, O2eR3, Scalar, Vector

CHANNELS, BATCH, STEPS, DT = 128, 500, 4, 0.2


def energies() -> dict[str, nn.Module]:
    """Of the double pendulum: two positions and two momenta."""
    states, group = 4 * Vector, O2eR3()
    lift = InvariantLift(states, group)

    def lifted(kind: type[MLP | RPPEMLP]) -> LiftedNetwork:
        return LiftedNetwork(kind(lift.rep_out, Scalar, group, channels=CHANNELS * Scalar), lift)

    return {
        "MLP": MLP(states, Scalar, group, channels=CHANNELS),
        "RPPEMLP": RPPEMLP(states, Scalar, group, channels=CHANNELS),
        "full bilinear": RPPEMLP(states, Scalar, group, channels=CHANNELS, bilinear="full"),
        "invariant features": lifted(RPPEMLP),
        "MLP of invariant features": lifted(MLP),
    }


def main() -> None:
    torch.set_num_threads(1)
    print(f"training step of rollouts of {STEPS} steps, channels {CHANNELS}, batch {BATCH}, 1 thread")
    rollouts: dict[str, nn.Module] = {
        name: HamiltonianRollout(energy, STEPS, DT) for name, energy in energies().items()
    }
    keep("rollout_step", measure("pendulum", steps(rollouts, 1, BATCH)))


if __name__ == "__main__":
    main()
