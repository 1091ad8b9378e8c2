"""Settings shared by all samplers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from inference.curvature.names import MetricName
from inference.settings import require_integers, require_positive

ParametrizationChoice = Literal["given", "residual", "collapsed", "auto"]


@dataclass(frozen=True, kw_only=True)
class ChainSettings:
    """How many chains and draws, and the coordinates of the chains.

    Parameters
    ----------
    chains : how many, side by side.
    draws : kept from each chain.
    warmup : steps before the first kept draw.
    thin : steps from one kept draw to the next.
    temperature : of the whole joint; 1 is the posterior.
    metric : of the coordinates that are sampled, from the curvature at the starts of the chains: see build_metric.
    parametrization : of a network's residual layers, in which the chains sample: "given", "residual", "collapsed", or
        "auto", the one with the smaller condition number. The draws are converted to the model's own, exactly. At a
        temperature other than 1 the two are different distributions if variances of residual layers have hyperpriors:
        then only the given one is sampled.
    centred : of a model with hyperpriors, whether the coordinates are the weights, or the weights over the standard
        deviations that they have given the variances, see NonCentredDensity: better where the data say little about
        the weights. The draws are of the weights themselves, either way.
    """

    chains: int = 4
    draws: int = 1000
    warmup: int = 1000
    thin: int = 1
    temperature: float = 1.0
    metric: MetricName | None = "identity"
    parametrization: ParametrizationChoice = "given"
    centred: bool = True

    def __post_init__(self) -> None:
        require_integers(self, chains=1, draws=1, warmup=0, thin=1)
        require_positive("temperature", self.temperature)
        if not isinstance(self.centred, bool):
            raise TypeError(f"centred must be True or False, got {self.centred!r}.")
        if self.metric is not None and self.metric not in get_args(MetricName):
            raise ValueError(f"metric must be one of {', '.join(get_args(MetricName))}, got {self.metric!r}.")
        if self.parametrization not in get_args(ParametrizationChoice):
            known = ", ".join(get_args(ParametrizationChoice))
            raise ValueError(f"parametrization must be one of {known}, got {self.parametrization!r}.")

    @property
    def steps(self) -> int:
        """All steps of a chain."""
        return self.warmup + self.draws * self.thin

    def keeps(self, step: int) -> bool:
        """Whether the position after a step (counted from 0) is a draw."""
        return step >= self.warmup and (step - self.warmup + 1) % self.thin == 0
