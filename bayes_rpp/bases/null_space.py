"""Tensors that Lie-algebra elements annihilate and discrete generators leave alone, in float64.

The unknowns are first cut down to a weight space (see ``weight_spaces``). There the constraints are sparse, and their
normal matrix falls into independent blocks. Generators that are dense there come last, on what is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Complex, Float, Int

from bayes_rpp.bases.signed_orbits import check_bytes
from bayes_rpp.bases.weight_spaces import Matrix, WeightSpace, along, column_fill, kronecker_columns, weight_space

_LARGEST_EIGENPROBLEM = 24 * 6_000**2  # bytes
_NULL_TOLERANCE = 1e-9
_CLEARLY_NONZERO = 1e-6
_SMALLEST_STEP = 1e-6  # of a generator, against the identity: below it rounding would be taken for a miss
_LARGEST_FILL = 64


@dataclass(frozen=True)
class TensorConstraints:
    """What every invariant tensor satisfies; a row holds the matrix by which an element acts on each axis."""

    sizes: tuple[int, ...]
    algebra: tuple[tuple[Matrix, ...], ...]  # a row for each Lie-algebra element
    discrete: tuple[tuple[Matrix, ...], ...]  # a row for each generator

    @property
    def size(self) -> int:
        """The number of entries of a tensor."""
        return math.prod(self.sizes)

    def misses(self, tensors: Float[np.ndarray, "size rank"]) -> list[Float[np.ndarray, "size rank"]]:
        """By how much columns miss the constraints, one array for each element; of an element that hardly moves any
        tensor, relative to how far it moves them.
        """
        shaped, found = tensors.reshape(*self.sizes, -1), []
        for row, size in zip(self.algebra, self._speeds, strict=True):
            moved = sum((along(m, shaped, axis) for axis, m in enumerate(row)), np.zeros_like(shaped))
            found.append(moved.reshape(tensors.shape) / (min(1.0, size) or 1.0))
        for row in self.discrete:
            step = sum(_norm_bound(m - np.eye(len(m))) for m in row)
            found.append((self.transform(row, tensors) - tensors) / min(1.0, max(step, _SMALLEST_STEP)))
        return found

    @property
    def _speeds(self) -> list[float]:
        """A bound of the norm of every Lie-algebra element on tensors."""
        return [sum(_norm_bound(matrix) for matrix in row) for row in self.algebra]

    @property
    def _bounds(self) -> list[float]:
        """The same, and a bound of the norm of every generator."""
        return self._speeds + [math.prod(_norm_bound(matrix) for matrix in row) for row in self.discrete]

    @property
    def largest_bound(self) -> float:
        """The largest of these bounds, at least 1."""
        return max(1.0, *self._bounds)

    def residual(self, tensors: Float[np.ndarray, "size rank"]) -> float:
        """The largest entry of ``misses``."""
        return max((float(np.abs(miss).max(initial=0.0)) for miss in self.misses(tensors)), default=0.0)

    def relative_residual(self, tensors: Float[np.ndarray, "size rank"]) -> float:
        """The same, each miss relative to the largest that the element can make of unit tensors, if that is over 1."""
        misses = (float(np.abs(miss).max(initial=0.0)) for miss in self.misses(tensors))
        return max((miss / max(1.0, size) for miss, size in zip(misses, self._bounds, strict=True)), default=0.0)

    def transform(
        self, matrices: tuple[Matrix, ...], tensors: Float[np.ndarray, "size rank"]
    ) -> Float[np.ndarray, "size rank"]:
        """Act by one matrix on every axis of every column."""
        result = tensors.reshape(*self.sizes, -1)
        for axis, matrix in enumerate(matrices):
            result = along(matrix, result, axis)
        return result.reshape(tensors.shape)


def fixed_tensors(constraints: TensorConstraints) -> Float[np.ndarray, "size rank"]:
    """An orthonormal basis, as columns, of the tensors that satisfy all constraints. Raises ValueError if an
    independent block of the equations is too large, with the bytes that it would take.
    """
    basis = _candidates(constraints)
    if constraints.residual(basis) <= _NULL_TOLERANCE:
        return basis
    # The normal equations square small singular values, such as those of a slow turn, and take them for zero.
    misses = np.concatenate(constraints.misses(basis))
    _, values, right = np.linalg.svd(np.linalg.qr(misses, mode="r"))
    # A large element makes a large miss of what is an invariant but for the rounding of the equations.
    clear = ((values < _NULL_TOLERANCE) | (values > _CLEARLY_NONZERO * constraints.largest_bound)).all()
    return basis @ right[values < _NULL_TOLERANCE].T if clear else basis


def _candidates(constraints: TensorConstraints) -> Float[np.ndarray, "size rank"]:
    """The tensors that satisfy all constraints, and some that nearly do."""
    check_bytes(64 * constraints.size, f"tensors of {constraints.size:,} entries")
    weights = weight_space(constraints.sizes, constraints.algebra, constraints.discrete)
    entries = len(weights.selected) * sum(constraints.sizes) * max(len(constraints.algebra), 1)
    check_bytes(64 * entries, f"the equations of {len(weights.selected):,} unknowns")
    if not len(weights.selected):
        return np.zeros((constraints.size, 0))
    normal = scipy.sparse.csc_array((len(weights.selected),) * 2, dtype=complex)
    if constraints.algebra:
        normal = normal + _normal_matrix(_algebra_equations(constraints, weights))
    dense = []
    for matrices in constraints.discrete:
        rotated = [axis.vectors.conj().T @ m @ axis.vectors for m, axis in zip(matrices, weights.axes, strict=True)]
        if math.prod(column_fill(matrix) for matrix in rotated) <= _LARGEST_FILL:
            normal = normal + _normal_matrix(_generator_equations(rotated, constraints.size, weights))
        else:
            dense.append(matrices)
    blocks = _sparse_null_vectors(weights.real_basis.conj().T @ normal @ weights.real_basis)
    check_basis_bytes(constraints.size, sum(vectors.shape[1] for _, vectors in blocks))
    basis = weights.lift(_assembled(blocks, len(weights.selected)))
    for matrices in dense:
        _check_eigenproblem(basis.shape[1])
        moved = constraints.transform(matrices, basis) - basis
        basis = basis @ _null_vectors(moved.T @ moved)
    return basis


def _algebra_equations(constraints: TensorConstraints, weights: WeightSpace) -> scipy.sparse.csc_array:
    """The Lie algebra's action on the selected tensors, element below element: sums over axes."""
    rows, columns, values = [], [], []
    strides = [math.prod(constraints.sizes[axis + 1 :]) for axis in range(len(constraints.sizes))]
    vectors = [axis.vectors for axis in weights.axes]
    for k, element in enumerate(constraints.algebra):
        for matrix, u, digit, stride in zip(element, vectors, weights.digits, strides, strict=True):
            entries = (u.conj().T @ matrix @ u)[:, digit]  # (new digit, count)
            new, column = np.nonzero(np.abs(entries) > 1e-14)
            rows.append(k * constraints.size + weights.selected[column] + (new - digit[column]) * stride)
            columns.append(column)
            values.append(entries[new, column])
    shape = len(constraints.algebra) * constraints.size, len(weights.selected)
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return scipy.sparse.csc_array(entries, shape=shape)


