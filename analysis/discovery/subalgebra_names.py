"""Known Lie algebras of matrices, recognised up to a change of coordinates, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.discovery.subalgebra import Subalgebra
from analysis.discovery.subspaces import principal_angles

_NEAR = 0.2  # radians, and relative size: what is further away is not called by the name
_LARGEST_CONDITION = 30.0  # of coordinates that are still called coordinates

Matrices = Float[Tensor, "r d d"]


class Known(NamedTuple):
    """A known algebra near one that was found.

    Attributes
    ----------
    words : what it consists of.
    algebra : it, exactly.
    angle : the largest principal angle between the two, in radians.
    """

    words: str
    algebra: Subalgebra
    angle: float


def recognise(found: Subalgebra) -> Known | None:
    """The known algebra near a subspace of matrices: rotations; rotations and boosts that keep a quadratic form of
    signature (p, q), so(p, q); symplectic matrices; those of trace 0, or all; each of them on a subspace or on all of
    R^d, alone or with the scalings of all axes. None if none is within 11 degrees.

    A quadratic or symplectic form B that the algebra keeps, a^T B + B a = 0 for all a, is found as the singular vector
    of these linear equations with the smallest singular value; the algebra of B is then all B^-1 s with antisymmetric
    (symplectic: symmetric) s.

    Examples
    --------
    >>> algebra = 2**0.5 * SO(3).orthonormal_algebra
    >>> recognise(Subalgebra(algebra, torch.eye(3, dtype=torch.float64)[:, :1])).words
    'rotations about (1.00, 0.00, 0.00)'
    """
    if found.dimension == 0:
        return Known("nothing but the identity", found, 0.0)
    for words, matrices in _candidates(found.matrices):
        if len(matrices) != found.dimension:
            continue
        coordinates = torch.einsum("kij,rij->kr", found.directions, matrices) / 2
        lengths = torch.linalg.matrix_norm(matrices) / 2**0.5
        if coordinates.square().sum() < (1 - 1e-6) * lengths.square().sum():
            continue  # not all of it is among the directions
        algebra = Subalgebra(found.directions, torch.linalg.qr(coordinates).Q)
        angle = float(principal_angles(algebra.basis, found.basis)[0])
        if angle < _NEAR:
            return Known(words, algebra, angle)
    return None


def _candidates(matrices: Matrices) -> Iterator[tuple[str, Matrices]]:
    """Algebras of known names that the matrices may span, the most special ones first."""
    d = matrices.shape[-1]
    yield from _on_their_image(matrices)
    yield from _on_all(matrices)  # in coordinates so skew that they seem to reach less
    scaling = (2 / d) ** 0.5 * torch.eye(d, dtype=matrices.dtype)
    shares = torch.einsum("rij,ij->r", matrices, scaling) / 2
    if shares.norm() < 1 - _NEAR**2:
        return
    others = torch.linalg.qr(shares[:, None], mode="complete").Q[:, 1:]
    if not others.shape[1]:
        yield "scalings of all axes", scaling[None]
        return
    for words, rest in _on_their_image(torch.einsum("rs,rij->sij", others, matrices)):
        yield f"{words}, and scalings of all axes", torch.cat([rest, scaling[None]])


def _on_their_image(matrices: Matrices) -> Iterator[tuple[str, Matrices]]:
    """Algebras on the subspace that the matrices reach, which leave a complement as it is."""
    d = matrices.shape[-1]
    image, sizes, _ = torch.linalg.svd(matrices.transpose(0, 1).flatten(1), full_matrices=True)
    fixed = torch.linalg.svd(matrices.flatten(0, 1)).Vh.mT
    w = int((sizes > _NEAR * sizes[0]).sum())
    image, fixed = (image[:, :w], fixed[:, w:]) if w < d else (torch.eye(d, dtype=matrices.dtype), fixed[:, w:])
    both = torch.cat([image, fixed], dim=1)
    if torch.linalg.cond(both) > _LARGEST_CONDITION:
        return
    onto = torch.linalg.inv(both)[:w]
    place = "" if w == d else f" of the space {_spanned(image)}"
    for words, inner in _on_all(onto @ matrices @ image):
        if words == "rotations" and (w, d) == (2, 3):
            yield f"rotations about {vector_words(fixed[:, 0])}", image @ inner @ image.mT
        yield words + place, image @ inner @ onto


def _on_all(matrices: Matrices) -> Iterator[tuple[str, Matrices]]:
    """Algebras on R^w that no smaller space contains."""
    count, w, _ = matrices.shape
    symmetric, antisymmetric = _symmetric(w), _antisymmetric(w)
    if count == w * (w - 1) // 2:
        yield "rotations", antisymmetric
        form = _kept_form(matrices, symmetric)
        values = torch.linalg.eigvalsh(form)
        if values.abs().max() < _LARGEST_CONDITION**2 * values.abs().min():
            positive = int((values > 0).sum())
            form, positive = (form, positive) if 0 < 2 * positive <= w or positive == w else (-form, w - positive)
            kind = f"so({positive}, {w - positive})" if positive < w else "rotations in other coordinates"
            yield f"{kind}, of the form {_form(form)}", torch.linalg.solve(form, antisymmetric)
    if count == w * w:
        yield "stretches" if w == 1 else "all matrices", torch.cat([symmetric, antisymmetric])
    if count == w * w - 1:
        yield "matrices of trace 0", torch.cat([_traceless(symmetric), antisymmetric])
    if count == w * (w + 1) // 2 and w % 2 == 0:
        form = _kept_form(matrices, antisymmetric)
        if torch.linalg.cond(form) < _LARGEST_CONDITION**2:
            yield f"sp({w // 2}), of a symplectic form", torch.linalg.solve(form, symmetric)


def _kept_form(matrices: Matrices, forms: Float[Tensor, "count d d"]) -> Float[Tensor, "d d"]:
    """Of some bilinear forms, the combination that is changed least."""
    changed = matrices.mT[:, None] @ forms + forms @ matrices[:, None]
    best = torch.linalg.svd(changed.transpose(0, 1).flatten(1).mT).Vh[-1]
    return torch.einsum("c,cij->ij", best, forms)


def _symmetric(d: int) -> Float[Tensor, "count d d"]:
    """Orthonormal symmetric matrices."""
    return torch.stack([_pair(d, i, j, 1.0) for i in range(d) for j in range(i, d)])


def _antisymmetric(d: int) -> Float[Tensor, "count d d"]:
    pairs = [_pair(d, i, j, -1.0) for i in range(d) for j in range(i + 1, d)]
    return torch.stack(pairs) if pairs else torch.zeros(0, d, d, dtype=torch.float64)


def _pair(d: int, i: int, j: int, sign: float) -> Float[Tensor, "d d"]:
    result = torch.zeros(d, d, dtype=torch.float64)
    result[j, i], result[i, j] = sign, 1.0
    return result * (2**0.5 if i == j else 1.0)


def _traceless(matrices: Matrices) -> Matrices:
    """An orthonormal basis of the span's part of trace 0."""
    traces = matrices.diagonal(dim1=1, dim2=2).sum(1)
    others = torch.linalg.qr(traces[:, None], mode="complete").Q[:, 1:]
    return torch.einsum("rs,rij->sij", others, matrices)


def _form(form: Float[Tensor, "d d"]) -> str:
    """A quadratic form in words, up to a factor."""
    scaled = form / form.abs().max()
    if (scaled - scaled.diagonal().diag()).abs().max() < _NEAR:
        return f"diag{_numbers(scaled.diagonal())}"
    return "[" + ", ".join(_numbers(row) for row in scaled) + "]"


def _spanned(image: Float[Tensor, "d w"]) -> str:
    """A subspace in words, by axes where it has no others."""
    axes = (image.square().sum(1) > 1 - _NEAR**2).nonzero().flatten().tolist()
    if len(axes) == image.shape[1]:
        return f"of {'axis' if len(axes) == 1 else 'axes'} {', '.join(map(str, axes))}"
    return f"spanned by {', '.join(vector_words(column) for column in image.mT)}"


def vector_words(vector: Float[Tensor, " d"]) -> str:
    """A vector up to its sign, its last large entry positive."""
    large = vector[vector.abs() > 0.5 * vector.abs().max()]
    return _numbers(vector * large[-1].sign())


def _numbers(numbers: Float[Tensor, " count"]) -> str:
    return "(" + ", ".join(f"{number:.2f}".replace("-0.00", "0.00") for number in numbers.tolist()) + ")"
