"""From the weight decays of a penalised mean square to variances of a prior."""

from __future__ import annotations

import math
from typing import Literal

Convention = Literal["penalty", "adam"]


def decay_unit(
    equivariant: float,
    dense: float,
    num_data: int,
    num_outputs: int,
    noise_variance: float,
    convention: Convention,
) -> float:
    """The variance that a weight decay of 1 amounts to; see ``RPPPrior.from_weight_decay``."""
    for name, value in (
        ("equivariant", equivariant),
        ("dense", dense),
        ("num_data", num_data),
        ("num_outputs", num_outputs),
        ("noise_variance", noise_variance),
    ):
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be positive and finite, got {value}.")
    factors = {"penalty": 1.0, "adam": 2.0}
    if convention not in factors:
        raise ValueError(f"convention must be 'penalty' or 'adam', got {convention!r}.")
    return factors[convention] * noise_variance / (num_data * num_outputs)
