"""What the choice of variances costs: a gradient of the Laplace evidence to a step of training.

RPPEMLP on Inertia with about 10,000 parameters and 1000 examples; a step of training takes 500 of them. An update has
two parts: the curvature at the weights of the moment, and the gradient of the evidence in the log variances and the
noise, of which EmpiricalBayes takes ten with one curvature. Both are measured beside the step of training, on one
thread.
"""

from __future__ import annotations

import torch
from side_by_side import median_seconds, ratio

from bayes_rpp import RPPEMLP, BayesianModel, Gaussian, RPPPrior, Scalar, T, Vector
from bayes_rpp.datasets import inertia
from inference.evidence_ascent import EvidenceAscent
from inference.laplace import exact_target
from inference.laplace_evidence import EvidenceCurvature, Expansion
from inference.varied_training import VariedStack

CHANNELS = 8 * Scalar + 5 * Vector + 2 * T(2) + T(3)
CURVATURES: tuple[EvidenceCurvature, ...] = ("symmetric", "kronecker", "diagonal", "layer")


def main() -> None:
    torch.set_num_threads(1)
    data = inertia(train=1000, test=1, seed=0)
    net = RPPEMLP(data.rep_in, data.rep_out, data.group, channels=CHANNELS, layers=2)
    learned = BayesianModel(net, RPPPrior(), Gaussian(noise_variance=0.3, learned=True))
    known = BayesianModel(net, RPPPrior(), Gaussian(noise_variance=0.3))
    ascent = EvidenceAscent(learned, lr=0.1)
    starts = {name: value.detach()[None] for name, value in net.named_parameters()}
    stack = VariedStack(
        learned,
        starts,
        {name: torch.tensor([value]) for name, value in ascent.values.items()},
        3e-3,
        torch.device("cpu"),
    )
    batch = data.train.x[None, :500], data.train.y[None, :500]
    target = exact_target(known, (data.train.x, data.train.y), 1.0, torch.device("cpu"))
    z = target.free({name: value.detach().double() for name, value in net.named_parameters()})
    generator = torch.Generator().manual_seed(0)
    print(f"{sum(value.numel() for value in net.parameters()):,} parameters")
    print("| curvature | curvature, to a step of training | gradient, to a step | an update of ten gradients |")
    print("|---|---|---|---|")
    for name in CURVATURES:
        estimate = generator if name in ("symmetric", "kronecker") else None
        expansion = Expansion.at(target, z, name, generator=estimate)
        runs = {
            "step": lambda: stack.step(batch, 1000),
            "curvature": lambda name=name, g=estimate: Expansion.at(target, z, name, generator=g),
            "gradient": lambda expansion=expansion: ascent.climb([expansion], 1),
        }
        seconds = median_seconds(runs, rounds=3 if name in ("diagonal", "layer") else 10, warmup=1)
        curvature, gradient = ratio(seconds, "curvature", "step"), ratio(seconds, "gradient", "step")
        print(f"| {name} | {curvature:.1f}x | {gradient:.1f}x | {curvature + 10 * gradient:.0f} steps |", flush=True)


if __name__ == "__main__":
    main()
