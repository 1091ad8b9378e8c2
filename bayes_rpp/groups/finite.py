"""The elements of finite matrix groups, listed and looked up."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

LARGEST_ENUMERATED_ORDER = 20_000
_LARGEST_ENTRY = 1e6  # of an element of a finite group: beyond it the group is taken to be infinite
_ELEMENT_TOLERANCE = 1e-5


class ElementTable:
    """All elements of a finite group, and the index of a given one among them."""

    def __init__(self, elements: Float[Tensor, "order d d"]) -> None:
        self.elements = elements
        self._flat = elements.flatten(1)
        # A generic linear functional differs between any two elements, so that they are found by bisection.
        self._functional = torch.arange(1, self._flat.shape[1] + 1, dtype=torch.float64).sqrt().cos()
        self._values, self._order = (self._flat @ self._functional).sort()

    def nearest(self, g: Float[Tensor, "*batch d d"]) -> tuple[Int[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """The index of an element close to g by the functional, and the largest entry of their difference."""
        flat = g.double().flatten(-2)
        wanted = (flat @ self._functional).contiguous()
        above = torch.searchsorted(self._values, wanted).clamp_max(len(self._values) - 1)
        candidates = self._order[torch.stack([(above - 1).clamp_min(0), above])]
        distance, nearest = (self._flat[candidates] - flat).abs().amax(-1).min(0)
        return candidates.gather(0, nearest[None])[0], distance

    def has(self, g: Float[Tensor, "*batch d d"]) -> bool:
        """Whether all matrices are elements."""
        return bool((self.nearest(g)[1] <= _ELEMENT_TOLERANCE).all())

    def index(self, g: Float[Tensor, "*batch d d"]) -> Int[Tensor, "*batch"]:
        """The index of every given element; raises ValueError if one is no element."""
        index, distance = self.nearest(g)
        if distance.numel() and distance.max() > _ELEMENT_TOLERANCE:
            miss = float(distance.max())
            raise ValueError(f"a matrix differs from every element of the group by {miss:.2g} or more.")
        return index


def exact_element_table(generators: Float[Tensor, "m d d"]) -> ElementTable | None:
    """The generated elements, or None if there are over 20,000 or products of generators miss them by 1e-9 or more."""
    d = generators.shape[-1]
    identity = torch.eye(d, dtype=torch.float64)
    found = {_fingerprint(identity): identity}
    frontier = identity[None]
    while len(frontier):
        products = (generators[:, None] @ frontier[None]).reshape(-1, d, d)
        fresh = {key: product for product in products if (key := _fingerprint(product)) not in found}
        found |= fresh
        if len(found) > LARGEST_ENUMERATED_ORDER or (len(products) and products.abs().max() > _LARGEST_ENTRY):
            return None
        frontier = torch.stack(list(fresh.values())) if fresh else frontier[:0]
    table = ElementTable(torch.stack(list(found.values())))
    exact = len(generators) == 0 or table.nearest(generators @ table.elements[:, None])[1].max() < 1e-9
    return table if exact else None


def _fingerprint(matrix: Tensor) -> bytes:
    return (matrix.mul(1e6).round() + 0.0).to(torch.int64).numpy().tobytes()
