r"""The evidence of a model whose variances were learned, integrated over these.

    log p(y) ~ log p(y | v) + log p(log v) + k/2 log 2 pi - 1/2 log det A,    A = -d^2 [...] / d(log v)^2

at the maximum in the logarithms of k variances (MacKay, Neural Computation 1999). A takes into account that the mode of
the weights moves with the variances; the curvature of the log joint is held at the mode.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from analysis.evidence import Evidence
from bayes_rpp import BayesianModel
from inference import EmpiricalBayes, Laplace, Posterior
from inference.empirical_bayes.evidence_ascent import LEAST_CURVATURE, EvidenceAscent, newton_direction
from inference.laplace.expansion import Expansion
from inference.laplace.mode_response import curvature_of_moving_mode

_UNFINISHED = 1.0  # nats
_DECREMENT = 0.5  # posterior standard deviations


def integrated_evidence(
    given: BayesianModel, posterior: Posterior, engine: EmpiricalBayes, device: str | torch.device
) -> Evidence:
    """The Laplace evidence that EmpiricalBayes ended with, integrated over the log variances that have hyperpriors.

    Of several members it is that with the largest evidence: the evidences of different optima add up, and one optimum
    is nearly always far above all others.
    """
    fitted, chosen = posterior.bayesian_model, posterior.stats["variances"]
    ascent = EvidenceAscent(engine.learned_model(given))
    names, warnings = list(ascent.hyperpriors), []
    if free := [name for name in chosen if name not in names]:
        warnings.append(
            f"{', '.join(free)} has no hyperprior: the evidence is its maximum over it, by a few nats too large, which "
            "favours models with more such variances. Give it one, as RPPPrior(dense_variance=LogNormal(-5.0, 2.0))."
        )
    evidences = posterior.stats["log_evidences"]
    best = evidences.index(max(evidences))
    samples = {name: value[best : best + 1] for name, value in posterior.samples.items()}
    start = Posterior(posterior.model, samples, posterior.stats, data=posterior.data)
    laplace = Laplace(engine.mode_curvature, draws=1)
    mode = laplace.fit(fitted, posterior.data, seed=0, device=device, progress=False, start=start)
    if (decrement := mode.stats["newton_decrement"]) > _DECREMENT:
        warnings.append(
            f"the weights stopped {decrement:.2g} posterior standard deviations from the mode: the evidence is too "
            f"small by about {decrement**2 / 2:.2g} nats. Take more epochs or refinements."
        )
    with torch.no_grad():
        expansion = Expansion.at(mode.density, mode.approximation.mean, engine.curvature)
    logs = {name: torch.tensor(math.log(value), dtype=torch.float64) for name, value in chosen.items()}

    def objective(values: Tensor) -> Tensor:
        return ascent.objective(expansion, logs | dict(zip(names, values, strict=True)))

    if not names:
        value = objective(torch.empty(0)).detach()
        return Evidence(float(value), f"Laplace, {engine.curvature}, at the best variances", warnings=tuple(warnings))
    at = torch.stack([logs[name] for name in names]).requires_grad_()
    value = objective(at)
    (gradient,) = torch.autograd.grad(value, at)
    held = torch.autograd.functional.hessian(objective, at.detach())
    hessian = held + curvature_of_moving_mode(given, mode, chosen, names)
    curvatures = torch.linalg.eigvalsh(-hessian).clamp_min(LEAST_CURVATURE)
    movable = [ascent.can_follow(name, *pair) for name, *pair in zip(names, at.detach(), gradient, strict=True)]
    slope = gradient * torch.tensor(movable)
    missed = 0.5 * float(slope @ newton_direction(slope, hessian))
    if missed > _UNFINISHED:
        nats = f"{missed:.2g}" if missed < 100 else f"{missed:,.0f}"
        warnings.append(
            f"the variances stopped about {nats} nats below the maximum of the evidence: take more epochs or "
            "refinements."
        )
    volume = 0.5 * float((2 * math.pi / curvatures).log().sum())
    method = f"Laplace, {engine.curvature}, integrated over variances"
    return Evidence(
        float(value.detach()) + volume,
        method,
        warnings=tuple(warnings),
        details={"volume": volume, "unfinished": missed},
    )
