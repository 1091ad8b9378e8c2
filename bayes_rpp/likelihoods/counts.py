"""Counts."""

from __future__ import annotations

from dataclasses import dataclass

import pyro.distributions as dist
import torch
from jaxtyping import Float, Num
from torch import Tensor

from bayes_rpp.likelihoods.likelihood import Likelihood, check_width
from bayes_rpp.types import Params


@dataclass(frozen=True)
class Poisson(Likelihood):
    """y ~ Poisson(exp(f(x))) for counts y = 0, 1, 2, ..., independently over outputs, with the outputs as log rates.

    y has the shape (batch, outputs), and holds whole numbers of any type. Mean and variance of the predictive are those
    of y. The mean is that of exp(f) over the draws: where a Gaussian approximates the posterior, single draws with a
    large f can dominate it.

    Examples
    --------
    >>> Poisson().log_prob(torch.zeros(2, 1), torch.tensor([[0], [3]]), {})
    tensor([-1.0000, -2.7918])
    """

    def distribution(self, output: Float[Tensor, "batch *outputs"], params: Params) -> dist.Distribution:
        """See Likelihood."""
        return dist.Poisson(output.exp()).to_event(output.ndim - 1)

    def log_prob(
        self, output: Float[Tensor, "batch *outputs"], y: Num[Tensor, "batch *outputs"], params: Params
    ) -> Float[Tensor, " batch"]:
        """log p = y (d - (e^d - 1)) - r(y) with d = f - log y, or -e^f for y = 0; r is what log y! exceeds y log y - y
        by. The usual sum y f - e^f - log y! would lose whole nats of large counts in single precision.
        """
        exact = y.to(torch.float64 if output.device.type != "mps" else torch.float32)
        remainder = (torch.lgamma(exact + 1) - torch.xlogy(exact, exact) + exact).to(output)
        excess = output - exact.clamp_min(1).log().to(output)
        counted = exact.to(output) * (excess - torch.expm1(excess))
        return (torch.where(y > 0, counted, -output.exp()) - remainder).flatten(1).sum(1)

    def check(self, y: Tensor, num_outputs: int) -> None:
        """See Likelihood."""
        check_width(y, num_outputs)
        wrong = (y < 0) | (y != y.floor()) if y.is_floating_point() else y < 0
        if wrong.any():
            raise ValueError(f"a Poisson likelihood needs counts 0, 1, 2, ... as y, got {y[wrong][0].item()}.")
