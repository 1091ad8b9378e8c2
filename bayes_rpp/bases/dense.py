"""Orthonormal bases as linear operators: what they share, and those held as one or two small matrices.

Each is differentiable to any order, works under torch.func's transforms, and takes leading batch dimensions.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


class StructuredBasis:
    """What the structured bases share: differentiation, batching and checks around two raw linear maps.

    ``tensors`` are those that its maps need. Signs, scales and bases are floating-point, indices are not.
    """

    def __init__(self, size: int, rank: int, tensors: Sequence[Tensor]) -> None:
        self.size, self.rank = size, rank
        self._tensors = tuple(tensors)
        self._cast: dict[tuple[torch.dtype, torch.device], tuple[Tensor, ...]] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rank {self.rank:,} of {self.size:,})"

    def _like(self, value: Tensor) -> tuple[Tensor, ...]:
        """The tensors on the device of a value, the floating-point ones in its type."""
        key = (value.dtype, value.device)
        if key not in self._cast:
            self._cast[key] = tuple(t.to(value) if t.is_floating_point() else t.to(value.device) for t in self._tensors)
        return self._cast[key]

    def _expand(self, beta: Tensor) -> Tensor:
        raise NotImplementedError

    def _coordinates(self, vector: Tensor) -> Tensor:
        raise NotImplementedError

    def _expand_onto(self, beta: Tensor, vector: Tensor) -> Tensor:
        return self._expand(beta) + vector

    def expand(self, beta: Float[Tensor, "*batch rank"]) -> Float[Tensor, "*batch size"]:
        """Q beta. Raises ValueError if the last dimension is not ``rank``."""
        if beta.shape[-1:] != (self.rank,):
            raise ValueError(f"beta has shape {tuple(beta.shape)}; its last dimension must be the rank {self.rank}.")
        # A compiler differentiates the operations themselves; it cannot trace a function with rules of its own.
        return self._expand(beta) if torch.compiler.is_compiling() else _LinearMap.apply(beta, self, False)

    def coordinates(self, vector: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch rank"]:
        """Q^T v. Raises ValueError if the last dimension is not ``size``."""
        if vector.shape[-1:] != (self.size,):
            raise ValueError(f"vector has shape {tuple(vector.shape)}; its last dimension must be {self.size}.")
        return self._coordinates(vector) if torch.compiler.is_compiling() else _LinearMap.apply(vector, self, True)

    def expand_onto(
        self, beta: Float[Tensor, "*batch rank"], vector: Float[Tensor, "*batch size"]
    ) -> Float[Tensor, "*batch size"]:
        """v + Q beta, in one pass. Raises ValueError if the batch dimensions differ."""
        if beta.shape[:-1] != vector.shape[:-1]:
            raise ValueError(f"beta has batch dimensions {tuple(beta.shape[:-1])}, v {tuple(vector.shape[:-1])}.")
        if torch.compiler.is_compiling() or beta.dtype != vector.dtype:
            return vector + self.expand(beta)
        result: Tensor = _AddedMap.apply(beta, vector, self)
        return result

    def project(self, vector: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Q Q^T v."""
        return self.expand(self.coordinates(vector))

    def band_norms(
        self, row_sizes: Sequence[int], column_sizes: Sequence[int]
    ) -> Float[Tensor, "rank row_band column_band"] | None:
        """The squared norms of its maps in bands, see bases/band_norms.py; None if the structure does not give them."""
        return None

    def dense(self) -> Float[Tensor, "size rank"]:
        """Q itself, in float64."""
        return self._expand(torch.eye(self.rank, dtype=torch.float64)).mT

    def __deepcopy__(self, memo: dict[int, Any]) -> StructuredBasis:
        return self  # immutable, and shared between the copies of a network


class _LinearMap(torch.autograd.Function):
    """v -> Q v or Q^T v. Each is the other's adjoint, so neither saves anything, to any order of differentiation."""

    @staticmethod
    def forward(vector: Tensor, basis: StructuredBasis, adjoint: bool) -> Tensor:
        return basis._coordinates(vector) if adjoint else basis._expand(vector)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, StructuredBasis, bool], output: Tensor) -> None:
        ctx.basis, ctx.adjoint = inputs[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _LinearMap.apply(grad, ctx.basis, not ctx.adjoint), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _LinearMap.apply(tangent, ctx.basis, ctx.adjoint)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int, None, None], vector: Tensor, basis: StructuredBasis, adjoint: bool
    ) -> tuple[Tensor, int]:
        return _LinearMap.apply(vector.movedim(in_dims[0], 0), basis, adjoint), 0


