"""What the verification of a symmetry found, as data and in print."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bayes_rpp import Rep

Verdict = Literal["holds", "approximate", "wrong"]
Side = Literal["input", "output"]
Kind = Literal["sign", "swap", "block", "order"]

UNRELATED = 1 / 2  # of the chance level: there a explains less than three quarters of b's variance

_WORST_COLUMNS = 3  # to name for a generator that does not hold
_KINDS_IN_WORDS = "No single mistake (a sign, a swap of two columns, a type or order of blocks)"


@dataclass(frozen=True)
class GeneratorError:
    """How well one generator of the group is a symmetry."""

    name: str  # what it does to the axes of the space on which the group is defined
    error: float  # the mean of ||a - b|| / (||a|| + ||b||) with a = rho_out(g) f(x), b = f(rho_in(g) x)
    chance: float  # what ``error`` would be if a and b belonged to different points
    verdict: Verdict
    output_errors: tuple[float, ...]  # rms(a_k - b_k) / (rms(a_k) + rms(b_k)) for each output column k


@dataclass(frozen=True)
class Suspect:
    """A possible mistake in a representation."""

    side: Side
    kind: Kind  # "block": a type, or a block too many or too few; "order": of blocks, or of axes
    coordinates: tuple[int, ...]  # the columns concerned; of a block too many, those in the given representation
    words: str
    error_before: float  # the mean over generators, as after; NaN where the sizes did not fit the data
    error_after: float


@dataclass(frozen=True)
class SymmetryReport:
    """What ``verify_symmetry`` found; ``print`` it."""

    generators: tuple[GeneratorError, ...]
    suspects: tuple[Suspect, ...]  # best first; those that repair equally well cannot be distinguished
    floor: float  # errors up to here say nothing: rounding, or the surrogate's own error
    surrogate_error: float | None  # the surrogate's relative error on held-out data; None for a function
    untried: int  # how many repairs there was no budget for
    rep_in: Rep  # this and rep_out as verified, bound: those given, or where sizes do not fit, the best
    rep_out: Rep
    points: int

    def __str__(self) -> str:
        return "\n".join([*self._heading(), "", *self._table(), "", *self._legend(), "", *self._findings()])

    def _heading(self) -> Iterator[str]:
        yield f"Symmetry of f under {self.rep_in.group}, measured at {self.points} points"
        yield f"  inputs  {self.rep_in} ({self.rep_in.size} columns)"
        yield f"  outputs {self.rep_out} ({self.rep_out.size} columns)"
        if self.surrogate_error is not None:
            yield f"f is a network fitted to some of the data; its error on the others is {self.surrogate_error:.2g}."

    def _table(self) -> Iterator[str]:
        width = max(len(generator.name) for generator in self.generators)
        yield f"{'generator':{width}}  {'error':>8}  {'chance':>8}  verdict"
        for g in self.generators:
            yield f"{g.name:{width}}  {g.error:8.2g}  {g.chance:8.2g}  {self._verdict_in_words(g)}"

    def _verdict_in_words(self, generator: GeneratorError) -> str:
        if generator.verdict == "holds":
            return "holds as far as the network can tell" if self._is_hidden(generator) else "holds"
        errors = generator.output_errors
        worst = sorted(range(len(errors)), key=lambda k: -errors[k])[:_WORST_COLUMNS]
        columns = ", ".join(f"{k} ({errors[k]:.2g})" for k in worst if errors[k] > 0)
        return f"{generator.verdict}; worst in output column{'s' if len(errors) > 1 else ''} {columns}"

    def _is_hidden(self, generator: GeneratorError) -> bool:
        """Whether a surrogate's floor is so high that even a wrong generator would seem to hold."""
        return self.surrogate_error is not None and self.floor > UNRELATED * generator.chance

    def _legend(self) -> Iterator[str]:
        cause = "rounding" if self.surrogate_error is None else "the network's own error"
        words = {
            "error": "how far f(transformed x) is from the transformed f(x): 0 if the symmetry is exact, at most 1",
            "chance": "the same for f(transformed x) of another point: the error if there were no relation at all",
            "holds": f"the error is at most {self.floor:.2g}, which {cause} can cause",
            "approximate": "the error is less than half of chance, and no single mistake explains most of it",
            "wrong": "the error is more than half of chance, or one mistake, named below, explains most of it",
        }
        used = {"error", "chance", *(generator.verdict for generator in self.generators)}
        yield from (f"{word:11}  {text}" for word, text in words.items() if word in used)
        yield "Axes and columns are counted from 0."

    def _findings(self) -> Iterator[str]:
        sizes = [suspect for suspect in self.suspects if math.isnan(suspect.error_before)]
        repairs = [suspect for suspect in self.suspects if not math.isnan(suspect.error_before)]
        if sizes:
            yield "The sizes given do not fit the data. What would make them fit, best first:"
            yield from (f"  {k}. {s.words}; mean error {s.error_after:.2g}." for k, s in enumerate(sizes, start=1))
            yield from ("The table is for the representations above it, which fit best.", "")
        yield from _list_repairs(repairs) if repairs else [self._without_repair()]
        if self.untried:
            yield f"{self.untried} more repairs were not tried: raise `budget`."

    def _without_repair(self) -> str:
        verdicts = {generator.verdict for generator in self.generators}
        if "wrong" in verdicts:
            return f"{_KINDS_IN_WORDS} explains what is wrong: there are several, or there is no such symmetry."
        if "approximate" in verdicts:
            return f"{_KINDS_IN_WORDS} explains the errors: the symmetry seems to be approximate."
        if any(self._is_hidden(generator) for generator in self.generators):
            return "The fit is too poor to tell. Verify with more data, or with the function itself if there is one."
        return "Every generator holds."


def _list_repairs(repairs: list[Suspect]) -> Iterator[str]:
    single = len(repairs) == 1
    yield "Suspected mistake:" if single else "Suspected mistakes, any one of which would explain the errors:"
    for k, s in enumerate(repairs, start=1):
        yield f"  {s.words}" if single else f"  {k}. {s.words}"
        yield f"     Corrected, the mean error falls from {s.error_before:.2g} to {s.error_after:.2g}."
    which = "it" if single else "one"
    yield f"Correct {which}, in the data or the representation, and verify again: there may be more."
