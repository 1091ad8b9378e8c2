"""Moments of inertia: exactly O(3)-equivariant, or with the symmetry broken by a given amount."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from bayes_rpp.datasets.regression_data import RegressionData, Split
from bayes_rpp.groups.named import O
from bayes_rpp.representations.rep import Scalar, T, Vector
from bayes_rpp.seeding import seeded_generator

BODIES = 5
Kind = Literal["axis", "generic"]

# A fixed matrix of Frobenius norm 1 that commutes with no rotation or reflection but 1 and -1.
_GENERIC = torch.tensor([[0.52, -0.31, 0.17], [0.08, -0.43, 0.36], [-0.27, 0.11, 0.21]], dtype=torch.float64)


def inertia(
    train: int = 1000, test: int = 1000, symmetry_breaking: float = 0.0, seed: int = 0, kind: Kind = "axis"
) -> RegressionData:
    """The inertia tensor of five point masses, and its modified version (Finzi, Benton & Wilson, NeurIPS 2021,
    section 5).

    x = (m_1..m_5, r_1..r_5) with m_i = softplus(N(0, 1)) and r_i ~ N(0, 1_3);
    y = vec(I + c (I z) z^T) with I = sum_i m_i (r_i.r_i 1 - r_i r_i^T), z the unit z axis and c =
    ``symmetry_breaking``.

    Parameters
    ----------
    train, test : numbers of examples.
    symmetry_breaking : c; 0 is exactly O(3)-equivariant, 0.3 is the paper's Modified Inertia.
    seed : the same seed gives the same data, and the same x for every c.
    kind : "axis" as above, which keeps the symmetry of the z axis (O(2) x Z(2)); "generic" replaces z z^T by a fixed
        matrix without symmetry, y = vec(I + c I M), so that only -1 remains, which leaves every inertia tensor as it
        is.

    Examples
    --------
    >>> data = inertia(train=10, test=5, symmetry_breaking=0.3)
    >>> data.train.x.shape, data.rep_in
    (torch.Size([10, 20]), 5*Scalar + 5*Vector)
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be 'axis' or 'generic', got {kind!r}.")
    if train < 1 or test < 0:
        raise ValueError(f"need train >= 1 and test >= 0 examples, got {train} and {test}.")
    breaker = torch.diag(torch.tensor([0.0, 0.0, 1.0])).double() if kind == "axis" else _GENERIC / _GENERIC.norm()

    def function(x: Tensor) -> Tensor:
        masses, positions = x[..., :BODIES], x[..., BODIES:].unflatten(-1, (BODIES, 3))
        squares = (masses * positions.square().sum(-1)).sum(-1)
        products = torch.einsum("...i,...ij,...ik->...jk", masses, positions, positions)
        tensor = squares[..., None, None] * torch.eye(3, dtype=x.dtype, device=x.device) - products
        return (tensor + symmetry_breaking * tensor @ breaker.to(x)).flatten(-2)

    generator = seeded_generator(seed)
    x = torch.randn(train + test, 4 * BODIES, generator=generator)
    x[:, :BODIES] = torch.nn.functional.softplus(x[:, :BODIES])
    y, group = function(x), O(3)
    rep_in, rep_out = (BODIES * Scalar + BODIES * Vector)(group), T(2)(group)
    return RegressionData(Split(x[:train], y[:train]), Split(x[train:], y[train:]), rep_in, rep_out, group, function)
