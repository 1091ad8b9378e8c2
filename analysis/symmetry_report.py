"""What the verification of a symmetry found, as data and in print."""

from __future__ import annotations

import math
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
    """How well one generator of the group is a symmetry.

    Attributes
    ----------
    name : what it does to the axes of the space on which the group is defined.
    error : the mean of ||a - b|| / (||a|| + ||b||) with a = rho_out(g) f(x), b = f(rho_in(g) x).
    chance : what ``error`` would be if a and b belonged to different points.
    verdict : "holds", "approximate" or "wrong".
    output_errors : the same for each output column alone: rms(a_k - b_k) / (rms(a_k) + rms(b_k)).
    """

    name: str
    error: float
    chance: float
    verdict: Verdict
    output_errors: tuple[float, ...]


@dataclass(frozen=True)
class Suspect:
    """A possible mistake in a representation.

    Attributes
    ----------
    side : "input" or "output".
    kind : "sign", "swap", "block" (a type, or a block too many or too few) or "order" (of blocks, or of axes).
    coordinates : the columns concerned; of a block too many: its coordinates in the given representation.
    words : the mistake in words.
    error_before, error_after : the mean error over generators; before is NaN where the sizes did not fit the data.
    """

    side: Side
    kind: Kind
    coordinates: tuple[int, ...]
    words: str
    error_before: float
    error_after: float


@dataclass(frozen=True)
class SymmetryReport:
    """What ``verify_symmetry`` found; ``print`` it.

    Attributes
    ----------
    generators : one entry for each generator of the group.
    suspects : possible mistakes, best first; those that repair equally well cannot be told apart.
    floor : errors up to here say nothing: rounding, or the surrogate's own error.
    surrogate_error : the surrogate's relative error on held-out data; None for a function.
    untried : how many repairs there was no budget for.
    rep_in, rep_out : the bound representations that were verified: those given, or where their sizes do not fit, the
        best that do.
    points : at how many points.
    """

    generators: tuple[GeneratorError, ...]
    suspects: tuple[Suspect, ...]
    floor: float
    surrogate_error: float | None
    untried: int
    rep_in: Rep
    rep_out: Rep
    points: int

    def __str__(self) -> str:
        return "\n".join([*self._heading(), "", *self._table(), "", *self._legend(), "", *self._findings()])

    def _heading(self) -> list[str]:
        source = "" if self.surrogate_error is None else ", a network fitted to the data"
        return [
            f"Is f{source}, symmetric under {self.rep_in.group}? Measured at {self.points} points.".replace("f,", "f", 1)
            if not source
            else f"Is f{source}, symmetric under {self.rep_in.group}? Measured at {self.points} points.",
        ]
