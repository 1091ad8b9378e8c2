"""SGHMC: stochastic gradient Hamiltonian Monte Carlo, by a BAOA splitting of Langevin dynamics.

    B   v     <- v - h grad U(theta)
    A   theta <- theta + (h / 2) v
    O   v     <- exp(-f h) v + sqrt(1 - exp(-2 f h)) xi,    xi ~ N(0, I)
    A   theta <- theta + (h / 2) v

U is the negative log joint of all data, divided by the temperature; a minibatch's log likelihood counts N / batch times
(Chen, Fox & Guestrin, ICML 2014). The mass is one, f the friction. The Euler step published there loses the stationary
distribution where precisions are large; this splitting (Leimkuhler & Matthews, Applied Mathematics Research eXpress
2013) gives a Gaussian of precision l its exact variance for every friction, as long as h^2 l < 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from inference.metrics.preconditioned import PreconditionedDensity
from inference.sampling.random_streams import ChainRandom
from inference.sampling.stochastic_gradient.minibatch_gradient import (
    StochasticGradientSampler,
    StochasticGradientState,
)
from inference.settings import require_positive


class SGHMCChains(NamedTuple):
    """The positions theta and the velocities v of all chains."""

    position: Float[Tensor, "chain size"]
    velocity: Float[Tensor, "chain size"]


@dataclass(frozen=True)
class SGHMC(StochasticGradientSampler[SGHMCChains]):
    """Stochastic gradient Hamiltonian Monte Carlo, many chains at once.

    Parameters
    ----------
    step_size : h. SGLD with e = h^2 / 2 moves about as far in a step.
    batch_size : examples a step; None takes all.
    friction : f, in units of 1 / h's: momentum is forgotten in about 1 / (f h) steps.
    chains, draws, warmup, thin, temperature, metric, compile : see StochasticGradientSampler.

    Examples
    --------
    >>> posterior = SGHMC(step_size=1e-3, friction=10.0, batch_size=100).fit(model, data.train, seed=0)
    """

    friction: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("friction", self.friction)

    def begin(
        self, preconditioned: PreconditionedDensity, u: Float[Tensor, "chain size"], random: ChainRandom
    ) -> StochasticGradientState[SGHMCChains]:
        """Positions and velocities, these from their stationary distribution."""
        return StochasticGradientState(SGHMCChains(u, random.noise().clone()))

    def update(
        self,
        chains: SGHMCChains,
        gradient: Float[Tensor, "chain size"],
        noise: Float[Tensor, "chain size"],
        step: int,
    ) -> SGHMCChains:
        """One step of the equations above."""
        h, keep = self.step_size, math.exp(-self.friction * self.step_size)
        v = chains.velocity - h * gradient
        z = chains.position + h / 2 * v
        v = keep * v + math.sqrt(-math.expm1(-2 * self.friction * h)) * noise
        return SGHMCChains(z + h / 2 * v, v)
