"""Lie-group elements as exponentials, and the homomorphisms that derivatives at the identity determine."""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_SHIFTS = 48
_SHIFT_PARTS = (slice(0, 1), slice(1, 8), slice(8, _SHIFTS))
_LETTERS = 16
_EXACT = 1e-8
_ROUNDED = 1e-4  # for elements that were rounded to less than float64


class IdentityComponent:
    """The elements exp(a_1) exp(a_2) ... of a matrix Lie group, with their images under a homomorphism.

    Principal logarithms need not lie in the Lie algebra, and need not exist: -1 in SL(2) has none that is generic. An
    element is therefore tried as it is and then behind fixed elements of the group that are spread over it; and where
    the algebra is closed under transposition, its positive part is split off first, g = k p with k orthogonal, since
    the positive part always has a logarithm and what is left is compact. ``algebra`` is a basis of the Lie algebra.
    """

    def __init__(self, algebra: Float[Tensor, "k d d"], images: Float[Tensor, "k s s"]) -> None:
        self.algebra, self.images = algebra, images

    def exp(self, coordinates: Float[Tensor, "n k"]) -> tuple[Float[Tensor, "n d d"], Float[Tensor, "n s s"]]:
        """Elements, and their images."""
        both = (torch.einsum("nk,kij->nij", coordinates, matrices) for matrices in (self.algebra, self.images))
        element, image = (torch.linalg.matrix_exp(exponent) for exponent in both)
        return element, image

    def coordinates(
        self, a: Float[Tensor, "n d d"], tolerance: float
    ) -> tuple[Float[Tensor, "n k"], Bool[Tensor, " n"]]:
        """Coordinates of matrices in the Lie algebra, and whether they lie in it."""
        flat = a.flatten(1)
        found = flat @ self._inverse
        misses = (found @ self.algebra.flatten(1) - flat).abs().amax(1)
        return found, misses < tolerance * (1 + flat.abs().amax(1))

    def images_of(
        self, g: Float[Tensor, "n d d"], shifts: slice | None = None, tolerance: float = _EXACT
    ) -> tuple[Float[Tensor, "n s s"], Bool[Tensor, " n"]]:
        """Images of elements that lie in the group to a tolerance, and for which they were found: by the first of the
        48 fixed elements, or of a part of them, that succeeds. The first of all is the identity.
        """
        result = g.new_zeros(len(g), *self.images.shape[1:])
        missing = self._may_hold(g, tolerance)
        outside = ~missing
        for part in _SHIFT_PARTS if shifts is None else (shifts,):
            tried = missing.nonzero()[:, 0]
            if not len(tried):
                break
            elements, images = self._shifts[0][part], self._shifts[1][part]
            behind = torch.linalg.inv(elements)[:, None] @ g[tried]
            found, exists = self._exponential_image(behind.flatten(0, 1), tolerance)
            exists = exists.unflatten(0, behind.shape[:2])
            first = exists.int().argmax(0)
            candidates = images[:, None] @ found.unflatten(0, behind.shape[:2])
            chosen = candidates[first, torch.arange(len(tried))]
            result[tried[exists.any(0)]] = chosen[exists.any(0)]
            missing[tried[exists.any(0)]] = False
        return result, ~(missing | outside)

    def _may_hold(self, g: Float[Tensor, "n d d"], tolerance: float) -> Bool[Tensor, " n"]:
        """Whether elements keep what the identity component keeps: orientation, fixed vectors, commuting matrices."""
        vectors, matrices = self._kept
        allowed = tolerance * (1 + g.abs().amax((-2, -1)))
        moved = (g @ vectors - vectors).abs().flatten(1)
        commutators = (g[:, None] @ matrices - matrices @ g[:, None]).abs().flatten(1)
        largest = torch.cat([moved, commutators, torch.zeros(len(g), 1, dtype=torch.float64)], dim=1).amax(1)
        return (torch.linalg.det(g) > 0) & (largest < allowed)

    @cached_property
    def _kept(self) -> tuple[Float[Tensor, "d fixed"], Float[Tensor, "commuting d d"]]:
        """The vectors that the Lie algebra annihilates, and the matrices that commute with it."""
        d = self.algebra.shape[-1]
        identity = torch.eye(d, dtype=torch.float64)
        commutator = [torch.kron(a, identity) - torch.kron(identity, a.mT.contiguous()) for a in self.algebra]
        zero = torch.zeros(1, d * d, dtype=torch.float64)
        fixed = _null_rows(torch.cat([torch.zeros(1, d, dtype=torch.float64), *self.algebra]).mT)
        return fixed.mT, _null_rows(torch.cat([zero, *commutator]).mT).reshape(-1, d, d)

    def _exponential_image(self, g: Tensor, tolerance: float) -> tuple[Float[Tensor, "n s s"], Bool[Tensor, " n"]]:
        if not self._is_self_adjoint:
            return self._principal_image(g, tolerance)
        left, scales, right = torch.linalg.svd(g)
        stretch = right.mT @ (scales.clamp_min(1e-300).log()[:, :, None] * right)
        symmetric, inside = self.coordinates(stretch, tolerance)
        rotation, exists = self._principal_image(left @ right, tolerance)
        return rotation @ self.exp(symmetric)[1], inside & exists

    def _principal_image(self, g: Tensor, tolerance: float) -> tuple[Float[Tensor, "n s s"], Bool[Tensor, " n"]]:
        logarithms, exists = _logarithms(g, tolerance)
        found, inside = self.coordinates(logarithms, tolerance)
        return self.exp(found)[1], exists & inside

    @cached_property
    def _inverse(self) -> Float[Tensor, "dd k"]:
        return torch.linalg.pinv(self.algebra.flatten(1))

    @cached_property
    def _is_self_adjoint(self) -> bool:
        return bool(self.coordinates(self.algebra.mT, _EXACT)[1].all())

    @cached_property
    def _shifts(self) -> tuple[Float[Tensor, "shift d d"], Float[Tensor, "shift s s"]]:
        """Products of exponentials of the antisymmetric elements, or of all if there are none; and their images."""
        generator = torch.Generator().manual_seed(0)
        compact = _null_rows((self.algebra + self.algebra.mT).flatten(1))
        # Far around the compact directions, so that closed paths are among them; not far along the others.
        letters = 8 * compact if len(compact) else 0.6 * torch.eye(len(self.algebra), dtype=torch.float64)
        elements = torch.eye(self.algebra.shape[-1], dtype=torch.float64).repeat(_SHIFTS, 1, 1)
        images = torch.eye(self.images.shape[-1], dtype=torch.float64).repeat(_SHIFTS, 1, 1)
        for _ in range(_LETTERS):
            c = torch.randn(_SHIFTS - 1, len(letters), generator=generator, dtype=torch.float64) @ letters
            element, image = self.exp(c)
            elements[1:], images[1:] = elements[1:] @ element, images[1:] @ image
        return elements, images


