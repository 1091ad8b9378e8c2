"""Noise with heavier tails than a Gaussian's, for data with outliers."""

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

_SCALE = "noise_scale"
_SPREAD = 1.0  # in the logarithm of a scale: that of a Gaussian's variance is twice as much


@dataclass(frozen=True, repr=False)
class LaplaceNoise(NoiseAroundOutput):
    """y ~ Laplace(f(x), b), independently over outputs, with the scale b known or learned: the error counts by its
    absolute value, and f(x) is the median of y.

        p(y | f) = exp(-|y - f| / b) / 2b,    variance 2 b^2

    The log density has kinks, and no curvature between them. The Gauss-Newton matrix takes the Fisher information of f,
    1 / b^2 (Lehmann & Casella, Theory of Point Estimation, 1998, section 2.5), which is the curvature of the expected
    log density. Modes often lie at kinks, where the gradient jumps: samplers suit this likelihood better than Laplace
    approximations.

    Parameters
    ----------
    scale : b, in units of y: a number, or one for each output. Where it is learned, its initial value and the median of
        its prior. The parameter of the model is called "noise_scale".
    learned : learn b with the network's parameters, under a log-normal prior with median ``scale`` and a scale of 1 in
        log b.
    per_output : learn one scale for each output, from a single number, rather than a shared one.
    floor : the least scale that is learned; it keeps the joint density bounded.

    Raises
    ------
    ValueError, TypeError
        As Gaussian.

    Examples
    --------
    >>> LaplaceNoise(0.5).log_prob(torch.zeros(2, 1), torch.tensor([[0.0], [1.0]]), {})
    tensor([ 0., -2.])
    """

    scale: float | tuple[float, ...]
    learned: bool = False
    per_output: bool = False
    floor: float = 1e-3

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", plain_numbers("scale", self.scale))
        _ = self.noise_parameter  # raises

    @cached_property
    def noise_parameter(self) -> NoiseParameter:
        """The scale."""
        return NoiseParameter("scale", _SCALE, self.scale, self.learned, self.per_output, self.floor, _SPREAD)

    def distribution(self, output: Float[Tensor, "batch *outputs"], params: Params) -> dist.Distribution:
        """See Likelihood."""
        return dist.Laplace(output, self.noise(params, output)).to_event(output.ndim - 1)

    def log_prob(
        self, output: Float[Tensor, "batch *outputs"], y: Float[Tensor, "batch *outputs"], params: Params
    ) -> Float[Tensor, " batch"]:
        """See Likelihood."""
        scale = self.noise(params, output)
        return -((y - output).abs() / scale + (2 * scale).log()).flatten(1).sum(1)

    def output_curvature(
        self, output: Float[Tensor, "batch *outputs"], y: Tensor, params: Params
    ) -> Float[Tensor, "batch size size"]:
        """The Fisher information, see Likelihood."""
        return diagonal_curvature(self.noise(params, output) ** -2, output)


@dataclass(frozen=True, repr=False)
class StudentT(NoiseAroundOutput):
    """y = f(x) + s t, independently over outputs, with t of Student's distribution, and the scale s known or learned.

        p(y | f) ~ (1 + (y - f)^2 / (nu s^2))^(-(nu + 1) / 2),    variance s^2 nu / (nu - 2)

    The log density is not concave. The Gauss-Newton matrix takes the Fisher information of f, (nu + 1) / ((nu + 3) s^2)
    (Lange, Little & Taylor, JASA 1989).

    Parameters
    ----------
    degrees_of_freedom : nu, known; 4 is a usual choice for outliers. Up to 2 the variance of y is infinite, and so is
        that of ``predict``; up to 1 y has no mean, and ``predict`` refuses.
    scale : s, in units of y; it, ``learned``, ``per_output`` and ``floor`` are as those of LaplaceNoise.

    Raises
    ------
    ValueError, TypeError
        If degrees_of_freedom is not positive and finite, and as Gaussian.

    Examples
    --------
    >>> StudentT(4.0, scale=0.5).distribution(torch.zeros(2, 1), {}).variance
    tensor([[0.5000],
            [0.5000]])
    """

    degrees_of_freedom: float
    scale: float | tuple[float, ...]
    learned: bool = False
    per_output: bool = False
    floor: float = 1e-3

    def __post_init__(self) -> None:
        object.__setattr__(self, "degrees_of_freedom", float(self.degrees_of_freedom))
        if not 0 < self.degrees_of_freedom < math.inf:
            raise ValueError(f"degrees_of_freedom must be positive and finite, got {self.degrees_of_freedom}.")
        object.__setattr__(self, "scale", plain_numbers("scale", self.scale))
        _ = self.noise_parameter  # raises

    @cached_property
    def noise_parameter(self) -> NoiseParameter:
        """The scale."""
        return NoiseParameter("scale", _SCALE, self.scale, self.learned, self.per_output, self.floor, _SPREAD)

    def distribution(self, output: Float[Tensor, "batch *outputs"], params: Params) -> dist.Distribution:
        """See Likelihood."""
        scale = self.noise(params, output)
        return dist.StudentT(output.new_tensor(self.degrees_of_freedom), output, scale).to_event(output.ndim - 1)

    def log_prob(
        self, output: Float[Tensor, "batch *outputs"], y: Float[Tensor, "batch *outputs"], params: Params
    ) -> Float[Tensor, " batch"]:
        """See Likelihood."""
        nu, scale = self.degrees_of_freedom, self.noise(params, output)
        constant = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - 0.5 * math.log(nu * math.pi)
        tails = 0.5 * (nu + 1) * (((y - output) / scale).square() / nu).log1p()
        return (constant - scale.log() - tails).flatten(1).sum(1)

    def output_curvature(
        self, output: Float[Tensor, "batch *outputs"], y: Tensor, params: Params
    ) -> Float[Tensor, "batch size size"]:
        """The Fisher information, see Likelihood."""
        nu = self.degrees_of_freedom
        return diagonal_curvature((nu + 1) / (nu + 3) * self.noise(params, output) ** -2, output)
