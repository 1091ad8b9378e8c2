"""Direct products of groups."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property, reduce
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.matrix_group import Group, Matrices


class ProductGroup(Group):
    """The direct product of groups: ``G * H``.

    Its elements are pairs (triples, ...) of matrices; as one matrix, an element is block diagonal. Each piece of a
    representation names the factor on which it lives: ``Vector(SO(3)) * Vector(S(5))`` is the tensor product of the
    vectors of the two. Where a factor occurs twice, ``rep.on(group, slot)`` says which one is
    meant.

    Parameters
    ----------
    factors : at least two groups.

    Examples
    --------
    >>> group = SO(3) * S(5)
    >>> rotation, permutation = group.sample(4, seed=0)
    >>> rotation.shape, permutation.shape
    (torch.Size([4, 3, 3]), torch.Size([4, 5, 5]))
    """

    def __init__(self, factors: Sequence[Group]) -> None:
        flat = tuple(part for factor in factors for part in factor.factors)
        if len(flat) < 2:
            raise ValueError(f"a direct product needs at least two groups, got {len(flat)}.")
        self._factors = flat
        offsets = [sum(part.d for part in flat[:k]) for k in range(len(flat) + 1)]
        self._slices = [slice(a, b) for a, b in pairwise(offsets)]
        algebra = torch.cat([self._embed(p.lie_algebra, k, 0.0) for k, p in enumerate(flat)])
        generators = torch.cat([self._embed(p.generators, k, 1.0) for k, p in enumerate(flat)])
        super().__init__(algebra, generators, name=" * ".join(part.name for part in flat))

    @cached_property
    def key(self) -> str:
        """A digest of the factors' generators."""
        return hashlib.sha256(" * ".join(part.key for part in self._factors).encode()).hexdigest()

    @property
    def factors(self) -> tuple[Group, ...]:
        """The groups of which this is the product."""
        return self._factors

    @property
    def order(self) -> int | None:
        """The product of the factors' orders."""
        result = 1
        for part in self._factors:
            if part.order is None:
                return None
            result *= part.order
        return result

    def block(self, g: Float[Tensor, "*batch d d"], slot: int) -> Float[Tensor, "*batch d_slot d_slot"]:
        """The part of a block-diagonal matrix that belongs to one factor."""
        part = self._slices[slot]
        return g[..., part, part]

    def join(self, g: Tensor | Sequence[Tensor]) -> Matrices:
        """Elements as block-diagonal matrices, from one stack of matrices for each factor."""
        if isinstance(g, Tensor):
            return super().join(g)
        shapes = [tuple(part.shape) for part in g]
        if len(g) != len(self._factors) or any(
            s[-2:] != (p.d, p.d) for s, p in zip(shapes, self._factors, strict=True)
        ):
            raise ValueError(f"an element of {self} is one matrix for each factor, got shapes {shapes}.")
        batch = torch.broadcast_shapes(*(part.shape[:-2] for part in g))
        dtype = reduce(torch.promote_types, (part.dtype for part in g))
        result = g[0].new_zeros(*batch, self.d, self.d, dtype=dtype)
        for place, part in zip(self._slices, g, strict=True):
            result[..., place, place] = part
        return result

    def sample(self, count: int, seed: int) -> tuple[Matrices, ...]:  # type: ignore[override]
        """Draw group elements: one stack of matrices for each factor, drawn as that factor draws them."""
        joined = super().sample(count, seed)
        assert isinstance(joined, Tensor)
        return tuple(self.block(joined, slot).contiguous() for slot in range(len(self._factors)))

    def _draw(self, count: int, generator: torch.Generator) -> Matrices:
        return self.join([part._draw(count, generator) for part in self._factors])

    def _embed(self, matrices: Tensor, slot: int, fill: float) -> Tensor:
        size = self._slices[-1].stop
        result = fill * torch.eye(size, dtype=torch.float64).repeat(len(matrices), 1, 1)
        result[:, self._slices[slot], self._slices[slot]] = matrices
        return result
