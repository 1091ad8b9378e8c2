"""Gaussian noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import pyro.distributions as dist
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.likelihoods.likelihood import diagonal_curvature
from bayes_rpp.likelihoods.noise import NoiseAroundOutput, NoiseParameter, plain_numbers
from bayes_rpp.types import Params

NOISE = "noise_variance"


@dataclass(frozen=True, repr=False)
class Gaussian(NoiseAroundOutput):
    """y ~ N(f(x), v I), independently over outputs, with the noise variance v known or learned.

    Parameters
    ----------
    noise_variance : v, in squared units of y: a number, or one for each output. Where it is learned, its initial value
        and the median of its prior.
    learned : learn v with the network's parameters, under a log-normal prior with median ``noise_variance`` and a scale
        of 2 in log v.
    per_output : learn one variance for each output, from a single number, rather than a shared one.
    floor : the least variance that is learned; it keeps the joint density bounded.

    Raises
    ------
    ValueError
        If noise_variance or floor is not positive, noise_variance does not exceed the floor, or a known variance is to
        be per_output without one number for each.
    TypeError
        If noise_variance is no number and no sequence of numbers.

    Examples
    --------
    >>> Gaussian(noise_variance=0.2)
    Gaussian(noise_variance=0.2, learned=False, per_output=False, floor=1e-06)
    """

    noise_variance: float | tuple[float, ...]
    learned: bool = False
    per_output: bool = False
    floor: float = 1e-6

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise_variance", plain_numbers(NOISE, self.noise_variance))
        _ = self.noise_parameter  # raises

    @cached_property
    def noise_parameter(self) -> NoiseParameter:
        """The noise variance."""
        return NoiseParameter(NOISE, NOISE, self.noise_variance, self.learned, self.per_output, self.floor, 2.0)

    @property
    def gaussian(self) -> Gaussian:
        """Itself."""
        return self

    def distribution(self, output: Float[Tensor, "batch *outputs"], params: Params) -> dist.Distribution:
        """See Likelihood."""
        return dist.Normal(output, self.noise(params, output).sqrt()).to_event(output.ndim - 1)

    def log_prob(
        self, output: Float[Tensor, "batch *outputs"], y: Float[Tensor, "batch *outputs"], params: Params
    ) -> Float[Tensor, " batch"]:
        """See Likelihood."""
        noise = self.noise(params, output)
        log_density = -0.5 * ((y - output).square() / noise + noise.log() + math.log(2 * math.pi))
        return log_density.flatten(1).sum(1)

    def output_curvature(
        self, output: Float[Tensor, "batch *outputs"], y: Tensor, params: Params
    ) -> Float[Tensor, "batch size size"]:
        """The Hessian, I / v, see Likelihood: automatic differentiation takes a hundred times as long."""
        return diagonal_curvature(1 / self.noise(params, output), output)
