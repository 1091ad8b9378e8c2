"""The state of many chains, and what a run asks of the sampler that moves them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from inference.metrics.preconditioned import PreconditionedDensity
from inference.sampling.random_streams import ChainRandom


@dataclass
class State:
    """Where all chains are.

    Attributes
    ----------
    chains : what each chain has of its own, name -> (chain, ...): ``position`` and what a sampler carries along.
    shared : what all chains share, such as an adapted step size.
    """

    chains: dict[str, Tensor]
    shared: dict[str, Tensor]

    @property
    def position(self) -> Float[Tensor, "chain size"]:
        """In the coordinates of the space."""
        return self.chains["position"]

    def only_where(self, alive: Tensor, before: State) -> State:
        """This state for the chains that go on, and an earlier one for the others."""

        def choose(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(alive.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        return State(
            {name: choose(value, before.chains.get(name, value)) for name, value in self.chains.items()}, self.shared
        )


class Kernel(Protocol):
    """A transition of all chains, with the settings of their run."""

    @property
    def chains(self) -> int: ...  # noqa: D102
    @property
    def draws(self) -> int: ...  # noqa: D102
    @property
    def steps(self) -> int: ...  # noqa: D102

    def keeps(self, step: int) -> bool:
        """Whether the position after a step, counted from 0, is a draw."""

    def begin(
        self, preconditioned: PreconditionedDensity, u: Float[Tensor, "chain size"], random: ChainRandom
    ) -> State:
        """The state at the start."""

    def advance(self, preconditioned: PreconditionedDensity, state: State, random: ChainRandom, step: int) -> State:
        """The state after a step, counted from 0."""

    def statistics(self, state: State, step: int) -> dict[str, Float[Tensor, " chain"]]:
        """What is kept with a draw, by ArviZ's names for sample_stats."""
