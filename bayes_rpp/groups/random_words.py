"""Random elements of groups that are known by their generators alone."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.groups.checks import orthonormal_change

_COMPACT_WORD_LENGTH = 32
_POWER_BITS = 14


def random_words(
    lie_algebra: Float[Tensor, "k d d"],
    generators: Float[Tensor, "m d d"],
    coordinates: Float[Tensor, "d d"] | None,
    count: int,
    generator: torch.Generator,
) -> Float[Tensor, "count d d"]:
    """Words of 32 letters in a compact group, whose distribution tends to Haar; of one letter in any other.

    A letter is exp of a random combination of an orthonormal basis of the Lie algebra, times a random generator or a
    power of it. Those of a compact group are S g S^-1, in ``coordinates`` S in which it is orthogonal.
    """
    if coordinates is None:
        return _words(lie_algebra, generators, False, count, generator)
    back = torch.linalg.inv(coordinates)
    turned, letters = coordinates @ lie_algebra @ back, coordinates @ generators @ back
    return back @ _words(turned, letters, True, count, generator) @ coordinates


def _words(
    lie_algebra: Tensor, generators: Tensor, orthogonal: bool, count: int, generator: torch.Generator
) -> Float[Tensor, "count d d"]:
    algebra = torch.einsum("rk,kij->rij", orthonormal_change(lie_algebra), lie_algebra)
    one = torch.eye(algebra.shape[-1], dtype=torch.float64)
    words = one.expand(count, -1, -1)
    for _ in range(_COMPACT_WORD_LENGTH if orthogonal else 1):
        # A rotation by one radian has norm sqrt 2; a non-compact group's elements stay of order one.
        scale = math.sqrt(2) if orthogonal else 0.5
        coefficients = scale * torch.randn(count, len(algebra), generator=generator, dtype=torch.float64)
        words = words @ torch.linalg.matrix_exp(torch.einsum("ck,kij->cij", coefficients, algebra))
        if not len(generators):
            continue
        letters = torch.cat([one[None], generators])
        chosen = torch.randint(len(letters), (count,), generator=generator)
        if not orthogonal:
            return words @ letters[chosen]
        # Powers up to 2^14, so that generators that turn by little mix as well.
        for bit in torch.randint(2, (_POWER_BITS, count), generator=generator).bool():
            words = torch.where(bit[:, None, None], words @ letters[chosen], words)
            letters = letters @ letters
    return words
