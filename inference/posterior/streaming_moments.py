"""Mean and variance of draws that come some at a time, and are not kept."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class StreamingMoments:
    """The mean of draws, and the sum of squared distances from it, in float64.

    Blocks of draws are combined by the pairwise formulas of Chan, Golub & LeVeque ("Algorithms for computing the sample
    variance", The American Statistician 1983): with n, m draws, means a, b and scatters S, T,

        mean = a + (b - a) m / (n + m),    scatter = S + T + (b - a)^2 n m / (n + m).

    All of it is taken relative to the first draw, so that a large offset, which all draws share, cancels before
    anything is squared or added up: rounding is that of the draws' scatter, not that of the offset.
    """

    def __init__(self) -> None:
        self.count = 0

    def add(self, block: Float[Tensor, "draw *event"]) -> None:
        """Take in some draws."""
        block = block.double()
        if not self.count:
            self._offset = torch.where(block[0].isfinite(), block[0], 0.0)
            self._mean, self.scatter = torch.zeros_like(self._offset), torch.zeros_like(self._offset)
        block = block - self._offset
        own = block.mean(0)
        scatter = block.sub_(own).square_().sum(0)
        away, total = own - self._mean, self.count + len(block)
        self._mean = self._mean + away * (len(block) / total)
        self.scatter = self.scatter + scatter + away.square() * (self.count * len(block) / total)
        self.count = total

    @property
    def mean(self) -> Float[Tensor, "*event"]:
        """Over all draws so far."""
        return self._offset + self._mean

    @property
    def variance(self) -> Float[Tensor, "*event"]:
        """The mean squared distance from the mean."""
        return self.scatter / self.count
