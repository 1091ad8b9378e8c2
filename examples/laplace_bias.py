"""How far each Laplace approximation of the evidence is from the exact one, on a linear model.

The layer and the data of symmetry_level.py, at c = 0.1 and known variances; full and layer-wise curvature are exact
there.

    python examples/laplace_bias.py
"""

from __future__ import annotations

import torch
from symmetry_level import NOISE, REP, moments

from analysis.evidence import ExactEvidence, LaplaceEvidence
from bayes_rpp import RPPEMLP, BayesianModel, Gaussian, O, RPPPrior
from bayes_rpp.datasets import inertia
from inference import MAP

CURVATURES = ("full", "layer", "kronecker", "symmetric", "diagonal")
MODE = MAP(epochs=300, batch_size=None, lr=0.05)


def main() -> None:
    print("| N | dense variance | exact | " + " | ".join(CURVATURES) + " |\n" + "|---" * (3 + len(CURVATURES)) + "|")
    for size in (30, 300):
        data = inertia(train=size, test=1, symmetry_breaking=0.1, seed=0)
        noise = torch.randn(data.train.y.shape, generator=torch.Generator().manual_seed(0))
        pair = moments(data.train.x), data.train.y + NOISE**0.5 * noise
        for dense in (1e-4, 1e-2, 1.0):
            model = BayesianModel(RPPEMLP(REP, REP, O(3), layers=0), RPPPrior(1.0, dense), Gaussian(NOISE))
            exact = ExactEvidence().estimate(model, pair, seed=0).value
            found = [LaplaceEvidence(name, MODE).estimate(model, pair, seed=0, progress=False) for name in CURVATURES]
            biases = " | ".join(f"{evidence.value - exact:+.2f}" for evidence in found)
            print(f"| {size} | {dense:g} | {exact:.1f} | {biases} |", flush=True)


if __name__ == "__main__":
    main()
