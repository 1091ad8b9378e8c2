"""From trained weights to the joint optimum of weights and variances.

    z_m <- argmax_z log p(y, z | x, v)          of every member m
    log v <- a Newton step on the mean over m of the Laplace evidence, with z_m held fixed

Training hardly moves the weights that the data do not need. They stay as large as they started, and the prior that
maximises their evidence is as wide as their start, whatever the data are; at the mode they are small, and the prior
can shrink with them.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path

import torch

from bayes_rpp import BayesianModel
from bayes_rpp.known_variances import model_at
from inference.empirical_bayes.checkpoint import RefinementCheckpoint
from inference.empirical_bayes.evidence_ascent import EvidenceAscent
from inference.empirical_bayes.modes import Round, at_modes, kept_of
from inference.empirical_bayes.settings import EvidenceSettings
from inference.posterior.posterior import Posterior
from inference.progress import ProgressBar

logger = logging.getLogger(__name__)

_NEGLIGIBLE_GAIN = 0.05  # nats: of the evidence, predicted by a Newton step or made by the last one
_LARGE_DECREMENT = 0.1  # which would show in the evidence


def refine(
    posterior: Posterior,
    given: BayesianModel,
    settings: EvidenceSettings,
    device: torch.device,
    progress: bool,
    checkpoint: Path | None = None,
) -> Posterior:
    """Alternate modes and variances, of the model ``given`` with its hyperpriors, until the predicted gain of a Newton
    step and the actual gain of the last one are negligible, or for all the steps that the settings allow.

    The predicted gain is that at fixed weights, while the actual one includes the move to new modes. Where a variance
    goes to zero, it decreases by ever smaller gains: its last value is then an upper bound.

    The result is the posterior of the round with most members, and among these with the largest mean evidence (times
    the density of the hyperpriors), its members at their modes; ``stats["refinements"]`` has the log evidence and the
    variances of every round. A member without a mode or an evidence is left out, with a warning. Ctrl-C and errors end
    it early; without any round, the posterior comes back as it was. After every round its state is written to the
    checkpoint, from which a refinement of the same posterior goes on.
    """
    ascent = EvidenceAscent(given)
    ascent.start_from(posterior.stats["variances"])
    kept = RefinementCheckpoint(checkpoint, posterior, given, settings)
    rounds, finished = kept.restore(ascent)
    weights = {m: {name: v[m, -1] for name, v in posterior.samples.items()} for m in range(posterior.chains)}
    for past in rounds:
        weights |= past.modes
    ahead = range(len(rounds), len(rounds) if finished else settings.refinements + 1)
    bar = ProgressBar(ahead, desc="refining", unit="round", progress=progress)
    interrupted = False
    try:
        for number in bar:
            members = at_modes(model_at(given, ascent.values), weights, posterior, settings, device)
            if not members:
                logger.warning("no member has a mode with an evidence: the variances are not refined any more.")
                break
            rounds.append(kept_of(members, ascent))
            weights |= rounds[-1].modes
            bar.set_postfix(log_evidence=f"{rounds[-1].objective:.1f}")
            finished = number == settings.refinements
            if not finished:
                predicted_gain = ascent.newton_step([member.expansion for member in members.values()])
                gain = rounds[-1].objective - rounds[-2].objective if number else math.inf
                finished = predicted_gain < _NEGLIGIBLE_GAIN and gain < _NEGLIGIBLE_GAIN
            kept.save(ascent, rounds, finished)
            if finished:
                break
            del members  # their curvatures, before the next are formed
    except KeyboardInterrupt:
        interrupted = True
        logger.warning("interrupted in refinement %d; what was best before is kept.", len(rounds))
    except (RuntimeError, ValueError) as error:
        logger.warning("refinement %d failed, what was best before is kept: %s", len(rounds), error)
    best = _best_of(rounds, posterior, given) if rounds else posterior
    if interrupted:
        best.stats["interrupted"] = True
    return best


def _best_of(rounds: list[Round], posterior: Posterior, given: BayesianModel) -> Posterior:
    """The posterior of the round with most members, and then with the largest objective."""
    best = max(rounds, key=lambda round_: (len(round_.modes), round_.objective))
    kept = list(best.modes)
    if len(kept) < posterior.chains:
        logger.warning("%d of %d members have no mode: left out.", posterior.chains - len(kept), posterior.chains)
    if (farthest := max(best.decrements.values())) > _LARGE_DECREMENT:
        logger.warning(
            "a member ended %.2g posterior standard deviations from its mode: its evidence is too small by about %.2g "
            "nats. Take more epochs or refinements.",
            farthest,
            farthest**2 / 2,
        )
    samples = {
        name: torch.stack([best.modes[member][name] for member in kept])[:, None].to(value.dtype).cpu()
        for name, value in posterior.samples.items()
    }
    stats = posterior.stats | {
        "variances": best.values,
        "log_evidence": best.log_evidence,
        "log_evidences": list(best.evidences.values()),
        "refinements": [{"log_evidence": round_.log_evidence, "variances": round_.values} for round_ in rounds],
    }
    history = [replace(past, samples={n: v[kept] for n, v in past.samples.items()}) for past in posterior.history]
    return Posterior(model_at(given, best.values), samples, stats, history, posterior.data)
