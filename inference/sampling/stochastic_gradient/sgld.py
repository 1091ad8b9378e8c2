"""SGLD: stochastic gradient Langevin dynamics.

    theta <- theta - e grad U(theta) + sqrt(2 e) xi,    xi ~ N(0, I)

U is the negative log joint of all data, divided by the temperature; a minibatch's log likelihood counts N / batch times
(Welling & Teh, ICML 2011, whose step size is 2 e). At a constant step e and precision l the stationary variance is
1 / (l (1 - e l / 2)), and the chain is stable for e l < 2; a minibatch adds its gradient noise to that.

The cyclical schedule, e_k = (e / 2) (1 + cos(pi k / K)) within a cycle of K steps, starts each cycle with steps without
noise, which find a mode, and draws in the rest of it (Zhang, Li, Zhang, Chen & Wilson, ICLR 2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from inference.metrics.preconditioned import PreconditionedDensity
from inference.sampling.kernel import State
from inference.sampling.random_streams import ChainRandom
from inference.sampling.stochastic_gradient.minibatch_gradient import StochasticGradientSampler
from inference.settings import require_integers, require_positive


@dataclass(frozen=True)
class SGLD(StochasticGradientSampler):
    """Stochastic gradient Langevin dynamics, many chains at once.

    Parameters
    ----------
    step_size : e; the first one, where a schedule lowers it.
    batch_size : examples a step; None takes all.
    schedule : "constant"; "polynomial", e (1 + k / decay_steps)^-decay in step k; or "cyclical". The draws of the last
        two are not weighted; ``sample_stats`` has each draw's step size.
    decay : the exponent of the polynomial schedule, in (0.5, 1].
    decay_steps : the steps after which the polynomial schedule begins to fall like k^-decay.
    cycles : of the cyclical schedule. Each has its share of the warm-up, without noise, and of the draws; cycles must
        divide both.
    chains, draws, warmup, thin, temperature, metric : see StochasticGradientSampler.

    Examples
    --------
    >>> posterior = SGLD(step_size=1e-5, batch_size=100).fit(model, data.train, seed=0)
    """

    schedule: Literal["constant", "polynomial", "cyclical"] = "constant"
    decay: float = 0.55
    decay_steps: float = 1000.0
    cycles: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule not in ("constant", "polynomial", "cyclical"):
            raise ValueError(f"schedule must be 'constant', 'polynomial' or 'cyclical', got {self.schedule!r}.")
        if not 0.5 < self.decay <= 1:
            raise ValueError(f"decay must be in (0.5, 1], got {self.decay}.")
        require_positive("decay_steps", self.decay_steps)
        require_integers(self, cycles=1)
        if self.schedule == "cyclical" and (self.draws % self.cycles or self.warmup % self.cycles):
            raise ValueError(
                f"cycles must divide draws and warmup, got cycles = {self.cycles}, draws = {self.draws}, "
                f"warmup = {self.warmup}."
            )

    def step_size_at(self, step: int) -> float:
        """The step size of a step, counted from 0."""
        if self.schedule == "polynomial":
            return self.step_size * (1 + step / self.decay_steps) ** -self.decay
        if self.schedule == "cyclical":
            length = self.steps // self.cycles
            return self.step_size / 2 * (1 + math.cos(math.pi * (step % length) / length))
        return self.step_size

    def keeps(self, step: int) -> bool:
        """Whether the position after a step (counted from 0) is a draw."""
        if self.schedule != "cyclical":
            return super().keeps(step)
        drawing = step % (self.steps // self.cycles) - self.warmup // self.cycles
        return drawing >= 0 and (drawing + 1) % self.thin == 0

    def explores(self, step: int) -> bool:
        """Whether a step is without noise."""
        return self.schedule == "cyclical" and step % (self.steps // self.cycles) < self.warmup // self.cycles

    def begin(
        self, preconditioned: PreconditionedDensity, u: Float[Tensor, "chain size"], random: ChainRandom
    ) -> State:
        """The positions alone."""
        return State({"position": u}, {})

    def update(
        self,
        chains: dict[str, Tensor],
        gradient: Float[Tensor, "chain size"],
        noise: Float[Tensor, "chain size"],
        step: int,
    ) -> dict[str, Tensor]:
        """One step of the equation above."""
        size = self.step_size_at(step)
        descended = chains["position"] - size * gradient
        return {"position": descended if self.explores(step) else descended + math.sqrt(2 * size) * noise}
