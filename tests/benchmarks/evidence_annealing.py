"""What evidences by annealing cost: gradients on all data for a standard error of 0.1 nats.

    python tests/benchmarks/evidence_annealing.py [particles]

The variance of each estimate falls in proportion to the particles, and the cost grows in proportion, so that a run of a
few particles tells what many would take; where the islands disagree by more than about a nat, it tells too little. The
model is a small RPP-EMLP with a learned noise variance.
"""

from __future__ import annotations

import sys

import torch

from analysis.evidence.annealing import AnnealedImportanceSampling, TemperedSMC
from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, RPPPrior, Scalar, Vector

WANTED = 0.1


def problem() -> tuple[BayesianModel, tuple[torch.Tensor, torch.Tensor]]:
    """75 parameters, and 40 examples of a function that is nearly invariant."""
    generator = torch.Generator().manual_seed(0)
    net = RPPEMLP(Vector + Scalar, Scalar, SO(3), channels=8, layers=1, parametrization="collapsed").double()
    x = torch.randn(40, 4, generator=generator, dtype=torch.float64)
    y = 0.3 * x[:, :3].square().sum(1) + 0.5 * (2 * x[:, 3]).sin() + 0.2 * x[:, 0]
    y = (y - y.mean()) / y.std() + 0.2 * torch.randn(40, generator=generator, dtype=torch.float64)
    prior = RPPPrior(equivariant_variance=1.0, dense_variance=0.01)
    return BayesianModel(net, prior, Gaussian(0.1, learned=True)), (x, y[:, None])


def main() -> None:
    torch.set_num_threads(1)
    particles = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    model, data = problem()
    methods = (
        TemperedSMC(particles=particles, islands=4),
        AnnealedImportanceSampling(particles=max(particles // 4, 2)),
    )
    for method in methods:
        evidence = method.estimate(model, data, seed=0, progress=False)
        assert evidence.gradients is not None
        assert evidence.standard_error is not None
        wanted = evidence.gradients * (evidence.standard_error / WANTED) ** 2
        levels, acceptance = len(evidence.details["acceptance"]), min(evidence.details["acceptance"])
        print(f"{evidence}: {evidence.gradients:,} gradients at {levels} temperatures, acceptance {acceptance:.2f}")
        print(f"  about {wanted:,.0f} gradients for {WANTED} nats", *evidence.warnings, sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
