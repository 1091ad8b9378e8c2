"""Invariant tensors of groups in units and in skewed axes, solved for in better coordinates.

The normal equations of the null-space solver square the condition of what they are given: in coordinates in which a
quarter turn is [[3, -1], [10, -3]], a singular value of 1e-3 is 1e-6 there, and less for tensors of more axes. Every
axis on which a compact group acts is therefore turned into coordinates in which it acts by orthogonal matrices, and any
other is scaled so that rows and columns are of one size. What is found there is taken back and made orthonormal again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import scipy
import torch
from jaxtyping import Float

from bayes_rpp.bases.null_space import TensorConstraints, fixed_tensors
from bayes_rpp.groups.checks import orthonormal_change
from bayes_rpp.groups.group import Group
from bayes_rpp.groups.orthogonal_coordinates import (
    Matrix,
    conjugated,
    largest_stretch,
    nearly_orthogonal_coordinates,
    orthogonal_coordinates,
)
from bayes_rpp.representations.factors import Factor

_SMALLEST_ROW = 1e-2


@lru_cache(maxsize=512)
def axis_matrices(group: Group, factor: Factor) -> tuple[list[Matrix], list[Matrix]]:
    """The matrices by which an orthonormal basis of the Lie algebra and the generators act on one axis."""
    algebra = [factor.drho(group, a).numpy() for a in group.orthonormal_algebra]
    return algebra, [factor.rho(group, h).numpy() for h in group.generators]


def constraints_on(group: Group, piece: Sequence[Factor]) -> TensorConstraints:
    """What the invariant tensors of a piece satisfy, in the coordinates that were given."""
    return _constraints(tuple(factor.size(group) for factor in piece), [axis_matrices(group, f) for f in piece])


def piece_stretch(group: Group, piece: Sequence[Factor]) -> float:
    """How much longer a generator, or a turn by one radian, can make a tensor, in the coordinates that were given."""
    return math.prod(max(1.0, largest_stretch(*axis_matrices(group, factor))) for factor in piece)


def piece_invariants(group: Group, piece: Sequence[Factor]) -> tuple[Float[np.ndarray, "size rank"], float]:
    """Orthonormal columns that span the invariant tensors of a piece, and by how much they miss the constraints: where
    they were solved for, and relative to the size of the action where they are given.
    """
    axes = [_turned_axis(group, factor) for factor in piece]
    sizes = tuple(factor.size(group) for factor in piece)
    constraints = _with_scaled_rows(_constraints(sizes, [(algebra, generators) for _, algebra, generators in axes]))
    basis = fixed_tensors(constraints)
    residual = constraints.residual(basis)
    if all(back is None for back, _, _ in axes):
        return basis, residual
    backs = tuple(np.eye(n) if back is None else back for n, (back, _, _) in zip(sizes, axes, strict=True))
    lifted = constraints.transform(backs, basis)
    lifted /= np.linalg.norm(lifted, axis=0).clip(min=1e-300)
    # Sorted rows and pivoted columns keep the relative precision of rows in different units.
    order = np.argsort(-np.abs(lifted).max(axis=1, initial=0.0), kind="stable")
    result = np.empty_like(lifted)
    result[order] = scipy.linalg.qr(lifted[order], mode="economic", pivoting=True)[0]
    return result, max(residual, constraints_on(group, piece).relative_residual(result))


@lru_cache(maxsize=512)
def _turned_axis(group: Group, factor: Factor) -> tuple[Matrix | None, list[Matrix], list[Matrix]]:
    """The way back from the better coordinates of an axis (None: they are those given), and its matrices in them."""
    algebra, generators = axis_matrices(group, factor)
    if factor.action.is_orthogonal(group):
        return None, algebra, generators
    if factor.is_dual:
        back, own_algebra, own_generators = _turned_axis(group, factor.dual)
        turned = [-a.T for a in own_algebra], [np.linalg.inv(g).T for g in own_generators]
        return (None, algebra, generators) if back is None else (np.linalg.inv(back).T, *turned)
    change = orthogonal_coordinates(algebra, generators)
    if change is not None:
        antisymmetric = [(a - a.T) / 2 for a in conjugated(change, algebra)]
        orthogonal = [scipy.linalg.polar(g)[0] for g in conjugated(change, generators)]
        return np.linalg.inv(change), antisymmetric, orthogonal
    change = nearly_orthogonal_coordinates(algebra, generators)
    if change is not None:
        return np.linalg.inv(change), conjugated(change, algebra), conjugated(change, generators)
    total = sum((np.abs(matrix) for matrix in (*algebra, *generators)), np.zeros((factor.size(group),) * 2))
    scales = scipy.linalg.matrix_balance(total, permute=False, separate=True)[1][0]
    if (scales == 1).all():
        return None, algebra, generators
    change = np.diag(1 / scales)
    return np.diag(scales), conjugated(change, algebra), conjugated(change, generators)


def _constraints(sizes: tuple[int, ...], axes: Sequence[tuple[list[Matrix], list[Matrix]]]) -> TensorConstraints:
    algebra, discrete = zip(*axes, strict=True)
    return TensorConstraints(sizes, tuple(zip(*algebra, strict=True)), tuple(zip(*discrete, strict=True)))


def _with_scaled_rows(constraints: TensorConstraints) -> TensorConstraints:
    """The same constraints by an orthonormal basis of what the Lie algebra does to all axes, where a part of it does
    little: an element that turns the axes given by 1e-6 says as much as one that turns them by 1.
    """
    rows = np.array([np.concatenate([m.ravel() for m in row]) for row in constraints.algebra])
    values = np.linalg.svd(rows, compute_uv=False) if len(rows) else np.ones(1)
    nonzero = values[values > 1e-10 * values[0]]
    if not len(nonzero) or nonzero.min() >= _SMALLEST_ROW:
        return constraints
    change = orthonormal_change(torch.from_numpy(rows)).numpy()
    axes = [np.tensordot(change, np.array(own), axes=1) for own in zip(*constraints.algebra, strict=True)]
    return TensorConstraints(constraints.sizes, tuple(zip(*axes, strict=True)), constraints.discrete)
