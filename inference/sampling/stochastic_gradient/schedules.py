"""Schedules of the step size of SGLD: e_k in step k of a run, from the first step size e."""

from __future__ import annotations

import math
from dataclasses import dataclass

from inference.settings import require_integers, require_positive


@dataclass(frozen=True)
class Constant:
    """e_k = e."""

    def factor(self, step: int, steps: int) -> float:
        """e_k / e, in a step counted from 0 of so many."""
        return 1.0


@dataclass(frozen=True)
class Polynomial:
    """e_k = e (1 + k / decay_steps)^-decay (Welling & Teh, ICML 2011).

    Parameters
    ----------
    decay : the exponent, in (0.5, 1].
    decay_steps : the steps after which the step size begins to fall like k^-decay.
    """

    decay: float = 0.55
    decay_steps: float = 1000.0

    def __post_init__(self) -> None:
        if not 0.5 < self.decay <= 1:
            raise ValueError(f"decay must be in (0.5, 1], got {self.decay}.")
        require_positive("decay_steps", self.decay_steps)

    def factor(self, step: int, steps: int) -> float:
        """See Constant."""
        return float((1 + step / self.decay_steps) ** -self.decay)


@dataclass(frozen=True)
class Cyclical:
    """e_k = (e / 2) (1 + cos(pi k / K)) in step k of a cycle of K steps (Zhang, Li, Zhang, Chen & Wilson, ICLR 2020).

    Each cycle begins with its share of the warm-up, in steps without noise, which find a mode, and draws in the rest.

    Parameters
    ----------
    cycles : how many; must divide the draws and the warm-up.
    """

    cycles: int = 4

    def __post_init__(self) -> None:
        require_integers(self, cycles=1)

    def factor(self, step: int, steps: int) -> float:
        """See Constant."""
        length = steps // self.cycles
        return 0.5 * (1 + math.cos(math.pi * (step % length) / length))


Schedule = Constant | Polynomial | Cyclical
