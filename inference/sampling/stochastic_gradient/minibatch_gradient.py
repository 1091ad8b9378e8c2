"""The step that all samplers by stochastic gradients share: a gradient of U on a minibatch, and noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from inference.metrics.preconditioned import PreconditionedDensity
from inference.sampling.chain_sampler import ChainSampler
from inference.sampling.kernel import Statistics
from inference.sampling.random_streams import ChainRandom
from inference.settings import require_integers, require_positive

C = TypeVar("C")


class StochasticGradientState(NamedTuple, Generic[C]):
    """The state of chains that share nothing."""

    chains: C


@dataclass(frozen=True)
class StochasticGradientSampler(ChainSampler[StochasticGradientState[C]], ABC, Generic[C]):
    """A sampler whose step takes one (minibatch) gradient of U and one standard normal vector a chain.

    Parameters
    ----------
    step_size : of the update.
    batch_size : examples a step, whose log likelihood counts N / batch_size times; None takes all. Each chain goes
        through the data in its own random order, and shuffles when fewer than a batch are left.
    chains, draws, warmup, thin, temperature, metric, centred : see ChainSettings. With a metric, z = S u, the update is
        that of u: preconditioned by S S^T, with the same stationary distribution as without.
    compile : see DeepEnsemble.
    """

    step_size: float
    batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("step_size", self.step_size)
        if self.batch_size is not None:
            require_integers(self, batch_size=1)

    @abstractmethod
    def update(
        self,
        chains: C,
        gradient: Float[Tensor, "chain size"],
        noise: Float[Tensor, "chain size"],
        step: int,
    ) -> C:
        """The chains after a step, counted from 0; the gradient is that of U at their positions."""

    def step_size_at(self, step: int) -> float:
        """The step size of a step, counted from 0."""
        return self.step_size

    @property
    def minibatch(self) -> int | None:
        """See Kernel."""
        return self.batch_size

    def advance(
        self, preconditioned: PreconditionedDensity, state: StochasticGradientState[C], random: ChainRandom, step: int
    ) -> tuple[StochasticGradientState[C], Statistics]:
        """See Kernel."""
        position: Tensor = state.chains.position  # type: ignore[attr-defined]
        gradient, potential = preconditioned.gradients(position, random.batch())
        # Where U itself is not finite the gradient may still be; the chain must not go on.
        gradient = torch.where(potential.isfinite()[:, None], gradient, torch.nan)
        after = StochasticGradientState(self.update(state.chains, gradient, random.noise(), step))
        return after, {"step_size": position.new_full((len(position),), self.step_size_at(step))}

    def advice(self) -> str:
        """See Kernel."""
        return f"try a smaller step_size than {self.step_size}, or start from a MAP: start=MAP().fit(...)."

    def summary(self, state: StochasticGradientState[C]) -> dict[str, Any]:
        """See Kernel."""
        return {"step_size": self.step_size}