class _AddedMap(torch.autograd.Function):
    """(beta, v) -> v + Q beta."""

    @staticmethod
    def forward(beta: Tensor, vector: Tensor, basis: StructuredBasis) -> Tensor:
        return basis._expand_onto(beta, vector)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, StructuredBasis], output: Tensor) -> None:
        ctx.basis = inputs[2]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None]:
        return _LinearMap.apply(grad, ctx.basis, True) if ctx.needs_input_grad[0] else None, grad, None

    @staticmethod
    def jvp(ctx: Any, beta: Tensor | None, vector: Tensor | None, _: None) -> Tensor | None:
        if beta is None:
            return vector
        expanded: Tensor = _LinearMap.apply(beta, ctx.basis, False)
        return expanded if vector is None else expanded + vector

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, int | None, None], beta: Tensor, vector: Tensor, basis: StructuredBasis
    ) -> tuple[Tensor, int]:
        first, second = (
            value.expand(info.batch_size, *value.shape) if dim is None else value.movedim(dim, 0)
            for value, dim in zip((beta, vector), in_dims, strict=False)
        )
        return _AddedMap.apply(first, second, basis), 0


# Function.apply looks the signature up at every call; kept here, it costs nothing.
_LinearMap.forward.__signature__ = inspect.signature(_LinearMap.forward)  # type: ignore[attr-defined]
_AddedMap.forward.__signature__ = inspect.signature(_AddedMap.forward)  # type: ignore[attr-defined]


# Of a column that are summed one after another; the rounding error of such a sum grows with their number.
MOST_SUMMED_IN_ORDER = 1_000


def is_summed_in_order(value: Tensor) -> bool:
    """Whether ``scatter_add_`` sums in an order that is always the same, and fast: eagerly, on a processor."""
    return value.device.type == "cpu" and not torch.compiler.is_compiling()


class DenseBasis(StructuredBasis):
    """Q as a matrix: the fastest for small bases, such as those of biases."""

    def __init__(self, matrix: Float[Tensor, "size rank"]) -> None:
        super().__init__(len(matrix), matrix.shape[1], [matrix])

    def _expand(self, beta: Tensor) -> Tensor:
        return beta @ self._like(beta)[0].mT

    def _coordinates(self, vector: Tensor) -> Tensor:
        return vector @ self._like(vector)[0]


class KroneckerBasis(StructuredBasis):
    """Maps L beta R^T with orthonormal columns in L (m, k) and R (n, l); beta is (k, l), row-major."""

    def __init__(self, left: Float[Tensor, "m k"], right: Float[Tensor, "n l"]) -> None:
        super().__init__(len(left) * len(right), left.shape[1] * right.shape[1], [left, right])

    def _expand(self, beta: Tensor) -> Tensor:
        left, right = self._like(beta)
        shape = *beta.shape[:-1], left.shape[1], right.shape[1]
        return (left @ beta.reshape(shape) @ right.mT).flatten(-2)

    def _coordinates(self, vector: Tensor) -> Tensor:
        left, right = self._like(vector)
        return (left.mT @ vector.reshape(*vector.shape[:-1], len(left), len(right)) @ right).flatten(-2)

    def band_norms(
        self, row_sizes: Sequence[int], column_sizes: Sequence[int]
    ) -> Float[Tensor, "rank row_band column_band"]:
        """See StructuredBasis."""
        left, right = (
            torch.stack([part.square().sum(0) for part in factor.split(list(sizes))])
            for factor, sizes in zip(self._tensors, (row_sizes, column_sizes), strict=True)
        )
        return torch.einsum("pk,ql->klpq", left, right).flatten(0, 1).double()


def bands_of_entries(row_sizes: Sequence[int], column_sizes: Sequence[int]) -> Int[Tensor, " size"]:
    """The band of every entry of a map (m, n), numbered row by row."""
    rows, columns = (
        torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes, dtype=torch.long))
        for sizes in (row_sizes, column_sizes)
    )
    return (rows[:, None] * len(column_sizes) + columns).flatten()
