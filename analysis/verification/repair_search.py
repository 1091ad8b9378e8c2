"""The search for one mistake in a pair of representations that explains why a function violates a symmetry."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import get_args

from jaxtyping import Float
from torch import Tensor

from analysis.verification.generator_errors import ROWS_AT_ONCE, Images, Layout, SampledFunction
from analysis.verification.repairs import Repair, single_repairs
from analysis.verification.report import Kind
from bayes_rpp import Rep

EXPLAINED = 1 / 2  # of a squared violation: no two independent causes can each account for more than half of it

_RELATED = 1 / 3  # of the chance level: there a explains eight ninths of b's variance, as it must to believe a repair
_SCREENING_POINTS = 32  # enough to order repairs: the right one is better by far than most
_FINALISTS = 24  # repairs that are measured again at all points: more than are ever as good as the best
_EQUALLY_GOOD = 1.05  # ratio of mean errors: at some hundred points they are not known any better

Errors = Float[Tensor, " generator"]


@dataclass(frozen=True)
class Trial:
    """What a repair does: the error of each generator and its chance level."""

    repair: Repair
    errors: Errors
    chance: Errors


def find_repairs(
    sampled: SampledFunction, rep_in: Rep, rep_out: Rep, images: Images, floor: float, budget: int
) -> tuple[list[Trial], int]:
    """The repairs that explain the errors, best first, and how many repairs were left untried.

    All are first measured at a few points, on each side at most ``budget`` in total; the best then at all points.
    """
    screened, untried = _screen(sampled.coarse(_SCREENING_POINTS), rep_in, rep_out, floor, budget)
    trials = [_measure(sampled, repair, rep_out, images) for repair in screened[:_FINALISTS]]
    before = sampled.errors(Layout.plain(rep_out), images)
    trials = [trial for trial in trials if _explains(before, trial, floor)]
    simplicity = get_args(Kind)  # of repairs that do equally well, the simplest first
    trials.sort(key=lambda trial: (_score(trial.errors, floor), simplicity.index(trial.repair.kind)))
    means = [float(trial.errors.clamp_min(floor).mean()) for trial in trials]
    return [trial for trial, mean in zip(trials, means, strict=True) if mean <= _EQUALLY_GOOD * means[0]], untried


def _screen(sampled: SampledFunction, rep_in: Rep, rep_out: Rep, floor: float, budget: int) -> tuple[list[Repair], int]:
    """The repairs within the budget, the most promising first, and the number of the others."""
    cost = len(sampled.elements) * len(sampled.x)
    candidates = (
        single_repairs("input", rep_in, sampled.elements),
        single_repairs("output", rep_out, sampled.elements),
    )
    inputs, outputs = (list(islice(side, max(1, budget // cost))) for side in candidates)
    untried = sum(1 for side in candidates for _ in side)
    scores, at_once = [], max(1, ROWS_AT_ONCE // cost)
    for some in (inputs[k : k + at_once] for k in range(0, len(inputs), at_once)):
        images = sampled.images([repair.layout for repair in some])
        scores += [_score(sampled.errors(Layout.plain(rep_out), at), floor) for at in images]
    unmoved = sampled.images([Layout.plain(rep_in)])[0]
    scores += [_score(sampled.errors(repair.layout, unmoved), floor) for repair in outputs]
    repairs = [*inputs, *outputs]
    return [repairs[k] for k in sorted(range(len(repairs)), key=scores.__getitem__)], untried


def _measure(sampled: SampledFunction, repair: Repair, rep_out: Rep, images: Images) -> Trial:
    """A repair at all points; ``images`` are those of the unrepaired input."""
    is_input = repair.side == "input"
    images = sampled.images([repair.layout])[0] if is_input else images
    output = Layout.plain(rep_out) if is_input else repair.layout
    return Trial(repair, sampled.errors(output, images), sampled.chance(output, images))


def _score(errors: Errors, floor: float) -> float:
    """The mean logarithm: it rewards a generator that a repair makes exact. Rounded, so that equals stay equal."""
    return round(float(errors.clamp_min(floor).log().mean()), 6)


def _explains(before: Errors, trial: Trial, floor: float) -> bool:
    """Whether a repair is the cause of the errors and no coincidence; see verify_symmetry."""
    share, after = EXPLAINED * trial.repair.share, trial.errors
    halves_all = after.square().sum() < share * before.square().sum()
    is_related = (after <= (_RELATED * trial.chance).clamp_min(floor)).all()
    mended = (before > floor) & (after <= floor) & (after.square() < share * before.square())
    harms_none = (after <= before.clamp_min(floor)).all()
    return bool((halves_all & is_related) | (mended.any() & harms_none))
