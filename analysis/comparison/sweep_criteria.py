"""What a sweep measures in each of its cells."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from analysis.comparison.sweep_training import Criterion, Problem
from analysis.evidence import LaplaceEvidence
from bayes_rpp.known_variances import model_at
from bayes_rpp.seeding import later_seed
from bayes_rpp.types import Params
from inference import Posterior
from inference.density.unconstrained import UnconstrainedDensity
from inference.laplace.expansion import Expansion
from inference.posterior.predictive import outputs_in_pieces, predictive
from inference.posterior.predictive import prediction_errors as errors_of

logger = logging.getLogger(__name__)

Criteria: TypeAlias = Sequence[Criterion] | Mapping[str, Criterion]


def named_criteria(criteria: Criteria) -> dict[str, Criterion]:
    """Criteria by name: "laplace_full" for LaplaceEvidence("full"), other classes in snake case, a function's own."""
    given = list(criteria.items()) if isinstance(criteria, Mapping) else [(None, one) for one in criteria]
    if not given:
        raise ValueError("criteria must have at least one, as LaplaceEvidence('symmetric'), got none.")
    result: dict[str, Criterion] = {}
    for label, criterion in given:
        if isinstance(criterion, type) or not (_is_method(criterion) or callable(criterion)):
            raise TypeError(
                "criteria must be evidence methods, as LaplaceEvidence('symmetric'), or functions of a Posterior, got "
                f"{criterion!r}."
            )
        name = label or _name(criterion)
        if name in result or name in ("log_joint", "gradient_norm", "epochs", "noise_variance"):
            raise ValueError(f"criteria have two of the name {name!r}: give names, criteria={{name: criterion}}.")
        if name.endswith("_error"):
            raise ValueError(f"{name!r} would be taken for a standard error: give the criterion another name.")
        result[name] = criterion
    return result


def check_criteria(problem: Problem, values: Mapping[str, float]) -> None:
    """Raise now what a curvature would raise after the training, by trying it on two examples."""
    small = replace(problem, pair=(problem.pair[0][:2], problem.pair[1][:2]))
    for criterion in problem.criteria.values():
        if isinstance(criterion, LaplaceEvidence):
            density = small.density(values)
            with torch.no_grad():
                Expansion.at(density, density.initial([problem.seed])[0], criterion.curvature)


def measure(
    problem: Problem, values: Mapping[str, float], weights: Params, epochs: int, member: int
) -> dict[str, float]:
    """The criteria of one fit, its log joint and its slope's length; what fails numerically is NaN, with a warning."""
    density = problem.density(values)
    z = density.free({name: value.double() for name, value in weights.items()})
    gradient, potential = density.gradients(z[None])
    stats = {"engine": "MAP", "seed": problem.seed, "epochs": epochs}
    samples = {name: value[None, None] for name, value in weights.items()}
    posterior = Posterior(model_at(problem.model, values), samples, stats, data=problem.pair)
    result = {"log_joint": -float(potential[0]), "gradient_norm": _gradient_norm(density, gradient[0])}
    for name, criterion in problem.criteria.items():
        try:
            result[name] = _value(problem, criterion, density, z, posterior, later_seed(problem.seed, member))
        except RuntimeError as error:
            logger.warning("%s failed at %s: %s", name, dict(values), error)
            result[name] = float("nan")
    return result


def prediction_errors(problem: Problem, draws: Params) -> dict[str, float]:
    """The errors of a cell's mean prediction on training and test data, from parameters name -> (member, *shape): see
    ``errors_of``.
    """
    result: dict[str, float] = {}
    pairs = {"train": problem.pair} | ({} if problem.test is None else {"test": problem.test})
    for prefix, pair in pairs.items():
        pieces = outputs_in_pieces(problem.model, draws, pair[0])
        wide = ((piece, outputs.double()) for piece, outputs in pieces)
        members = {name: value[:, None] for name, value in draws.items()}
        mean = predictive(problem.model.likelihood, wide, members, len(pair[0]), keep_samples=False).mean
        result |= {f"{prefix}_{name}": value for name, value in errors_of(mean, pair[1]).items()}
    return result


def _is_method(criterion: object) -> bool:
    return callable(getattr(criterion, "estimate", None))


def _name(criterion: Any) -> str:
    if isinstance(criterion, LaplaceEvidence):
        return f"laplace_{criterion.curvature}"
    own = type(criterion).__name__ if _is_method(criterion) else getattr(criterion, "__name__", "")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", own or type(criterion).__name__).lower()


def _value(
    problem: Problem, criterion: Any, density: UnconstrainedDensity, z: Tensor, posterior: Posterior, seed: int
) -> float:
    if isinstance(criterion, LaplaceEvidence):
        with torch.no_grad():
            return float(Expansion.at(density, z, criterion.curvature).log_evidence())
    if _is_method(criterion):
        found = criterion.estimate(posterior.model, problem.pair, seed=seed, device=problem.device, progress=False)
        for warning in found.warnings:
            logger.warning("%s: %s", found.method, warning)
        return float(found)
    return float(criterion(posterior))


def _gradient_norm(density: UnconstrainedDensity, gradient: Tensor) -> float:
    """(g^T Sigma g)^(1/2), with g in the weights and Sigma the covariance of their prior: the length of S^T g, S S^T =
    Sigma.
    """
    priors, slopes = density.model.prior_distributions, density.unpack(gradient.cpu())  # type: ignore[union-attr]
    weights = density.model.prior.parameter_priors(density.model.network)  # type: ignore[union-attr]
    whitened = (torch.func.vjp(priors[name].color, slopes[name])[1](slopes[name])[0] for name in weights)
    return sum(float(part.square().sum()) for part in whitened) ** 0.5
