"""What the choice of variances costs: a gradient of the Laplace evidence to a step of training.

RPPEMLP on Inertia with about 10,000 parameters and 1000 examples; a step of training takes 500 of them. An update has
two parts: the curvature at the current weights, and the gradient of the evidence in the log variances and the
noise, of which EmpiricalBayes takes ten with one curvature. Both are measured beside the step of training, on one
thread. The last column is how far apart updates must be for them to cost no more than four times the training: an
update and the steps of that many epochs are then at most five times these steps.
"""

from __future__ import annotations

import math
import statistics

import torch
from record import keep
from side_by_side import median_seconds, ratio

from bayes_rpp import RPPEMLP, BayesianModel, Gaussian, RPPPrior, Scalar, T, Vector
from bayes_rpp.datasets import inertia
from inference.curvature.names import EvidenceCurvature
from inference.density.unconstrained import float64_density
from inference.empirical_bayes.evidence_ascent import EvidenceAscent
from inference.laplace.expansion import Expansion
from inference.training.parameter_stack import varied_stack

STEPS_PER_EPOCH = 2
CHANNELS = 8 * Scalar + 5 * Vector + 2 * T(2) + T(3)
CURVATURES: tuple[EvidenceCurvature, ...] = ("symmetric", "kronecker", "diagonal", "layer", "full")
ROUNDS = {"symmetric": 10, "kronecker": 10, "diagonal": 3, "layer": 3, "full": 1}


def main() -> None:
    torch.set_num_threads(1)
    data = inertia(train=1000, test=1, seed=0)
    net = RPPEMLP(data.rep_in, data.rep_out, data.group, channels=CHANNELS, layers=2)
    learned = BayesianModel(net, RPPPrior(), Gaussian(noise_variance=0.3, learned=True))
    known = BayesianModel(net, RPPPrior(), Gaussian(noise_variance=0.3))
    ascent = EvidenceAscent(learned)
    starts = {name: value.detach()[None] for name, value in net.named_parameters()}
    stack = varied_stack(learned, starts, {name: torch.tensor([v]) for name, v in ascent.values.items()}, 1000)
    batch = data.train.x[None, :500], data.train.y[None, :500]
    density = float64_density(known, (data.train.x, data.train.y), 1.0, torch.device("cpu"))
    z = density.free({name: value.detach().double() for name, value in net.named_parameters()})
    generator = torch.Generator().manual_seed(0)
    print(f"{sum(value.numel() for value in net.parameters()):,} parameters")
    print("| curvature | taken once, to a step of training | a gradient, to a step | an update of ten | epochs apart |")
    print("|---|---|---|---|---|")
    for name in CURVATURES:
        estimate = generator if name in ("symmetric", "kronecker") else None
        expansion = Expansion.at(density, z, name, generator=estimate)
        runs = {
            "step": lambda: stack.step(batch, 3e-3),
            "curvature": lambda name=name, g=estimate: Expansion.at(density, z, name, generator=g),
            "gradient": lambda expansion=expansion: ascent.adam_steps([expansion], 1, 0.1),
        }
        seconds = median_seconds(runs, rounds=ROUNDS[name], warmup=0 if name == "full" else 1)
        curvature, gradient = ratio(seconds, "curvature", "step"), ratio(seconds, "gradient", "step")
        update = curvature + 10 * gradient
        spent = statistics.median(seconds["curvature"]) + 10 * statistics.median(seconds["gradient"])
        apart = math.ceil(update / 4 / STEPS_PER_EPOCH)
        numbers = {"curvature": curvature, "gradient": gradient, "seconds of an update": spent, "epochs apart": apart}
        keep("evidence_step", {f"{number}, {name}": value for number, value in numbers.items()})
        print(
            f"| {name} | {curvature:.1f}x | {gradient:.1f}x | {update:.0f} steps, {spent:.1f} s | {apart} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
