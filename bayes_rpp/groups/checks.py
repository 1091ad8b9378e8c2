"""Checks of the generators that a user gives, and their conversion to float64 matrices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

_LARGEST_CONDITION = 1e12


def check_generators(lie_algebra: Float[Tensor, "k d d"], generators: Float[Tensor, "m d d"]) -> None:
    """Refuse singular generators, and those that are orthogonal or antisymmetric but for rounding, by a ValueError."""
    one = torch.eye(generators.shape[-1], dtype=torch.float64)
    for index, generator in enumerate(generators):
        if is_singular(generator):
            raise ValueError(f"generator {index} is singular, so it is no group element.")
        _refuse_rounded(generator @ generator.mT - one, f"generators[{index}] is orthogonal")
    for index, element in enumerate(lie_algebra):
        scale = element.abs().max().clamp_min(1e-300)
        _refuse_rounded((element + element.mT) / scale, f"lie_algebra[{index}] is antisymmetric")


def is_singular(matrix: Float[Tensor, "d d"]) -> bool:
    """Whether a matrix is singular to rounding when its rows and columns are measured in units of their own."""
    rows = matrix / matrix.abs().amax(1, keepdim=True).clamp_min(1e-300)
    columns = rows / rows.abs().amax(0, keepdim=True).clamp_min(1e-300)
    return not torch.linalg.cond(columns) < _LARGEST_CONDITION


def orthonormal_change(lie_algebra: Float[Tensor, "k d d"]) -> Float[Tensor, "r k"]:
    """Coordinates of an orthonormal basis of the span; of the given one, normalised, if that is orthogonal already."""
    flat = lie_algebra.flatten(1)
    norms = flat.norm(dim=1)
    kept = norms > 0
    scaled = torch.where(kept, norms, 1.0).reciprocal()[:, None] * torch.eye(len(flat), dtype=torch.float64)
    unit = scaled @ flat
    gram = unit @ unit.mT
    if torch.allclose(gram, torch.diag(kept.double()), rtol=0, atol=1e-14):
        return scaled[kept]
    left, values, _ = torch.linalg.svd(unit, full_matrices=False)
    large = values > 1e-10 * values.max()
    return (left[:, large] / values[large]).mT @ scaled


def _refuse_rounded(miss: Tensor, what: str) -> None:
    largest = float(miss.abs().max())
    if 1e-10 < largest < 1e-5:
        raise ValueError(f"{what} only to {largest:.1g}: it seems to have been rounded. Compute it in float64.")


def as_matrices(value: Tensor | Sequence[object] | None, argument: str) -> Tensor | None:
    """Square matrices in float64, (count, d, d), or None for None; raises ValueError if they are something else."""
    if value is None:
        return None
    if not isinstance(value, Tensor):
        listed = [torch.as_tensor(matrix, dtype=torch.float64) for matrix in value]
        if not listed or len({matrix.shape for matrix in listed}) > 1:
            shapes = sorted({tuple(matrix.shape) for matrix in listed})
            raise ValueError(f"{argument} must have shape (count, d, d), got matrices of shapes {shapes}.")
        value = torch.stack(listed)
    matrices = value.detach().to("cpu", torch.float64, copy=True)
    if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2] or matrices.shape[1] == 0:
        raise ValueError(f"{argument} must have shape (count, d, d), got {tuple(matrices.shape)}.")
    if not torch.isfinite(matrices).all():
        raise ValueError(f"{argument} holds NaN or infinite entries.")
    return matrices
