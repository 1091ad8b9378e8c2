"""From trained weights to the joint optimum of weights and variances.

    z_m <- argmax_z log p(y, z | x, v)          of every member m
    log v <- a Newton step on the mean over m of the Laplace evidence, with z_m held fixed

Training hardly moves the weights that the data do not need. They stay as large as they started and speak for a prior
that is as wide as their start, whatever the data say; at the mode they are small, and the prior can shrink with them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from bayes_rpp import BayesianModel
from bayes_rpp.likelihoods import Params
from inference.curvature_structure import Structure
from inference.evidence_ascent import EvidenceAscent
from inference.laplace import exact_target
from inference.laplace_evidence import Expansion
from inference.mode_search import find_mode
from inference.posterior import Posterior
from inference.precision import Precision, data_precision, prior_precision
from inference.target import Target
from inference.varied_training import model_at

if TYPE_CHECKING:
    from inference.empirical_bayes import EmpiricalBayes

logger = logging.getLogger(__name__)

_SETTLED = 0.05  # nats below the maximum
_CLOSE = 0.01  # posterior standard deviations from the mode: 5e-5 nats


@dataclass(frozen=True)
class _Round:
    """The modes of the members under some variances, and the log evidence of each.

    Attributes
    ----------
    objective : the mean log evidence, and the log density of hyperpriors.
    """

    values: dict[str, float]
    modes: dict[int, Params]
    evidences: dict[int, float]
    objective: float


def refine(
    posterior: Posterior, given: BayesianModel, settings: EmpiricalBayes, device: torch.device, progress: bool
) -> Posterior:
    """Alternate modes and variances until a step in these promises hardly anything, or for all the rounds that the
    settings allow; the round with the largest evidence is kept. Ctrl-C ends it early.

    Parameters
    ----------
    posterior : trained members, and what was learned with them.
    given : the model whose variances are learned, with its hyperpriors.

    Returns
    -------
    The posterior with its members at their modes; ``stats["refinements"]`` has the log evidence and the variances of
    every round. A member without a mode or an evidence is left out, with a warning; without any other, the posterior
    comes back as it was.
    """
    assert posterior.data is not None
    ascent, rounds = EvidenceAscent(given, settings.evidence_lr), []
    ascent.start_from(posterior.stats["variances"])
    weights = {m: {name: v[m, -1] for name, v in posterior.samples.items()} for m in range(posterior.chains)}
    bar = tqdm(range(settings.refinements), desc="refining", unit="round", disable=None if progress else True)
    try:
        for _ in bar:
            target = exact_target(model_at(given, ascent.values), posterior.data, 1.0, device)
            expansions = dict(_at_modes(target, weights, settings))
            if not expansions:
                logger.warning("no member has a mode with an evidence: the variances are not refined any more.")
                break
            rounds.append(_evaluated(ascent, expansions))
            weights = rounds[-1].modes
            if ascent.newton_step(list(expansions.values())) < _SETTLED:
                break
    except KeyboardInterrupt:
        logger.warning("interrupted after %d refinements; keeping the best.", len(rounds))
    return _best_of(rounds, posterior, given) if rounds else posterior


def _at_modes(
    target: Target, weights: Mapping[int, Params], settings: EmpiricalBayes
) -> Iterator[tuple[int, Expansion]]:
    """Of every member that has a mode with an evidence, sought from its weights."""
    structure = Structure.of(target, settings.mode_curvature)
    structure.check_memory(target)
    model = target.model
    assert isinstance(model, BayesianModel)

    def precision(z: Tensor) -> Precision:
        prior = prior_precision(target, z, structure, model.prior_distributions)
        return Precision(data_precision(target, z[None], structure, progress=False), prior)

    for member, params in weights.items():
        try:
            z = target.free({name: value.double() for name, value in params.items()})
            mode = find_mode(target, z, structure, precision, progress=False, close=_CLOSE)
            with torch.no_grad():
                expansion = Expansion.at(target, mode.z, settings.curvature)
                if expansion.log_evidence().isfinite():
                    yield member, expansion
                    continue
            reason: object = "it is not finite"
        except (RuntimeError, torch.linalg.LinAlgError) as error:
            reason = error
        logger.warning("member %d has no mode with an evidence and is left out: %s", member, reason)


@torch.no_grad()
def _evaluated(ascent: EvidenceAscent, expansions: Mapping[int, Expansion]) -> _Round:
    evidences = {member: float(expansion.log_evidence()) for member, expansion in expansions.items()}
    objective = sum(float(ascent.objective(expansion)) for expansion in expansions.values()) / len(expansions)
    return _Round(ascent.values, {m: expansion.params for m, expansion in expansions.items()}, evidences, objective)


def _best_of(rounds: list[_Round], posterior: Posterior, given: BayesianModel) -> Posterior:
    """The posterior of the round with the largest objective."""
    best = max(rounds, key=lambda round_: round_.objective)
    kept = list(best.modes)
    samples = {
        name: torch.stack([best.modes[member][name] for member in kept])[:, None].to(value.dtype).cpu()
        for name, value in posterior.samples.items()
    }
    evidences = [best.evidences[member] for member in kept]
    stats = posterior.stats | {
        "variances": best.values,
        "log_evidence": sum(evidences) / len(evidences),
        "log_evidences": evidences,
        "refinements": [
            {"log_evidence": sum(r.evidences.values()) / len(r.evidences), "variances": r.values} for r in rounds
        ],
    }
    history = [replace(past, samples={n: v[kept] for n, v in past.samples.items()}) for past in posterior.history]
    return Posterior(model_at(given, best.values), samples, stats, history, posterior.data)
