"""Where the maps of a basis lie: their squared norms in bands of rows and columns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.bases.dense import StructuredBasis, bands_of_entries
from bayes_rpp.bases.equivariant import EquivariantBasis

_NUMBERS_AT_ONCE = 2**22


def band_norms(
    basis: EquivariantBasis, row_sizes: Sequence[int], column_sizes: Sequence[int]
) -> Float[Tensor, "rank row_band column_band"]:
    """The squared norm of each basis map (m, n) in every band of rows and of columns, in float64.

    The sizes of the bands add up to m and to n; the norms of a map to 1.
    """
    own = basis.band_norms(row_sizes, column_sizes) if isinstance(basis, StructuredBasis) else None
    if own is not None:
        return own
    bands, count = bands_of_entries(row_sizes, column_sizes), len(row_sizes) * len(column_sizes)
    norms = torch.zeros(basis.rank, count, dtype=torch.float64)
    for index in torch.arange(basis.rank).split(max(1, _NUMBERS_AT_ONCE // max(basis.size, 1))):
        units = torch.zeros(len(index), basis.rank, dtype=torch.float64)
        units[torch.arange(len(index)), index] = 1
        norms[index] = norms[index].index_add(1, bands, basis.expand(units).square())
    return norms.unflatten(1, (len(row_sizes), len(column_sizes)))
