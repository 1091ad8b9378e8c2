"""Pathways given their sum, by Matheron's rule."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.bases.equivariant import EquivariantBasis
from bayes_rpp.priors.woodbury import JointCovariance


def draw_coordinates(
    total: Float[Tensor, "*batch n"],
    dense_variance: Tensor,
    bases: Sequence[EquivariantBasis],
    variances: Sequence[Tensor],
    joint: JointCovariance | None,
    generator: torch.Generator | None,
    temperature: float,
) -> list[Float[Tensor, "*batch rank"]]:
    """Draws of beta_k ~ N(0, V_k) given sum_k Q_k beta_k + B = W, with B ~ N(0, v_b I); of the law to the power of 1/T.

    A draw (beta~, B~) without the condition is corrected by beta_k = beta~_k + V_k Q_k^T Sigma^-1 (W - W~), with W~ =
    sum_k Q_k beta~_k + B~ (Doucet, 2010). ``total`` is W, ``variances`` are the diagonals of V_k, or a number for each,
    and ``joint`` is Sigma for bases that are not orthogonal to each other.
    """
    missing = total - _noise(temperature * dense_variance, total, total.shape[-1], generator)
    prior = [
        _noise(temperature * variance, total, basis.rank, generator)
        for basis, variance in zip(bases, variances, strict=True)
    ]
    for basis, beta in zip(bases, prior, strict=True):
        missing = missing - basis.expand(beta)
    steps = coordinate_means(missing, dense_variance, bases, variances, joint)
    return [beta + step for beta, step in zip(prior, steps, strict=True)]


def coordinate_means(
    total: Float[Tensor, "*batch n"],
    dense_variance: Tensor,
    bases: Sequence[EquivariantBasis],
    variances: Sequence[Tensor],
    joint: JointCovariance | None,
) -> list[Float[Tensor, "*batch rank"]]:
    """V_k Q_k^T Sigma^-1 W, the mean of every beta_k given W."""
    broad = [variance.to(total) for variance in variances]
    if joint is not None:
        return [v * part for v, part in zip(broad, joint.coordinates_of_solution(total), strict=True)]
    shares = [variance / (variance + dense_variance.to(total)) for variance in broad]
    return [share * basis.coordinates(total) for share, basis in zip(shares, bases, strict=True)]


def _noise(variance: Tensor, like: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
    device = like.device if generator is None else generator.device
    shape = (*like.shape[:-1], size)
    noise = torch.randn(shape, dtype=like.dtype, device=device, generator=generator).to(like.device)
    return variance.to(like).sqrt() * noise
