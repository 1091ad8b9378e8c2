"""The eigenvalues of a covariance of orthogonal pathways, and sums over them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.bases.equivariant import EquivariantBasis


class Eigenvalues(NamedTuple):
    """One eigenvalue with its multiplicity, or, elementwise, one for each coordinate on a last axis."""

    multiplicity: int
    variance: Tensor
    elementwise: bool

    def total(self, of_each: Tensor) -> Tensor:
        """The sum over all eigenvalues of a function of each."""
        return of_each.sum(-1) if self.elementwise else self.multiplicity * of_each

    def sum(self, squares: Float[Tensor, "*batch n"], factor: Tensor) -> Float[Tensor, "*batch"]:
        """The weighted sum of squares of the coordinates, with a factor for each eigenvalue."""
        return (squares * factor).sum(-1) if self.elementwise else squares.sum(-1) * factor

    def divergence_from(self, other: Eigenvalues) -> Tensor:
        """KL between normal distributions with these eigenvalues and others, along the same eigenvectors."""
        own, others = self.variance, other.variance
        if self.elementwise != other.elementwise:  # one of them is the same for all coordinates
            own, others = (part.variance if part.elementwise else part.variance[..., None] for part in (self, other))
        ratio = own / others
        return 0.5 * (self if self.elementwise else other).total(ratio - 1 - ratio.log())


def leverage(basis: EquivariantBasis, relative: Float[Tensor, " rank"] | None = None) -> Float[Tensor, " size"]:
    """The diagonal of Q D Q^T, in float64; takes O(size rank) time."""
    result = torch.zeros(basis.size, dtype=torch.float64)
    for index in torch.arange(basis.rank).split(256):
        rows = torch.zeros(len(index), basis.rank, dtype=torch.float64)
        rows[torch.arange(len(index)), index] = 1.0 if relative is None else relative[index].double().cpu().sqrt()
        result += basis.expand(rows).square().sum(0)
    return result
