"""What the variances of a PathwayNormal must be."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bayes_rpp.bases.equivariant import EquivariantBasis


def check_variances(
    event_shape: Sequence[int],
    dense_variance: Tensor,
    bases: Sequence[EquivariantBasis],
    pathway_variances: Sequence[Tensor],
    relative_variances: Sequence[Tensor | None],
) -> None:
    """Raise ValueError unless variances are finite, positive (those of pathways may be 0), and fit the bases, and these
    the event.
    """
    numel = math.prod(event_shape)
    if not ((dense_variance > 0) & torch.isfinite(dense_variance)).all():
        raise ValueError(f"dense_variance must be positive and finite, got {dense_variance.tolist()}.")
    for variance, basis in zip(pathway_variances, bases, strict=True):
        if not ((variance >= 0) & torch.isfinite(variance)).all():
            raise ValueError(f"pathway_variances must be non-negative and finite, got {variance.tolist()}.")
        if basis.size != numel:
            raise ValueError(
                f"a basis of size {basis.size} does not fit the event shape {tuple(event_shape)}, which has "
                f"{numel} coordinates."
            )
    for index, relative in enumerate(relative_variances):
        size = bases[index].rank if bases else numel
        if relative is None:
            continue
        if relative.shape != (size,) or not ((relative > 0) & torch.isfinite(relative)).all():
            raise ValueError(
                f"relative_variances[{index}] must be {size} positive and finite numbers, got shape "
                f"{tuple(relative.shape)}, from {float(relative.min())} to {float(relative.max())}."
            )
