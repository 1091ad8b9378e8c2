"""Block-diagonal matrices: elements of direct products."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor


def join_blocks(blocks: Sequence[Float[Tensor, "*batch d_slot d_slot"]]) -> Float[Tensor, "*batch d d"]:
    """The block-diagonal matrices of some blocks, whose batch dimensions are broadcast."""
    batch = torch.broadcast_shapes(*(block.shape[:-2] for block in blocks))
    dtype = reduce(torch.promote_types, (block.dtype for block in blocks))
    size, start = sum(block.shape[-1] for block in blocks), 0
    result = blocks[0].new_zeros(*batch, size, size, dtype=dtype)
    for block in blocks:
        place = slice(start, start + block.shape[-1])
        result[..., place, place] = block
        start = place.stop
    return result
