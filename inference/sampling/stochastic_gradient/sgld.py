"""SGLD: stochastic gradient Langevin dynamics.

    theta <- theta - e grad U(theta) + sqrt(2 e) xi,    xi ~ N(0, I)

U is the negative log joint of all data, divided by the temperature; a minibatch's log likelihood counts N / batch times
(Welling & Teh, ICML 2011, whose step size is 2 e). At a constant step e and precision l the stationary variance is
1 / (l (1 - e l / 2)), and the chain is stable for e l < 2; a minibatch adds its gradient noise to that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, get_args

from jaxtyping import Float
from torch import Tensor

from inference.metrics.preconditioned import PreconditionedDensity
from inference.sampling.random_streams import ChainRandom
from inference.sampling.stochastic_gradient.minibatch_gradient import (
    StochasticGradientSampler,
    StochasticGradientState,
)
from inference.sampling.stochastic_gradient.schedules import Constant, Cyclical, Schedule


class SGLDChains(NamedTuple):
    """The positions theta of all chains."""

    position: Float[Tensor, "chain size"]


@dataclass(frozen=True)
class SGLD(StochasticGradientSampler[SGLDChains]):
    """Stochastic gradient Langevin dynamics, many chains at once.

    Parameters
    ----------
    step_size : e; the first one, where a schedule lowers it.
    batch_size : examples a step; None takes all.
    schedule : Constant(), Polynomial(...) or Cyclical(...). The draws of the last two are not weighted;
        ``sample_stats`` has each draw's step size.
    chains, draws, warmup, thin, temperature, metric, compile : see StochasticGradientSampler.

    Examples
    --------
    >>> posterior = SGLD(step_size=1e-5, batch_size=100).fit(model, data.train, seed=0)
    >>> cyclical = SGLD(step_size=1e-5, batch_size=100, schedule=Cyclical(cycles=5))
    """

    schedule: Schedule = Constant()  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.schedule, get_args(Schedule)):
            raise TypeError(f"schedule must be Constant(), Polynomial(...) or Cyclical(...), got {self.schedule!r}.")
        if self.draws % self._cycles or self.warmup % self._cycles:
            raise ValueError(
                f"cycles must divide draws and warmup, got cycles = {self._cycles}, draws = {self.draws}, "
                f"warmup = {self.warmup}."
            )

    @property
    def _cycles(self) -> int:
        return self.schedule.cycles if isinstance(self.schedule, Cyclical) else 1

    def step_size_at(self, step: int) -> float:
        """See StochasticGradientSampler."""
        return self.step_size * self.schedule.factor(step, self.steps)

    def keeps(self, step: int) -> bool:
        """Whether the position after a step, counted from 0, is a draw. Each cycle begins with part of the warm-up."""
        drawing = step % (self.steps // self._cycles) - self.warmup // self._cycles
        return drawing >= 0 and (drawing + 1) % self.thin == 0

    def explores(self, step: int) -> bool:
        """Whether a step is without noise."""
        in_warmup = step % (self.steps // self._cycles) < self.warmup // self._cycles
        return isinstance(self.schedule, Cyclical) and in_warmup

    def begin(
        self, preconditioned: PreconditionedDensity, u: Float[Tensor, "chain size"], random: ChainRandom
    ) -> StochasticGradientState[SGLDChains]:
        """See Kernel."""
        return StochasticGradientState(SGLDChains(u))

    def update(
        self,
        chains: SGLDChains,
        gradient: Float[Tensor, "chain size"],
        noise: Float[Tensor, "chain size"],
        step: int,
    ) -> SGLDChains:
        """One step of the equation above."""
        size = self.step_size_at(step)
        descended = chains.position - size * gradient
        return SGLDChains(descended if self.explores(step) else descended + math.sqrt(2 * size) * noise)
