"""Tensors that Lie-algebra elements annihilate and discrete generators leave alone, in float64.

The unknowns are first cut down to the tensors that one generic element leaves alone: in its eigenvectors, those are
the basis tensors whose weights add up to zero (multiply to one, for a discrete element). For a generic element of a
reductive Lie algebra they are the zero-weight space of a maximal torus: 1,107 of the 6,561 tensors of eight axes under
SO(3). The remaining constraints are sparse there, and their normal matrix falls into independent blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Complex, Float, Int
from scipy import linalg, sparse
from scipy.sparse.csgraph import connected_components

Matrix = Float[np.ndarray, "n n"]

LARGEST_EIGENPROBLEM = 6_000
_NULL_TOLERANCE = 1e-9
_WEIGHT_TOLERANCE = 1e-8
_NORMAL_TOLERANCE = 1e-11


@dataclass(frozen=True)
class TensorConstraints:
    """What every invariant tensor satisfies: one row of ``algebra`` for each Lie-algebra element and of ``discrete``
    for each generator, holding the matrix by which it acts on each axis.
    """

    sizes: tuple[int, ...]
    algebra: tuple[tuple[Matrix, ...], ...]
    discrete: tuple[tuple[Matrix, ...], ...]

    @property
    def size(self) -> int:
        """The number of entries of a tensor."""
        return int(np.prod(self.sizes, dtype=np.int64))

    def residual(self, tensors: Float[np.ndarray, "size rank"]) -> float:
        """The largest entry by which columns miss the constraints, for elements of norm one."""
        shaped = tensors.reshape(*self.sizes, -1)
        misses = [sum(_along(m, shaped, axis) for axis, m in enumerate(row)) for row in self.algebra if row]
        misses += [self.transform(row, tensors).reshape(shaped.shape) - shaped for row in self.discrete]
        return max((float(np.abs(miss).max(initial=0.0)) for miss in misses), default=0.0)

    def transform(
        self, matrices: tuple[np.ndarray, ...], tensors: Float[np.ndarray, "size rank"]
    ) -> Float[np.ndarray, "size rank"]:
        """Act by one matrix on every axis of every column."""
        result = tensors.reshape(*self.sizes, -1)
        for axis, matrix in enumerate(matrices):
            result = _along(matrix, result, axis)
        return result.reshape(tensors.shape)


def fixed_tensors(constraints: TensorConstraints) -> Float[np.ndarray, "size rank"]:
    """An orthonormal basis, as columns, of the tensors that satisfy all constraints.

    Raises
    ------
    ValueError
        If an independent block of the equations is too large; the message says how many bytes it would take.
    """
    weights = _weight_space(constraints)
    basis = weights.lift(_annihilated(constraints, weights)) if constraints.algebra else weights.lift(None)
    for matrices in constraints.discrete:
        if not basis.shape[1]:
            break
        _check_memory(basis.shape[1])
        moved = constraints.transform(matrices, basis) - basis
        basis = basis @ _null_vectors(moved.T @ moved)
    return basis


@dataclass(frozen=True)
class _WeightSpace:
    """The real span of the eigenbasis tensors ``selected`` and their complex conjugates.

    Where a tensor t is not its own conjugate, the real basis vectors are (t + t~)/sqrt 2 and (t - t~)/(i sqrt 2).
    """

    sizes: tuple[int, ...]
    eigenvectors: tuple[Complex[np.ndarray, "n n"] | Matrix, ...]  # unitary, one for each axis
    selected: Int[np.ndarray, " count"]  # flat indices of eigenbasis tensors
    conjugate: Int[np.ndarray, " count"]  # for each, the position of its conjugate in ``selected``

    @property
    def real_basis(self) -> sparse.csr_array:
        """(count, count): unitary, from real coordinates to coefficients of ``selected``."""
        count, here, there = len(self.selected), np.arange(len(self.selected)), self.conjugate
        own, first = here[here == there], here[here < there]
        second, r = there[first], np.sqrt(0.5)
        rows = np.concatenate([own, first, second, first, second])
        columns = np.concatenate([own, first, first, second, second])
        ones = np.ones(len(first))
        values = np.concatenate([np.ones(len(own)), r * ones, r * ones, -1j * r * ones, 1j * r * ones])
        return sparse.csr_array((values, (rows, columns)), shape=(count, count))

    def lift(self, coordinates: Float[np.ndarray, "count rank"] | None) -> Float[np.ndarray, "size rank"]:
        """Real tensors in the original basis, of real coordinates; of all of them for None."""
        size, count = int(np.prod(self.sizes, dtype=np.int64)), len(self.selected)
        if all(np.array_equal(u, np.eye(len(u))) for u in self.eigenvectors):
            values = np.eye(count) if coordinates is None else coordinates
            result = np.zeros((size, values.shape[1]))
            result[self.selected] = values
            return result
        coefficients = self.real_basis @ (np.eye(count) if coordinates is None else coordinates)
        tensors = np.zeros((size, coefficients.shape[1]), dtype=complex)
        tensors[self.selected] = coefficients
        result = tensors.reshape(*self.sizes, -1)
        for axis, matrix in enumerate(self.eigenvectors):
            result = _along(matrix, result, axis)
        return np.ascontiguousarray(result.real).reshape(size, -1)


def _weight_space(constraints: TensorConstraints) -> _WeightSpace:
    found = _generic_element(constraints)
    sizes, identity = constraints.sizes, tuple(np.eye(n) for n in constraints.sizes)
    if found is None:
        everything = np.arange(constraints.size)
        return _WeightSpace(sizes, identity, everything, everything)
    matrices, additive = found
    pairs = [_eigenbasis(matrix.tobytes(), len(matrix)) for matrix in matrices]
    weights = np.zeros(1, dtype=complex) if additive else np.ones(1, dtype=complex)
    digits = np.zeros(1, dtype=np.int64)
    for values, _, conjugates in pairs:
        combine = np.add if additive else np.multiply
        weights = combine.outer(weights, values).reshape(-1)
        digits = np.add.outer(digits * len(values), conjugates).reshape(-1)
    selected = np.flatnonzero(np.abs(weights - (0.0 if additive else 1.0)) < _WEIGHT_TOLERANCE)
    position = {int(index): place for place, index in enumerate(selected)}
    conjugate = np.array([position[int(index)] for index in digits[selected]], dtype=np.int64)
    return _WeightSpace(sizes, tuple(vectors for _, vectors, _ in pairs), selected, conjugate)


def _generic_element(constraints: TensorConstraints) -> tuple[tuple[Matrix, ...], bool] | None:
    """A generic element that acts by a normal matrix on every axis, and whether it is one of the Lie algebra."""
    if constraints.algebra:
        by_axis = zip(*constraints.algebra, strict=True)
        distinct = {tuple(matrix.tobytes() for matrix in own): axis for axis, own in enumerate(by_axis)}
        axes = sorted(distinct.values())
        joint = [linalg.block_diag(*(row[axis] for axis in axes)) for row in constraints.algebra]
        coefficients = _normal_combination(np.array(joint))
        if coefficients is None:
            return None
        rows = zip(*constraints.algebra, strict=True)
        return tuple(np.tensordot(coefficients, np.array(row), axes=1) for row in rows), True
    normal = [row for row in constraints.discrete if all(_is_normal(matrix) for matrix in row)]
    # The generator with the most distinct eigenvalues leaves the fewest tensors alone.
    best = max(normal, key=lambda row: sum(len(_distinct_eigenvalues(m)) for m in row), default=None)
    return None if best is None else (best, False)


def _normal_combination(algebra: Float[np.ndarray, "k n n"]) -> Float[np.ndarray, " k"] | None:
    """Coefficients of a generic normal element: a generic symmetric one plus a generic antisymmetric one that commutes
    with it. In a Lie algebra closed under transposition it generates a maximal torus.
    """
    symmetric = _null_rows((algebra - algebra.transpose(0, 2, 1)).reshape(len(algebra), -1))
    first = _generic_coefficients(len(symmetric)) @ symmetric
    element = np.tensordot(first, algebra, axes=1)
    commutators = algebra @ element - element @ algebra
    conditions = [(algebra + algebra.transpose(0, 2, 1)), commutators]
    antisymmetric = _null_rows(np.concatenate([c.reshape(len(algebra), -1) for c in conditions], axis=1))
    second = _generic_coefficients(len(antisymmetric)) @ antisymmetric
    total = np.tensordot(first + second, algebra, axes=1)
    norm = np.linalg.norm(total)
    return (first + second) / norm if norm > 1e-8 else None


def _generic_coefficients(count: int) -> Float[np.ndarray, " count"]:
    """Numbers without small rational relations: square roots of square-free numbers, of order one."""
    candidates = [n for n in range(2, 4 * count + 8) if all(n % (p * p) for p in range(2, int(n**0.5) + 1))]
    return np.sqrt(np.array(candidates[:count], dtype=float)) / np.sqrt(max(candidates[count - 1 : count], default=1))


def _null_rows(matrix: Float[np.ndarray, "k n"]) -> Float[np.ndarray, "null k"]:
    """Combinations of rows that vanish."""
    values, vectors = np.linalg.eigh(matrix @ matrix.T)
    return vectors[:, values < _NULL_TOLERANCE * max(1.0, values[-1])].T


@lru_cache(maxsize=256)
def _eigenbasis(content: bytes, n: int) -> tuple[np.ndarray, np.ndarray, Int[np.ndarray, " n"]]:
    """Eigenvalues and eigenvectors of a real normal matrix, and for each the index of its complex conjugate.

    Its real Schur form has blocks [[a, b], [-b, a]], with eigenvalue a + ib at (1, i)/sqrt 2.
    """
    form, basis = linalg.schur(np.frombuffer(content).reshape(n, n), output="real")
    values, vectors, conjugates = form.diagonal().astype(complex), basis.astype(complex), np.arange(n)
    for k in np.flatnonzero(np.abs(form.diagonal(-1)) > _NORMAL_TOLERANCE * max(1.0, np.abs(form).max())):
        values[k] += 1j * form[k, k + 1]
        vectors[:, k] = (basis[:, k] + 1j * basis[:, k + 1]) * np.sqrt(0.5)
        values[k + 1], vectors[:, k + 1] = values[k].conj(), vectors[:, k].conj()
        conjugates[k], conjugates[k + 1] = k + 1, k
    return values, (vectors if vectors.imag.any() else basis), conjugates


def _annihilated(constraints: TensorConstraints, weights: _WeightSpace) -> Float[np.ndarray, "count rank"]:
    """Real coordinates of the tensors of a weight space that the whole Lie algebra annihilates."""
    count, digits = len(weights.selected), np.unravel_index(weights.selected, constraints.sizes)
    strides = np.cumprod((1, *constraints.sizes[:0:-1]))[::-1]
    rows, columns, values = [], [], []
    for k, element in enumerate(constraints.algebra):
        for matrix, vectors, digit, stride in zip(element, weights.eigenvectors, digits, strides, strict=True):
            rotated = vectors.conj().T @ matrix @ vectors
            entries = rotated[:, digit]  # (new digit, count)
            new, column = np.nonzero(np.abs(entries) > 1e-14)
            rows.append(k * constraints.size + weights.selected[column] + (new - digit[column]) * stride)
            columns.append(column)
            values.append(entries[new, column])
    shape = (len(constraints.algebra) * constraints.size, count)
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    equations = sparse.csc_array(sparse.coo_array(entries, shape=shape)) @ weights.real_basis.tocsc()
    return _sparse_null_vectors((equations.conj().T @ equations).real.tocsr())


def _sparse_null_vectors(normal: sparse.csr_array) -> Float[np.ndarray, "n rank"]:
    """The null space of a positive semidefinite matrix, one connected component of its graph at a time."""
    normal.data[np.abs(normal.data) < 1e-13 * max(1.0, np.abs(normal.data).max(initial=0.0))] = 0.0
    normal.eliminate_zeros()
    _, labels = connected_components(normal, directed=False)
    order = np.argsort(labels, kind="stable")
    blocks = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    _check_memory(max(map(len, blocks)))
    free = [block[0] for block in blocks if len(block) == 1 and not normal[block[0], block[0]]]
    found = [(np.array([index]), np.ones((1, 1))) for index in free]
    for block in blocks:
        if len(block) > 1:
            found.append((block, _null_vectors(normal[block][:, block].toarray())))
    result = np.zeros((normal.shape[0], sum(vectors.shape[1] for _, vectors in found)))
    start = 0
    for block, vectors in found:
        result[block, start : start + vectors.shape[1]] = vectors
        start += vectors.shape[1]
    return result


def _null_vectors(normal: Matrix) -> Float[np.ndarray, "n rank"]:
    bound = np.abs(normal).sum(axis=0).max(initial=0.0)
    return linalg.eigh(normal, subset_by_value=(-np.inf, _NULL_TOLERANCE * max(1.0, bound)), check_finite=False)[1]


def _check_memory(size: int) -> None:
    if size > LARGEST_EIGENPROBLEM:
        raise ValueError(
            f"these invariants need an eigenproblem of size {size:,}, about {24 * size**2:,} bytes (the limit is "
            f"{24 * LARGEST_EIGENPROBLEM**2:,}). Use pieces of lower rank: maps from T(p) to T(q) have p + q axes."
        )


def _along(matrix: np.ndarray, tensors: np.ndarray, axis: int) -> np.ndarray:
    """Multiply one axis by a matrix."""
    return np.moveaxis(np.tensordot(matrix, tensors, axes=(1, axis)), 0, axis)


def _is_normal(matrix: Matrix) -> bool:
    return bool(np.abs(matrix @ matrix.T - matrix.T @ matrix).max() < _NORMAL_TOLERANCE)


def _distinct_eigenvalues(matrix: Matrix) -> np.ndarray:
    return np.unique(np.round(np.linalg.eigvals(matrix), 6))
