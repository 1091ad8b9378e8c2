"""The tensors that one generic element of a group leaves alone, in the eigenvectors of that element.

In these the basis tensors whose weights add up to zero (multiply to one, for a discrete element) are left alone. For a
generic element of a reductive Lie algebra they are the zero-weight space of a maximal torus: 1,107 of the 6,561 tensors
of eight axes under SO(3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy
from jaxtyping import Complex, Float, Int

Matrix = Float[np.ndarray, "n n"]

_NULL_TOLERANCE = 1e-9
_WEIGHT_TOLERANCE = 1e-8
_NORMAL_TOLERANCE = 1e-11


@dataclass(frozen=True)
class EigenAxis:
    """A real normal matrix R B diag(values) (R B)^H, R real orthogonal, B unitary with at most two entries a column."""

    values: Complex[np.ndarray, " n"]
    blocks: Complex[np.ndarray, "n n"]
    rotation: Matrix
    conjugates: Int[np.ndarray, " n"]  # the index of the complex conjugate eigenvector

    @property
    def vectors(self) -> Complex[np.ndarray, "n n"]:
        """The eigenvectors."""
        return self.rotation @ self.blocks


@dataclass(frozen=True)
class WeightSpace:
    """The real span of the eigenbasis tensors ``selected``, which holds the conjugate of each. Where a tensor t is not
    its own conjugate t~, its real basis vectors are (t + t~)/sqrt 2 and (t - t~)/(i sqrt 2).
    """

    axes: tuple[EigenAxis, ...]
    selected: Int[np.ndarray, " count"]  # flat indices of eigenbasis tensors
    conjugates: Int[np.ndarray, " count"]  # for each, the position of its conjugate in ``selected``

    @property
    def digits(self) -> tuple[Int[np.ndarray, " count"], ...]:
        """The eigenvector of each selected tensor on every axis."""
        return np.unravel_index(self.selected, [len(axis.values) for axis in self.axes])

    @property
    def real_basis(self) -> scipy.sparse.csc_array:
        """(count, count), unitary: from real coordinates to coefficients of ``selected``."""
        here, there = np.arange(len(self.selected)), self.conjugates
        own, first = here[here == there], here[here < there]
        second, r, ones = there[first], np.sqrt(0.5), np.ones(int((here < there).sum()))
        rows = np.concatenate([own, first, second, first, second])
        columns = np.concatenate([own, first, first, second, second])
        values = np.concatenate([np.ones(len(own)), r * ones, r * ones, -1j * r * ones, 1j * r * ones])
        return scipy.sparse.csc_array((values, (rows, columns)), shape=(len(here), len(here)))

    def lift(self, coordinates: Float[np.ndarray, "count rank"]) -> Float[np.ndarray, "size rank"]:
        """Real tensors in the original basis, of real coordinates."""
        sizes = [len(axis.values) for axis in self.axes]
        rows, values = kronecker_columns([axis.blocks for axis in self.axes], self.digits)
        entries = values.ravel(), (rows.ravel(), np.repeat(np.arange(len(rows)), rows.shape[1]))
        shape = math.prod(sizes), len(self.selected)
        tensors = scipy.sparse.csr_array(entries, shape=shape) @ self.real_basis
        result = (tensors.real @ coordinates).reshape(*sizes, -1)
        for index, axis in enumerate(self.axes):
            if not np.array_equal(axis.rotation, np.eye(len(axis.rotation))):
                result = along(axis.rotation, result, index)
        return result.reshape(shape[0], -1)


def along(matrix: np.ndarray, tensors: np.ndarray, axis: int) -> np.ndarray:
    """Multiply one axis by a matrix."""
    return np.moveaxis(np.tensordot(matrix, tensors, axes=(1, axis)), 0, axis)


def kronecker_columns(
    matrices: Sequence[np.ndarray], digits: Sequence[Int[np.ndarray, " count"]]
) -> tuple[Int[np.ndarray, "count fill"], Complex[np.ndarray, "count fill"]]:
    """Rows and values of some columns of a Kronecker product, without most of their zeros."""
    count = len(digits[0]) if digits else 1
    rows, values = np.zeros((count, 1), dtype=np.int64), np.ones((count, 1), dtype=complex)
    for matrix, digit in zip(matrices, digits, strict=True):
        fill = column_fill(matrix)
        largest = np.argsort(-np.abs(matrix), axis=0, kind="stable")[:fill]  # (fill, columns)
        entries = np.take_along_axis(matrix, largest, axis=0)
        width = rows.shape[1] * fill
        rows = (rows[:, :, None] * len(matrix) + largest.T[digit][:, None, :]).reshape(count, width)
        values = (values[:, :, None] * entries.T[digit][:, None, :]).reshape(count, width)
    return rows, values


def column_fill(matrix: np.ndarray) -> int:
    """The largest number of nonzero entries in a column."""
    return int((np.abs(matrix) > 1e-14).sum(axis=0).max(initial=1))


def weight_space(
    sizes: Sequence[int], algebra: Sequence[Sequence[Matrix]], discrete: Sequence[Sequence[Matrix]]
) -> WeightSpace:
    """Tensors that a generic Lie-algebra element annihilates, else a generator keeps; rows as in TensorConstraints."""
    matrices, additive = _generic_element(sizes, algebra, discrete)
    axes = tuple(_eigen_axis(matrix.tobytes(), len(matrix)) for matrix in matrices)
    weights = np.zeros(1, dtype=complex) if additive else np.ones(1, dtype=complex)
    conjugates = np.zeros(1, dtype=np.int64)
    for axis in axes:
        combine = np.add if additive else np.multiply
        weights = combine.outer(weights, axis.values).reshape(-1)
        conjugates = np.add.outer(conjugates * len(axis.values), axis.conjugates).reshape(-1)
    selected = np.flatnonzero(np.abs(weights - (0.0 if additive else 1.0)) < _WEIGHT_TOLERANCE)
    return WeightSpace(axes, selected, np.searchsorted(selected, conjugates[selected]))


def _generic_element(
    sizes: Sequence[int], algebra: Sequence[Sequence[Matrix]], discrete: Sequence[Sequence[Matrix]]
) -> tuple[Sequence[Matrix], bool]:
    """A generic element that is normal on every axis, or zero if none is, and whether it is of the Lie algebra."""
    if algebra:
        by_axis = {tuple(m.tobytes() for m in own): axis for axis, own in enumerate(zip(*algebra, strict=True))}
        joint = [scipy.linalg.block_diag(*(row[axis] for axis in sorted(by_axis.values()))) for row in algebra]
        coefficients = _normal_combination(np.array(joint).tobytes(), len(joint), len(joint[0]))
        return [np.tensordot(coefficients, np.array(own), axes=1) for own in zip(*algebra, strict=True)], True
    normal = [row for row in discrete if all(_is_normal(matrix) for matrix in row)]
    # The generator with the most distinct eigenvalues leaves the fewest tensors alone.
    best = max(normal, key=lambda row: sum(_count_eigenvalues(m.tobytes(), len(m)) for m in row), default=None)
    return ([np.zeros((n, n)) for n in sizes], True) if best is None else (best, False)


@lru_cache(maxsize=256)
def _normal_combination(content: bytes, k: int, n: int) -> Float[np.ndarray, " k"]:
    """Coefficients of a generic normal element: a generic symmetric one plus a generic antisymmetric one that commutes
    with it. In a Lie algebra closed under transposition it generates a maximal torus. Zero, if there is none.
    """
    algebra = np.frombuffer(content).reshape(k, n, n)
    transposed = algebra.transpose(0, 2, 1)
    symmetric = _null_rows((algebra - transposed).reshape(k, -1))
    first = _generic_coefficients(len(symmetric)) @ symmetric
    element = np.tensordot(first, algebra, axes=1)
    commutators = algebra @ element - element @ algebra
    antisymmetric = _null_rows(np.concatenate([algebra + transposed, commutators]).reshape(2, k, -1).swapaxes(0, 1))
    second = _generic_coefficients(len(antisymmetric)) @ antisymmetric
    norm = np.linalg.norm(np.tensordot(first + second, algebra, axes=1))
    return (first + second) / norm if norm > 1e-8 else np.zeros(k)


def _generic_coefficients(count: int) -> Float[np.ndarray, " count"]:
    """Numbers without small rational relations, of order one: square roots of square-free numbers."""
    candidates = [n for n in range(2, 2 * count + 16) if all(n % (p * p) for p in range(2, int(n**0.5) + 1))]
    return np.sqrt(np.array(candidates[:count], dtype=float) / max(count, 1))


def _null_rows(matrix: Float[np.ndarray, "k *n"]) -> Float[np.ndarray, "null k"]:
    """Combinations of rows that vanish."""
    flat = matrix.reshape(len(matrix), -1)
    values, vectors = np.linalg.eigh(flat @ flat.T)
    return vectors[:, values < _NULL_TOLERANCE * max(1.0, values[-1])].T


@lru_cache(maxsize=256)
def _eigen_axis(content: bytes, n: int) -> EigenAxis:
    """The axis by the real Schur form, whose blocks are [[a, b], [-b, a]], with eigenvalue a + ib at (1, i)/sqrt 2."""
    form, rotation = scipy.linalg.schur(np.frombuffer(content).reshape(n, n), output="real")
    values, blocks, conjugates = form.diagonal().astype(complex), np.eye(n, dtype=complex), np.arange(n)
    for k in np.flatnonzero(np.abs(form.diagonal(-1)) > _NORMAL_TOLERANCE * max(1.0, np.abs(form).max())):
        values[k] += 1j * form[k, k + 1]
        values[k + 1] = values[k].conj()
        blocks[k : k + 2, k : k + 2] = np.array([[1, 1], [1j, -1j]]) * np.sqrt(0.5)
        conjugates[k], conjugates[k + 1] = k + 1, k
    return EigenAxis(values, blocks, rotation, conjugates)


def _is_normal(matrix: Matrix) -> bool:
    scale = max(1.0, float(np.square(matrix).sum()))
    return bool(np.abs(matrix @ matrix.T - matrix.T @ matrix).max() < _NORMAL_TOLERANCE * scale)


@lru_cache(maxsize=256)
def _count_eigenvalues(content: bytes, n: int) -> int:
    return len(np.unique(np.round(np.linalg.eigvals(np.frombuffer(content).reshape(n, n)), 6)))
