"""Laplace's formula for the integral of a density, from its maximum and the curvature there."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor


def laplace_evidence(
    log_density: float | Tensor, log_determinant: Float[Tensor, ""], dimension: int
) -> Float[Tensor, ""]:
    """log p(z*) + d/2 log 2 pi - 1/2 log det H, the logarithm of the integral of exp(log p(z*) - 1/2 (z - z*)^T H
    (z - z*)) over d coordinates (MacKay, Neural Computation 1992).
    """
    return log_density + dimension / 2 * math.log(2 * math.pi) - log_determinant / 2
