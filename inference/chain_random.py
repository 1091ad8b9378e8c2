"""The random numbers of chains that run side by side."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from inference.data import Pair
from inference.target import Target

NOISE_BLOCK = 2**16  # numbers of one chain's noise that are drawn in one call


class ChainRandom:
    """Each chain's noise and minibatches, from its own generator."""

    def __init__(self, target: Target, seeds: list[int], batch_size: int | None) -> None:
        self.generators = [torch.Generator(target.device).manual_seed(seed) for seed in seeds]
        block = max(1, min(64, NOISE_BLOCK // max(target.size, 1)))
        self._noise = torch.empty(len(seeds), block, target.size, dtype=target.dtype, device=target.device)
        self._used, self._position = block, target.num_data
        self._orders = torch.empty(0)
        self.pair, self.batch_size = target.pair, batch_size

    def noise(self) -> Float[Tensor, "chain size"]:
        """Standard normal numbers, valid until the next call."""
        if self._used == self._noise.shape[1]:
            for block, generator in zip(self._noise, self.generators, strict=True):
                block.normal_(generator=generator)
            self._used = 0
        self._used += 1
        return self._noise[:, self._used - 1]

    def batch(self) -> Pair | None:
        """A minibatch for each chain; None for all data."""
        if self.pair is None or self.batch_size is None:
            return None
        x, y = self.pair
        if self._position + self.batch_size > len(x):
            self._orders = torch.stack([torch.randperm(len(x), generator=g, device=g.device) for g in self.generators])
            self._position = 0
        index = self._orders[:, self._position : self._position + self.batch_size]
        self._position += self.batch_size
        return x[index], y[index]
