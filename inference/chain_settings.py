"""What every sampler is told, and the seeds of its chains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, get_args

import torch

from inference.metric_choice import MetricName
from inference.walked_model import Walk

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


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
        "auto", the one with the smaller condition number. The draws come back in the model's own, exactly. At a
        temperature other than 1 the two are different laws if variances of residual layers have hyperpriors: then only
        the given one is walked in.
    centred : of a model with hyperpriors, whether the chains walk in the weights, or in the weights over the standard
        deviations that they have given the variances, see NonCentredTarget: better where the data say little about
        the weights. The draws are of the weights themselves, either way.
    """

    chains: int = 4
    draws: int = 1000
    warmup: int = 1000
    thin: int = 1
    temperature: float = 1.0
    metric: MetricName | None = "identity"
    parametrization: Walk = "given"
    centred: bool = True

    def __post_init__(self) -> None:
        require_integers(self, chains=1, draws=1, warmup=0, thin=1)
        require_positive("temperature", self.temperature)
        if not isinstance(self.centred, bool):
            raise TypeError(f"centred must be True or False, got {self.centred!r}.")
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


def require_integers(settings: DataclassInstance, **least: int) -> None:
    """ValueError unless these settings, by name, are integers of at least so much. They become plain ints, since they
    are saved as they are.
    """
    for name, smallest in least.items():
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < smallest:
            raise ValueError(f"{name} must be an integer of at least {smallest}, got {value!r}.")
        object.__setattr__(settings, name, int(value))


def require_positive(name: str, value: float) -> None:
    """ValueError unless a setting is positive and finite, TypeError unless it is a number."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be positive and finite, got {value}.")


def plain_seed(seed: int) -> int:
    """A seed as a plain int, since it is saved as it is; TypeError unless it is an integer of some kind."""
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise TypeError(f"seed must be an integer, got {seed!r}.")
    return int(seed)


def chain_seeds(seed: int, chains: int) -> list[tuple[int, int]]:
    """Two seeds for each chain, for its start and for its noise; more chains begin with those of fewer. TypeError if
    the seed is no integer.
    """
    pairs = torch.randint(2**62, (chains, 2), generator=torch.Generator().manual_seed(plain_seed(seed)))
    return [(start, noise) for start, noise in pairs.tolist()]
