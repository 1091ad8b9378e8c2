"""The constraint solver for one tensor piece: an orthonormal basis of {v : rho(g) v = v for all g in G}.

The invariants of a direct product are products of its factors' invariants. Where every generator permutes the
coordinates up to sign, they are found by orbits in linear time (``signed_orbits``); otherwise as the null space of
the constraints drho(A) v = 0 and (rho(h) - 1) v = 0 over the generators (Finzi, Welling & Wilson, ICML 2021, eq. 6),
cut down to the zero weights of a torus (``null_space``). Everything is float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.bases.axis_coordinates import constraints_on, piece_invariants, piece_stretch
from bayes_rpp.bases.null_space import check_basis_bytes
from bayes_rpp.bases.signed_orbits import Orbits, signed_images, signed_orbits
from bayes_rpp.bases.weight_spaces import along
from bayes_rpp.groups.group import Group
from bayes_rpp.representations.canonical import canonical_columns
from bayes_rpp.representations.factors import DUAL, VECTOR, Factor
from bayes_rpp.representations.tensor_products import Piece, piece_size, simplify_piece, terms_text

_LARGEST_RESIDUAL = 1e-9


def invariant_vectors(group: Group, piece: Piece) -> Float[Tensor, "size rank"]:
    """An orthonormal basis of one piece's invariant tensors, as float64 columns. Their canonical form does not depend
    on the linear-algebra library, so that saved coordinates keep their meaning. Raises ValueError if the piece is too
    large, with the bytes that it would take.
    """
    solved = _solve(group, simplify_piece(piece, group))
    if isinstance(solved, Orbits):
        check_basis_bytes(len(solved.labels), solved.rank)
        return torch.from_numpy(solved.dense())
    return torch.from_numpy(solved.copy())


def invariant_orbits(group: Group, piece: Piece) -> Orbits | None:
    """The invariants as signed orbits, None if the group does not permute coordinates so; ValueError for too many."""
    solved = _solve(group, simplify_piece(piece, group)) if acts_by_signed_permutations(group, piece) else None
    return solved if isinstance(solved, Orbits) else None


def acts_by_signed_permutations(group: Group, piece: Piece) -> bool:
    """Whether every generator permutes the coordinates of a piece up to sign."""
    return all(_signed_generators(group.factors[factor.slot], replace(factor, slot=0)) is not None for factor in piece)


@lru_cache(maxsize=512)
def _solve(group: Group, piece: Piece) -> Orbits | Float[np.ndarray, "size rank"]:
    """The invariants with the axes in the order given; they are solved for once, in sorted order."""
    order = sorted(range(len(piece)), key=lambda axis: piece[axis].sort_key)
    if order != sorted(order):
        ordered = _solve(group, tuple(piece[axis] for axis in order))
        return _transpose(ordered, [piece[axis].size(group) for axis in order], np.argsort(order).tolist())
    if len(group.factors) > 1:
        return _solve_product(group, piece)
    return _solve_sorted(group, piece)


def _solve_product(group: Group, piece: Piece) -> Orbits | Float[np.ndarray, "size rank"]:
    parts = []
    for slot, part in enumerate(group.factors):
        own = tuple(replace(factor, slot=0) for factor in piece if factor.slot == slot)
        if own:
            parts.append(_solve(part, own))
    if all(isinstance(part, Orbits) for part in parts):
        return _product_of_orbits(part for part in parts if isinstance(part, Orbits))
    columns = [part.dense() if isinstance(part, Orbits) else part for part in parts]
    check_basis_bytes(piece_size(piece, group), math.prod(c.shape[1] for c in columns))
    result = np.ones((1, 1))
    for column in columns:
        products = result[:, None, :, None] * column[None, :, None, :]
        result = products.reshape(len(result) * len(column), -1)
    return result


def _product_of_orbits(parts: Iterable[Orbits]) -> Orbits:
    labels, signs, rank = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64), 1
    for part in parts:
        alive = np.logical_and.outer(labels >= 0, part.labels >= 0)
        labels = np.where(alive, np.add.outer(labels * part.rank, part.labels), -1).reshape(-1)
        signs = np.multiply.outer(signs, part.signs).reshape(-1)
        rank *= part.rank
    return Orbits(labels, signs).normalized()


def _solve_sorted(group: Group, piece: Piece) -> Orbits | Float[np.ndarray, "size rank"]:
    generators = [_signed_generators(group, factor) for factor in piece]
    signed = [axis for axis in generators if axis is not None]
    sizes = tuple(factor.size(group) for factor in piece)
    if len(signed) == len(generators):
        return signed_orbits(sizes, list(zip(*signed, strict=True)) if signed else [])
    form = _invariant_form(group) if DUAL in piece else None
    if form is None:
        basis, residual = piece_invariants(group, piece)
    else:
        basis = _lowered(group, piece, form)
        residual = constraints_on(group, piece).residual(basis)
    if residual > _LARGEST_RESIDUAL:
        named = terms_text([(1, piece)], group)
        raise RuntimeError(
            f"the invariants of {named} under {group} miss their constraints by {residual:.1e}{_advice(group, piece)}"
        )
    return canonical_columns(basis)


def _advice(group: Group, piece: Piece) -> str:
    stretch = piece_stretch(group, piece)
    if stretch * np.finfo(float).eps > _LARGEST_RESIDUAL:
        return (
            f": in these coordinates elements of the group make such tensors up to {stretch:.0e} times as long, of "
            "which float64 keeps too few digits. Write the group and the data in coordinates in which it is nearer to "
            "orthogonal matrices, such as axes at right angles in equal units."
        )
    return "; if its generators were rounded, compute them in float64."


@lru_cache(maxsize=256)
def _invariant_form(group: Group) -> Float[np.ndarray, "d d"] | None:
    """An orthogonal matrix F with F g = g^-T F for all g, which makes duals of vectors: a metric, a symplectic form."""
    forms = _solve(group, (VECTOR, VECTOR))
    if isinstance(forms, Orbits) or not forms.shape[1]:
        return None
    form = math.sqrt(group.d) * forms[:, 0].reshape(group.d, group.d).T  # g B g^T = B, and F = B^-1 = B^T
    return form if np.allclose(form @ form.T, np.eye(group.d), rtol=0, atol=1e-12) else None


def _lowered(group: Group, piece: Piece, form: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "size rank"]:
    """The invariants of a piece from those of the piece with vectors in place of its duals."""
    raised = invariant_vectors(group, tuple(VECTOR if factor == DUAL else factor for factor in piece)).numpy()
    result = raised.reshape(*(factor.size(group) for factor in piece), -1)
    for axis, factor in enumerate(piece):
        if factor == DUAL:
            result = along(form, result, axis)
    return result.reshape(raised.shape)


@lru_cache(maxsize=512)
def _signed_generators(group: Group, factor: Factor) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Images and signs of every generator on one axis, or None if the group does not permute it up to signs."""
    if any(bool(factor.drho(group, a).abs().max() > 0) for a in group.orthonormal_algebra):
        return None
    found = [signed_images(factor.rho(group, h).numpy()) for h in group.generators]
    signed = [images for images in found if images is not None]
    return signed if len(signed) == len(found) else None


def _transpose(
    solved: Orbits | Float[np.ndarray, "size rank"], sizes: list[int], axes: list[int]
) -> Orbits | Float[np.ndarray, "size rank"]:
    if isinstance(solved, Orbits):
        labels, signs = (v.reshape(sizes).transpose(axes).reshape(-1) for v in (solved.labels, solved.signs))
        return Orbits(labels, signs).normalized()
    return np.ascontiguousarray(solved.reshape(*sizes, -1).transpose(*axes, len(sizes))).reshape(solved.shape)
