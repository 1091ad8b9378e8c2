"""A transition kernel of many chains, and its state.

A state is a NamedTuple: its ``chains`` is a NamedTuple of what each chain has of its own, and all other fields are
shared. Their fields in turn are tensors, NamedTuples, or None.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inference.compilation import Compile, check_compile
from inference.metrics.preconditioned import PreconditionedDensity
from inference.sampling.random_streams import ChainRandom
from inference.sampling.settings import ChainSettings

Statistics = dict[str, Float[Tensor, " chain"]]


class State(Protocol):
    """The state of all chains: a NamedTuple."""

    @property
    def chains(self) -> Any:
        """``position``, preconditioned, (chain, size), and other tensors with the chains in their first dimension."""


S = TypeVar("S", bound=State)


@dataclass(frozen=True)
class Kernel(ChainSettings, ABC, Generic[S]):
    """A transition of all chains at once, with the settings of their run.

    Parameters
    ----------
    compile : whether to compile the gradient, see DeepEnsemble.
    """

    compile: Compile = field(default="auto", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_compile(self.compile)

    @property
    def gradients_per_step(self) -> int:
        """How many gradients of all chains a step takes, about."""
        return 1

    @abstractmethod
    def begin(self, preconditioned: PreconditionedDensity, u: Float[Tensor, "chain size"], random: ChainRandom) -> S:
        """The state at the start."""

    @abstractmethod
    def advance(
        self, preconditioned: PreconditionedDensity, state: S, random: ChainRandom, step: int
    ) -> tuple[S, Statistics]:
        """The state after a step, counted from 0, and the statistics of the step, by ArviZ's names for sample_stats."""

    def resume(self, preconditioned: PreconditionedDensity, state: S) -> None:
        """Give the density the metric that belongs to a state, if it was adapted."""

    @property
    def minibatch(self) -> int | None:
        """Examples a step; None takes all."""
        return None

    @abstractmethod
    def advice(self) -> str:
        """What to do about chains that diverged."""

    def summary(self, state: S) -> dict[str, Any]:
        """What the sampler adds to the posterior's ``stats``."""
        return {}


T = TypeVar("T")


def where(mask: Bool[Tensor, " chain"], new: T, old: T) -> T:
    """The new fields for the chains of a mask, and the old ones for the others."""
    if isinstance(new, Tensor):
        assert isinstance(old, Tensor)
        return torch.where(mask.reshape(-1, *[1] * (new.ndim - 1)), new, old)  # type: ignore[return-value]
    assert isinstance(new, tuple)
    assert isinstance(old, tuple)
    return type(new)(*(where(mask, *pair) for pair in zip(new, old, strict=True)))


def named_tensors(state: Any, name: str) -> dict[str, Tensor]:
    """Every tensor of a state, by the path of its field."""
    if state is None:
        return {}
    if isinstance(state, Tensor):
        return {name: state}
    parts = (named_tensors(value, f"{name}/{field}") for field, value in state._asdict().items())
    return {path: tensor for part in parts for path, tensor in part.items()}


def with_tensors(state: T, name: str, tensors: dict[str, Tensor], device: torch.device) -> T:
    """The state of the same type whose named tensors are these; fields that have none are None."""
    if isinstance(state, tuple):
        fields = state._asdict().items()  # type: ignore[attr-defined]
        return type(state)(*(with_tensors(value, f"{name}/{field}", tensors, device) for field, value in fields))
    if (found := tensors.get(name)) is None:
        return None  # type: ignore[return-value]
    return found.to(state.device if isinstance(state, Tensor) else device)  # type: ignore[return-value]