def _generator_equations(
    rotated: list[Complex[np.ndarray, "n n"]], size: int, weights: WeightSpace
) -> scipy.sparse.csc_array:
    """A generator's action on the selected tensors, less the tensors themselves."""
    rows, values = kronecker_columns(rotated, weights.digits)
    here = np.arange(len(weights.selected))
    indices = np.append(rows, weights.selected), np.append(np.repeat(here, rows.shape[1]), here)
    return scipy.sparse.csc_array((np.append(values, np.full(len(here), -1.0)), indices), shape=(size, len(here)))


def _normal_matrix(equations: scipy.sparse.csc_array) -> scipy.sparse.csc_array:
    return (equations.conj().T @ equations).tocsc()


Block = tuple[Int[np.ndarray, " size"], Float[np.ndarray, "size rank"]]
"""Null vectors, and the indices of their entries."""


def _sparse_null_vectors(normal: scipy.sparse.csc_array) -> list[Block]:
    """The null space of a real positive semidefinite matrix, block by block: one for each component of its graph."""
    entries = normal.tocoo()
    values = entries.data.real
    kept = np.abs(values) > 1e-13 * max(1.0, np.abs(values).max(initial=0.0))
    (rows, columns), values = (index[kept] for index in entries.coords), values[kept]
    n = normal.shape[0]
    graph = scipy.sparse.coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(n, n))
    _, labels = scipy.sparse.csgraph.connected_components(graph, directed=False)
    sizes = np.bincount(labels, minlength=1)
    _check_eigenproblem(int(sizes.max()))
    order = np.argsort(labels, kind="stable")
    starts = np.cumsum(sizes) - sizes
    inside = np.empty(n, dtype=np.int64)
    inside[order] = np.arange(n) - np.repeat(starts, sizes)
    found: list[Block] = []
    for size in np.unique(sizes):
        blocks = np.flatnonzero(sizes == size)
        chosen = np.flatnonzero(sizes[labels[rows]] == size)
        dense = np.zeros((len(blocks), size, size))
        which = np.searchsorted(blocks, labels[rows[chosen]])
        dense[which, inside[rows[chosen]], inside[columns[chosen]]] = values[chosen]
        found += _block_null_vectors(dense, order[starts[blocks][:, None] + np.arange(size)])
    return found


