"""What every sampler is told, and the seeds of its chains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import get_args

import torch

from inference.metric_choice import MetricName
from inference.walked_model import Walk


@dataclass(frozen=True, kw_only=True)
class ChainSettings:
    """What every sampler is told.

    Parameters
    ----------
    chains : how many, side by side.
    draws : kept from each chain.
    warmup : steps before the first kept draw.
    thin : steps from one kept draw to the next.
    temperature : of the whole joint; 1 is the posterior.
    metric : the coordinates in which the chains walk, from the curvature at their starts: see build_metric.
    parametrization : of a network's residual layers, in which the chains walk: "given", "residual", "collapsed", or
        "auto", the one with the smaller condition number. The draws come back in the model's own, exactly.
    """

    chains: int = 4
    draws: int = 1000
    warmup: int = 1000
    thin: int = 1
    temperature: float = 1.0
    metric: MetricName | None = "identity"
    parametrization: Walk = "given"

    def __post_init__(self) -> None:
        for name, least in (("chains", 1), ("draws", 1), ("warmup", 0), ("thin", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")
        require_positive("temperature", self.temperature)
        if self.metric is not None and self.metric not in get_args(MetricName):
            raise ValueError(f"metric must be one of {', '.join(get_args(MetricName))}, got {self.metric!r}.")
        if self.parametrization not in get_args(Walk):
            raise ValueError(
                f"parametrization must be one of {', '.join(get_args(Walk))}, got {self.parametrization!r}."
            )

    @property
    def steps(self) -> int:
        """All steps of a chain."""
        return self.warmup + self.draws * self.thin

    def keeps(self, step: int) -> bool:
        """Whether the position after a step (counted from 0) is a draw."""
        return step >= self.warmup and (step - self.warmup + 1) % self.thin == 0


def require_positive(name: str, value: float) -> None:
    """ValueError unless a setting is positive and finite, TypeError unless it is a number."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be positive and finite, got {value}.")


def chain_seeds(seed: int, chains: int) -> list[tuple[int, int]]:
    """Two seeds for each chain, for its start and for its noise; more chains begin with those of fewer."""
    pairs = torch.randint(2**62, (chains, 2), generator=torch.Generator().manual_seed(seed))
    return [(start, noise) for start, noise in pairs.tolist()]
