"""The elements of finite matrix groups, listed and looked up."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

LARGEST_ENUMERATED_ORDER = 20_000
_ELEMENT_TOLERANCE = 1e-5


class ElementTable:
    """All elements of a finite group, and the index of a given one among them. They are compared as S g S^-1, in
    coordinates S in which they are orthogonal, so that units make no difference.
    """

    def __init__(self, elements: Float[Tensor, "order d d"], coordinates: Float[Tensor, "d d"]) -> None:
        self.elements = elements
        self._coordinates, self._back = coordinates, torch.linalg.inv(coordinates)
        self._flat = self._orthogonal(elements)
        # A generic linear functional differs between any two elements, so that they are found by bisection.
        self._functional = torch.arange(1, self._flat.shape[1] + 1, dtype=torch.float64).sqrt().cos()
        self._values, self._order = (self._flat @ self._functional).sort()

    def _orthogonal(self, g: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch dd"]:
        return (self._coordinates @ g.double() @ self._back).flatten(-2)

    def nearest(self, g: Float[Tensor, "*batch d d"]) -> tuple[Int[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """The index of an element close to g by the functional, and the largest entry of their difference in
        orthogonal coordinates.
        """
        flat = self._orthogonal(g)
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


def exact_element_table(generators: Float[Tensor, "m d d"], coordinates: Float[Tensor, "d d"]) -> ElementTable | None:
    """The generated elements, or None if there are over 20,000 or products of generators miss them by more than
    rounding, in coordinates S in which they are orthogonal.
    """
    d, back = generators.shape[-1], torch.linalg.inv(coordinates)
    identity = torch.eye(d, dtype=torch.float64)
    found = {_fingerprint(identity): identity}
    frontier = identity[None]
    while len(frontier):
        products = (generators[:, None] @ frontier[None]).reshape(-1, d, d)
        keys = map(_fingerprint, coordinates @ products @ back)
        fresh = {key: product for key, product in zip(keys, products, strict=True) if key not in found}
        found |= fresh
        if len(found) > LARGEST_ENUMERATED_ORDER:
            return None
        frontier = torch.stack(list(fresh.values())) if fresh else frontier[:0]
    table = ElementTable(torch.stack(list(found.values())), coordinates)
    # Skewed coordinates magnify rounding by their condition.
    allowed = max(1e-9, 1e-14 * float(torch.linalg.cond(coordinates)))
    exact = len(generators) == 0 or table.nearest(generators @ table.elements[:, None])[1].max() < allowed
    return table if exact else None


def _fingerprint(matrix: Tensor) -> bytes:
    return (matrix.mul(1e6).round() + 0.0).to(torch.int64).numpy().tobytes()