def _block_null_vectors(
    blocks: Float[np.ndarray, "count size size"], indices: Int[np.ndarray, "count size"]
) -> list[Block]:
    """The null vectors of equally large blocks."""
    if len(blocks) == 1:
        return [(indices[0], _null_vectors(blocks[0]))]
    eigenvalues, vectors = np.linalg.eigh(blocks)
    bound = np.abs(blocks).sum(axis=1).max(axis=1, initial=1.0)
    null = eigenvalues < _NULL_TOLERANCE * bound[:, None]
    return [(indices[k], vectors[k][:, null[k]]) for k in np.flatnonzero(null.any(axis=1))]


def _assembled(blocks: list[Block], n: int) -> Float[np.ndarray, "n rank"]:
    result, start = np.zeros((n, sum(vectors.shape[1] for _, vectors in blocks))), 0
    for indices, vectors in blocks:
        stop = start + vectors.shape[1]
        result[indices, start:stop] = vectors
        start = stop
    return result


def _norm_bound(matrix: Matrix) -> float:
    """The bound sqrt(|M|_1 |M|_inf) of the spectral norm, which is that of permutations."""
    sizes = np.abs(matrix)
    return math.sqrt(float(sizes.sum(axis=0).max(initial=0.0)) * float(sizes.sum(axis=1).max(initial=0.0)))


def _null_vectors(normal: Matrix) -> Float[np.ndarray, "n rank"]:
    bound = np.abs(normal).sum(axis=0).max(initial=1.0)
    # Divide and conquer: the drivers that find a part of the spectrum may lose orthogonality among equal eigenvalues.
    values, vectors = scipy.linalg.eigh(normal, driver="evd", check_finite=False)
    return vectors[:, values <= _NULL_TOLERANCE * bound]


def _check_eigenproblem(size: int) -> None:
    check_bytes(24 * size**2, f"an eigenproblem of size {size:,}, which these invariants need,", _LARGEST_EIGENPROBLEM)


def check_basis_bytes(size: int, rank: int) -> None:
    """Refuse a dense basis that is too large; raises ValueError."""
    check_bytes(8 * size * rank, f"a basis of {rank:,} invariants with {size:,} entries each")
