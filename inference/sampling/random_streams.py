"""The random numbers of chains that run side by side."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.seeding import seeded_generator
from inference.data import Pair
from inference.density.unconstrained import UnconstrainedDensity

NOISE_BLOCK = 2**16  # numbers of one chain's noise that are drawn in one call


class ChainRandom:
    """Each chain's noise, and its choices (minibatches, acceptances), from two generators of its own."""

    def __init__(self, density: UnconstrainedDensity, seeds: list[int], batch_size: int | None) -> None:
        self.pair, self.batch_size, device = density.pair, batch_size, density.device
        self._noisy = [seeded_generator(seed, device) for seed in seeds]
        self._choosing = [seeded_generator(seed + 1, device) for seed in seeds]
        block = max(1, min(64, NOISE_BLOCK // max(density.size, 1)))
        self._noise = torch.empty(len(seeds), block, density.size, dtype=density.dtype, device=device)
        self._used, self._position = 0, density.num_data
        self._orders = torch.empty(0, dtype=torch.long, device=device)
        self._choices = _states(self._choosing)
        self._fill()

    def noise(self) -> Float[Tensor, "chain size"]:
        """Standard normal numbers, valid until the next call."""
        if self._used == self._noise.shape[1]:
            self._fill()
            self._used = 0
        self._used += 1
        return self._noise[:, self._used - 1]

    def _fill(self) -> None:
        self._before_block = _states(self._noisy)
        for block, generator in zip(self._noise, self._noisy, strict=True):
            block.normal_(generator=generator)

    def uniform(self) -> Float[Tensor, " chain"]:
        """A number in [0, 1) for each chain."""
        like = self._noise
        numbers = [torch.rand(1, generator=g, dtype=like.dtype, device=like.device) for g in self._choosing]
        self._choices = _states(self._choosing)
        return torch.cat(numbers)

    def batch(self) -> Pair | None:
        """A minibatch for each chain; None for all data."""
        if self.pair is None or self.batch_size is None:
            return None
        x, y = self.pair
        if self._position + self.batch_size > len(x):
            self._orders = torch.stack([torch.randperm(len(x), generator=g, device=g.device) for g in self._choosing])
            self._choices = _states(self._choosing)
            self._position = 0
        index = self._orders[:, self._position : self._position + self.batch_size]
        self._position += self.batch_size
        return x[index], y[index]

    def state(self) -> dict[str, Tensor]:
        """Everything that the next numbers depend on; cheap enough for every step."""
        counters = torch.tensor([self._used, self._position])
        return {"block": self._before_block, "choices": self._choices, "orders": self._orders, "counters": counters}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to a ``state``."""
        for generators, saved in ((self._noisy, state["block"]), (self._choosing, state["choices"])):
            for generator, one in zip(generators, saved, strict=True):
                generator.set_state(one.clone())  # a view of the stack is read beyond its end
        self._choices = state["choices"]
        self._orders = state["orders"].to(self._orders.device)
        self._used, self._position = state["counters"].tolist()
        self._fill()


def _states(generators: list[torch.Generator]) -> Tensor:
    return torch.stack([generator.get_state() for generator in generators])
