"""The canonical orthonormal basis of a subspace, which depends on the subspace alone."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def canonical_columns(basis: Float[np.ndarray, "size rank"]) -> Float[np.ndarray, "size rank"]:
    """The orthonormal basis that Gram-Schmidt gives on the projector's columns, pivoting on the first largest one. The
    steps are done on coordinates in the given basis.
    """
    rank = basis.shape[1]
    coordinates = np.zeros((rank, rank))
    remaining = np.square(basis).sum(1)
    for k in range(rank):
        pivot = int(np.argmax(remaining > remaining.max() * (1 - 1e-6)))
        row = basis[pivot].copy()
        for _ in range(2):
            row -= (coordinates[:k] @ row) @ coordinates[:k]
        coordinates[k] = row / np.linalg.norm(row)
        remaining -= np.square(basis @ coordinates[k])
    columns = basis @ coordinates.T
    columns[np.abs(columns) < 1e-14] = 0.0
    return columns
