"""Draws of a model's parameters, with what was recorded of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from jaxtyping import Float
from torch import Tensor

from bayes_rpp import BayesianModel
from bayes_rpp.types import Params
from inference.data import Model, Pair


@dataclass(frozen=True, repr=False)
class Snapshot:
    """The state of every chain before a given epoch of training."""

    epoch: int
    samples: Params

    def __repr__(self) -> str:
        values = next(iter(self.samples.values()))
        return f"Snapshot(epoch {self.epoch}: {len(values)} chain(s), {len(self.samples)} tensors)"


D = TypeVar("D", bound="Draws")


def uninterrupted(posterior: D) -> D:
    """The posterior, unless an interrupt ended its run early: then KeyboardInterrupt goes on, since what is computed
    from half a run would pass for the result of a whole one.
    """
    if posterior.interrupted:
        raise KeyboardInterrupt
    return posterior


@dataclass
class Draws:
    """The fields of a ``Posterior``."""

    model: Model | None
    samples: Params
    stats: dict[str, Any] = field(default_factory=dict)
    history: list[Snapshot] = field(default_factory=list)
    data: Pair | None = None
    sample_stats: dict[str, Tensor] = field(default_factory=dict)
    partial: list[Self] = field(default_factory=list)

    def __repr__(self) -> str:
        parameters = sum(value[0, 0].numel() for value in self.samples.values())
        engine = self.stats.get("engine", "unknown engine")
        lost = f"; {len(self.partial)} chain{'s' * (len(self.partial) > 1)} diverged" if self.partial else ""
        lost += "; interrupted" if self.interrupted else ""
        draws = f"{self.chains} chain(s) x {self.draws} draw(s), {parameters:,} parameters{lost}"
        of = "" if self.model is None else f"\n  of {self.model!r}"
        return f"Posterior({engine}: {draws}){of}"

    @property
    def chains(self) -> int:
        """The number of chains."""
        return len(next(iter(self.samples.values())))

    @property
    def draws(self) -> int:
        """The number of draws of each chain."""
        return next(iter(self.samples.values())).shape[1]

    @property
    def flat_samples(self) -> Params:
        """The draws of all chains one after another, name -> (chain * draw, *shape)."""
        return {name: value.flatten(0, 1) for name, value in self.samples.items()}

    def values(self, name: str) -> Float[Tensor, "chain draw *shape"]:
        """The draws of a parameter, or the value of a frozen one in every draw."""
        if name in self.samples:
            return self.samples[name]
        frozen = self.bayesian_model.frozen[name]
        return frozen.expand(self.chains, self.draws, *frozen.shape)

    @property
    def interrupted(self) -> bool:
        """Whether an interrupt (Ctrl-C) ended the engine's run early."""
        return bool(self.stats.get("interrupted"))

    @property
    def bayesian_model(self) -> BayesianModel:
        """The model, if it is a network with a prior and a likelihood; otherwise raises TypeError."""
        if not isinstance(self.model, BayesianModel):
            hint = "; pass model= to Posterior.load" if self.model is None else ""
            raise TypeError(f"this needs a posterior of a BayesianModel, but its model is {self.model!r}{hint}.")
        return self.model
