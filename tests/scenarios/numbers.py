"""Numbers to evaluate functions at."""

import torch
from torch import Tensor


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Independent standard normal numbers in double precision."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