def tolerance_of(g: Tensor) -> float:
    """How far an element of this type may be from the group."""
    return _EXACT if g.dtype == torch.float64 else _ROUNDED


def _null_rows(matrix: Float[Tensor, "k n"]) -> Float[Tensor, "null k"]:
    values, vectors = torch.linalg.eigh(matrix @ matrix.mT)
    return vectors[:, values < 1e-12 * max(1.0, float(values.max()) if len(values) else 1.0)].mT


def _logarithms(g: Float[Tensor, "n d d"], tolerance: float) -> tuple[Float[Tensor, "n d d"], Bool[Tensor, " n"]]:
    """Principal logarithms, and whether they are real and exact."""
    identity = torch.eye(g.shape[-1], dtype=torch.float64)
    near_one = (g - identity).abs().amax((-2, -1)) < 1e-14
    values, vectors = torch.linalg.eig(g)
    independent = torch.linalg.det(vectors).abs() > 1e-10
    safe = torch.where(independent[:, None, None], vectors, identity.to(vectors))
    logarithms = torch.linalg.solve(safe.mT, (safe * values.log()[:, None, :]).mT).mT
    real = torch.where(near_one[:, None, None], 0.0, torch.nan_to_num(logarithms.real))
    exact = (torch.linalg.matrix_exp(real) - g).abs().amax((-2, -1)) < tolerance * g.abs().amax((-2, -1))
    return real, near_one | (exact & (logarithms.imag.abs().amax((-2, -1)) < tolerance))
