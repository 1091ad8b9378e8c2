"""Coordinates in which a compact group of matrices acts by orthogonal ones.

A compact group keeps an inner product x^T M x, the average of any one over the group. With M = S^T S the matrices
S g S^-1 are orthogonal (Weyl's unitary trick). Units and skewed axes then make no difference to ranks and tolerances.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import scipy
from jaxtyping import Float

Matrix = Float[np.ndarray, "n n"]

_UNIT_CIRCLE = 1e-6  # by how much the logarithm of an eigenvalue's modulus may differ from 0
_NEAR_UNIT_CIRCLE = 1e-3
_ROUGH = 1e-2  # from here on least squares leads to the invariant inner product
_LARGEST_MISS = 1e-7
_DOUBLINGS = 10
_CYCLES = 40
_LARGEST_CONDITION = 1e8  # of the equations: rounding is not magnified further


def orthogonal_coordinates(algebra: Sequence[Matrix], generators: Sequence[Matrix]) -> Matrix | None:
    """A matrix S such that S g S^-1 is orthogonal for every generator g and S a S^-1 antisymmetric for every a of the
    Lie algebra; None if there is none, because the group is not compact.
    """
    change = nearly_orthogonal_coordinates(algebra, generators, _UNIT_CIRCLE)
    if change is None:
        return None
    with suppress(np.linalg.LinAlgError):  # of a correction that is rounding alone
        for _ in range(2):
            change = _fitted(change, algebra, generators)
    misses = [_gram_miss(matrix) for matrix in conjugated(change, generators)]
    turned = conjugated(change, algebra)
    misses += [np.abs(a + a.T).max() / max(np.abs(a).max(), 1e-300) for a in turned]
    return change if max(misses) < _LARGEST_MISS else None


def nearly_orthogonal_coordinates(
    algebra: Sequence[Matrix], generators: Sequence[Matrix], largest_growth: float = _NEAR_UNIT_CIRCLE
) -> Matrix | None:
    """A matrix S such that S g S^-1 is orthogonal to two digits, for a group that is compact or, such as a generator
    with a small mistake, misses it by little: by the logarithms of its eigenvalues' moduli. None if there is none.
    """
    letters = [*generators, *_exponentials(algebra)]
    if not letters or not all(np.isfinite(letter).all() for letter in letters):
        return None
    moduli = np.abs([np.linalg.eigvals(letter) for letter in letters])
    if not (np.abs(np.log(moduli.clip(min=1e-300))) <= largest_growth).all():
        return None
    try:
        with np.errstate(over="raise", invalid="raise"):
            return _averaged(np.eye(len(letters[0])), letters)
    except (np.linalg.LinAlgError, FloatingPointError):
        return None


def largest_stretch(algebra: Sequence[Matrix], generators: Sequence[Matrix]) -> float:
    """How much longer an element can make a vector: by generators, and elements of the Lie algebra that turn their
    fastest plane by one radian. Of orthogonal matrices it is 1.
    """
    return max((float(np.linalg.norm(letter, 2)) for letter in (*generators, *_exponentials(algebra))), default=1.0)


def conjugated(change: Matrix, matrices: Sequence[Matrix]) -> list[Matrix]:
    """S m S^-1 for each matrix m."""
    inverse = np.linalg.inv(change)
    return [change @ matrix @ inverse for matrix in matrices]


def _exponentials(algebra: Sequence[Matrix]) -> list[Matrix]:
    """One-parameter subgroups, by an element each that turns its fastest plane by one radian."""
    elements = [a for a in algebra if a.any()]
    rates = [np.abs(np.linalg.eigvals(a)).max() for a in elements]
    return [scipy.linalg.expm(a / rate if rate else a) for a, rate in zip(elements, rates, strict=True)]


def _averaged(change: Matrix, letters: Sequence[Matrix]) -> Matrix | None:
    """Average the inner product over 2^10 powers of every letter in turn, until all letters nearly keep it."""
    for _ in range(_CYCLES):
        turned = conjugated(change, letters)
        if max(_gram_miss(letter) for letter in turned) < _ROUGH:
            return change
        form = np.eye(len(change))
        for letter in turned:
            power = letter
            for _ in range(_DOUBLINGS):
                form = (form + power.T @ form @ power) / 2
                power = power @ power
        change = _root(form) @ change
    return None


def _fitted(change: Matrix, algebra: Sequence[Matrix], generators: Sequence[Matrix]) -> Matrix:
    """Correct the inner product by the least change 1 + E that the group keeps: a linear problem, nearly orthogonal."""
    n, turned = len(change), conjugated(change, generators)
    derivatives = [a / np.linalg.norm(a) for a in conjugated(change, algebra) if a.any()]

    def misses(form: np.ndarray) -> np.ndarray:
        form = form.reshape(n, n)
        parts = [g.T @ form @ g - form for g in turned] + [a.T @ form + form @ a for a in derivatives]
        return np.array(parts).ravel()

    def adjoint(values: np.ndarray) -> np.ndarray:
        parts = values.reshape(-1, n, n)
        result = sum((g @ p @ g.T - p for g, p in zip(turned, parts[: len(turned)], strict=True)), np.zeros((n, n)))
        pairs = zip(derivatives, parts[len(turned) :], strict=True)
        return sum((a @ p + p @ a.T for a, p in pairs), result).ravel()

    rows = (len(turned) + len(derivatives)) * n * n
    equations = scipy.sparse.linalg.LinearOperator((rows, n * n), matvec=misses, rmatvec=adjoint, dtype=float)
    limits = {"atol": 1e-15, "btol": 1e-15, "conlim": _LARGEST_CONDITION}
    correction = scipy.sparse.linalg.lsmr(equations, -misses(np.eye(n)), **limits)[0]
    correction = correction.reshape(n, n)
    return _root(np.eye(n) + (correction + correction.T) / 2) @ change


def _gram_miss(matrix: Matrix) -> float:
    """By how much a matrix is not orthogonal, against how far it is from the identity, which any shear comes close to
    in some coordinates.
    """
    one = np.eye(len(matrix))
    step = float(np.abs(matrix - one).max())
    return float(np.abs(matrix.T @ matrix - one).max()) / step if step else 0.0


def _root(form: Matrix) -> Matrix:
    """The triangular R with R^T R = form, up to a factor."""
    return scipy.linalg.cholesky(form * (len(form) / np.trace(form)))
