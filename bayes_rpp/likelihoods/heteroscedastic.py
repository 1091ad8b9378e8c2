"""Gaussian noise whose variance is an output of the network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.likelihoods.likelihood import Likelihood, diagonal_curvature
from bayes_rpp.types import Params


@dataclass(frozen=True)
class HeteroscedasticGaussian(Likelihood):
    """y ~ N(mu(x), diag(exp(s(x)))) with the outputs f = (mu, s): the means, and then the log variance of each piece of
    y, which all coordinates of the piece share (Nix & Weigend, ICNN 1994).

    For y of the representation ``rep_y`` with k pieces, the network has ``rep_out = rep_y + k * Scalar``. A scalar
    variance for a whole vector keeps the symmetry: p(g y | g x) = p(y | x) for an equivariant network and orthogonal g.
    With one variance for each of its coordinates this would not hold. Equivariance errors are those of all outputs, of
    means and log variances together.

    The log density is not concave in the outputs. The Gauss-Newton matrix takes their Fisher information, exp(-s) for a
    mean and d / 2 for the log variance of a piece of d coordinates.

    Parameters
    ----------
    pieces : the sizes of the pieces of y, in order: 3 for one vector, or one shared variance of three outputs; (3, 1)
        for a vector and a scalar.

    Raises
    ------
    ValueError
        If a size is not a positive integer.

    Examples
    --------
    >>> net = RPPEMLP(Vector, Vector + Scalar, SO(3), channels=8, layers=1)
    >>> model = BayesianModel(net, RPPPrior(), HeteroscedasticGaussian(3))
    >>> model.log_joint(model.initial_params(seed=0), torch.randn(5, 3), torch.randn(5, 3)).shape
    torch.Size([])
    """

    pieces: int | tuple[int, ...]

    def __post_init__(self) -> None:
        given = (self.pieces,) if isinstance(self.pieces, int) else tuple(self.pieces)
        if not given or not all(isinstance(size, int) and size > 0 and size is not True for size in given):
            raise ValueError(f"pieces must be the sizes of the pieces of y, positive integers, got {self.pieces!r}.")
        object.__setattr__(self, "pieces", given)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the pieces."""
        return (self.pieces,) if isinstance(self.pieces, int) else self.pieces

    def _parts(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """The means, and the log variance of each."""
        mean, logs = output.split([sum(self.sizes), len(self.sizes)], dim=-1)
        parts = [logs[..., k : k + 1].expand(*logs.shape[:-1], size) for k, size in enumerate(self.sizes)]
        return mean, torch.cat(parts, dim=-1)

    def distribution(self, output: Float[Tensor, "batch *outputs"], params: Params) -> dist.Distribution:
        """See Likelihood."""
        mean, logs = self._parts(output)
        return dist.Normal(mean, (0.5 * logs).exp()).to_event(output.ndim - 1)

    def log_prob(
        self, output: Float[Tensor, "batch *outputs"], y: Float[Tensor, "batch *means"], params: Params
    ) -> Float[Tensor, " batch"]:
        """See Likelihood."""
        mean, logs = self._parts(output)
        return -0.5 * ((y - mean).square() * (-logs).exp() + logs + math.log(2 * math.pi)).flatten(1).sum(1)

    def output_curvature(
        self, output: Float[Tensor, "batch *outputs"], y: Tensor, params: Params
    ) -> Float[Tensor, "batch size size"]:
        """The Fisher information, see Likelihood."""
        mean, logs = self._parts(output)
        of_logs = torch.tensor(self.sizes).to(output) / 2
        return diagonal_curvature(torch.cat([(-logs).exp(), of_logs.expand(*mean.shape[:-1], -1)], dim=-1), output)

    def check(self, y: Tensor, num_outputs: int) -> None:
        """See Likelihood."""
        means, variances = sum(self.sizes), len(self.sizes)
        if num_outputs != means + variances:
            raise ValueError(
                f"pieces {self.sizes} of y need {means} means and {variances} log variance(s), {means + variances} "
                f"outputs, but the network has {num_outputs}: give it rep_out = rep_y + {variances} * Scalar."
            )
        if y.ndim < 2 or y.shape[-1] != means:
            raise ValueError(f"y has shape {tuple(y.shape)}, but pieces {self.sizes} are of (batch, {means}).")
        if not y.is_floating_point():
            raise TypeError(f"a HeteroscedasticGaussian likelihood needs floating-point y, got {y.dtype}.")
