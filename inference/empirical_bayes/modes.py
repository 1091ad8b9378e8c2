"""The members of an ensemble at their modes under some variances: a round of a refinement."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from bayes_rpp import BayesianModel
from bayes_rpp.types import Params
from inference.curvature.block_structure import Structure
from inference.density.unconstrained import float64_density
from inference.empirical_bayes.evidence_ascent import EvidenceAscent
from inference.empirical_bayes.settings import EvidenceSettings
from inference.laplace.expansion import Expansion
from inference.laplace.find_mode import find_mode
from inference.posterior.posterior import Posterior

logger = logging.getLogger(__name__)

_SMALL_DECREMENT = 0.01  # where the search for a mode ends, in posterior standard deviations by its curvature


@dataclass(frozen=True)
class Member:
    """One member at its mode; the expansion holds the curvature."""

    expansion: Expansion
    log_evidence: float
    decrement: float


@dataclass(frozen=True)
class Round:
    """What is kept of the members' modes under some variances."""

    values: dict[str, float]
    modes: dict[int, Params]
    evidences: dict[int, float]
    decrements: dict[int, float]
    objective: float  # the mean log evidence, and the log density of hyperpriors

    @property
    def log_evidence(self) -> float:
        """The mean over the members."""
        return sum(self.evidences.values()) / len(self.evidences)


def at_modes(
    model: BayesianModel,
    weights: Mapping[int, Params],
    posterior: Posterior,
    settings: EvidenceSettings,
    device: torch.device,
) -> dict[int, Member]:
    """The members that have a mode with an evidence, sought from their weights."""
    density = float64_density(model, posterior.data, 1.0, device)
    structure = Structure.of(density, settings.mode_curvature)
    structure.check_memory(density)
    found = {}
    for member, params in weights.items():
        try:
            z = density.free({name: value.double() for name, value in params.items()})
            mode = find_mode(density, z, structure, progress=False, close=_SMALL_DECREMENT)
            with torch.no_grad():
                expansion = Expansion.at(density, mode.z, settings.curvature)
                log_evidence = float(expansion.log_evidence())
        except RuntimeError as error:
            logger.warning("member %d of those trained has no mode with an evidence: %s", member, error)
            continue
        if math.isfinite(log_evidence):
            found[member] = Member(expansion, log_evidence, mode.decrement)
        else:
            logger.warning("the evidence of member %d of those trained is %s.", member, log_evidence)
    return found


@torch.no_grad()
def kept_of(members: Mapping[int, Member], ascent: EvidenceAscent) -> Round:
    """What is kept of the members, without their curvatures."""
    evidences = {number: member.log_evidence for number, member in members.items()}
    return Round(
        ascent.values,
        {number: member.expansion.params for number, member in members.items()},
        evidences,
        {number: member.decrement for number, member in members.items()},
        sum(evidences.values()) / len(evidences) + float(ascent.log_hyperprior(ascent.logs)),
    )
