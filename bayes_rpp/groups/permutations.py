"""Permutation groups by their stabiliser chains: exact orders and uniform samples (Schreier and Sims)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


class StabiliserChain:
    """The chain of pointwise stabilisers of a permutation group, with a transversal for each step: every element is a
    product of one member of each, in exactly one way. ``images`` are those of every point under each generator.
    """

    def __init__(self, images: Int[Tensor, "generators n"]) -> None:
        from sympy.combinatorics import Permutation, PermutationGroup  # 0.3 s and 35 MB that few programs need

        n = images.shape[-1]
        self._group = PermutationGroup([Permutation(row) for row in images.tolist()] or [Permutation(n - 1)])
        self.transversals = [
            torch.tensor([element.array_form for _, element in sorted(level.items())], dtype=torch.int64)
            for level in self._group.basic_transversals
        ]
        self.order = math.prod(len(level) for level in self.transversals)
        self._identity = torch.arange(n)

    def contains(self, images: Int[Tensor, " n"]) -> bool:
        """Whether a permutation is an element."""
        from sympy.combinatorics import Permutation

        return bool(self._group.contains(Permutation(images.tolist())))

    def sample(self, count: int, generator: torch.Generator) -> Int[Tensor, "count n"]:
        """Uniformly distributed elements, as images of every point."""
        result = self._identity.expand(count, -1)
        # The member of a deeper stabiliser acts first: products u_1 u_2 ... u_k cover the group once.
        for level in self.transversals:
            chosen = level[torch.randint(len(level), (count,), generator=generator)]
            result = result.gather(1, chosen)
        return result


def permutation_matrices(images: Int[Tensor, "*batch n"]) -> Float[Tensor, "*batch n n"]:
    """The matrices that move the coordinate i to the index images[i]."""
    return torch.nn.functional.one_hot(images, images.shape[-1]).to(torch.float64).mT.contiguous()


def check_permutations(permutations: Sequence[Sequence[int]]) -> Int[Tensor, "generators n"]:
    """Lists of images as a tensor; raises ValueError if one is no permutation of 0, ..., n - 1."""
    listed = [list(images) for images in permutations]
    if not listed or not listed[0]:
        raise ValueError("from_permutations needs at least one permutation of at least one point.")
    for index, images in enumerate(listed):
        if sorted(images) != list(range(len(listed[0]))):
            raise ValueError(
                f"permutation {index} = {images} is no rearrangement of 0, ..., {len(listed[0]) - 1}; give for each "
                "point the point to which it moves."
            )
    return torch.tensor(listed, dtype=torch.int64)
