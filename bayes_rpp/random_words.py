"""Random elements of groups that are known by their generators alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from bayes_rpp.matrix_group import Group

_COMPACT_WORD_LENGTH = 32
_POWER_BITS = 14


def random_words(group: Group, count: int, generator: torch.Generator) -> Float[Tensor, "count d d"]:
    """Words of 32 letters in an orthogonal group, whose law tends to Haar; of one letter in any other."""
    words = torch.eye(group.d, dtype=torch.float64).expand(count, -1, -1)
    for _ in range(_COMPACT_WORD_LENGTH if group.is_orthogonal else 1):
        words = _extend(words, group, generator)
    return words


def _extend(words: Tensor, group: Group, generator: torch.Generator) -> Tensor:
    """Multiply words by exp of a random Lie-algebra element and by a random generator, or a power of it."""
    count, algebra = len(words), group.orthonormal_algebra
    # A rotation by one radian has norm sqrt 2; a non-compact group's elements stay of order one.
    scale = math.sqrt(2) if group.is_orthogonal else 0.5
    coefficients = scale * torch.randn(count, len(algebra), generator=generator, dtype=torch.float64)
    words = words @ torch.linalg.matrix_exp(torch.einsum("ck,kij->cij", coefficients, algebra))
    if not len(group.generators):
        return words
    letters = torch.cat([torch.eye(group.d, dtype=torch.float64)[None], group.generators])
    chosen = torch.randint(len(letters), (count,), generator=generator)
    if not group.is_orthogonal:
        return words @ letters[chosen]
    # Powers up to 2^14, so that generators that turn by little mix as well.
    for bit in torch.randint(2, (_POWER_BITS, count), generator=generator).bool():
        words = torch.where(bit[:, None, None], words @ letters[chosen], words)
        letters = letters @ letters
    return words
