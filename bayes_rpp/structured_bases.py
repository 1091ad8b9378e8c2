"""Orthonormal bases as structured linear operators: by blocks, by orbits, or as a small matrix.

Each is differentiable to any order, works under torch.func's transforms, and takes leading batch dimensions.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayes_rpp.representations import Run


class StructuredBasis:
    """What the structured bases share: differentiation, batching and checks around two raw linear maps."""

    rank: int
    size: int

    def _expand(self, beta: Tensor) -> Tensor:
        raise NotImplementedError

    def _coordinates(self, vector: Tensor) -> Tensor:
        raise NotImplementedError

    def expand(self, beta: Float[Tensor, "*batch rank"]) -> Float[Tensor, "*batch size"]:
        """Q beta. Raises ValueError if the last dimension is not ``rank``."""
        if beta.shape[-1:] != (self.rank,):
            raise ValueError(f"beta has shape {tuple(beta.shape)}; its last dimension must be the rank {self.rank}.")
        return _LinearMap.apply(beta, self, False)

    def coordinates(self, vector: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch rank"]:
        """Q^T v. Raises ValueError if the last dimension is not ``size``."""
        if vector.shape[-1:] != (self.size,):
            raise ValueError(f"vector has shape {tuple(vector.shape)}; its last dimension must be {self.size}.")
        return _LinearMap.apply(vector, self, True)

    def project(self, vector: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Q Q^T v."""
        return self.expand(self.coordinates(vector))

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


# Function.apply looks the signature up at every call; kept here, it costs nothing.
_LinearMap.forward.__signature__ = inspect.signature(_LinearMap.forward)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _Block:
    """The maps from all copies of one input piece to all copies of one output piece."""

    basis: Tensor  # (size_out * size_in, rank) of one pair of copies
    sizes: tuple[int, int, int, int]  # size_out, size_in, multiplicity_out, multiplicity_in
    strides: tuple[int, int, int, int]  # the same axes, inside the whole contiguous matrix
    start: int  # the block's first entry in the matrix
    offset: int  # the block's first coordinate

    @property
    def count(self) -> int:
        return self.basis.shape[1] * self.sizes[2] * self.sizes[3]

    def view(self, matrix: Tensor) -> Tensor:
        """The block of a contiguous (batch, m n) as (batch, size_out, size_in, multiplicity_out, multiplicity_in)."""
        batch, size = matrix.shape
        start = matrix.storage_offset() + self.start
        return matrix.as_strided((batch, *self.sizes), (size, *self.strides), start)


class BlockBasis(StructuredBasis):
    """Equivariant maps, block by block: a small dense basis for each pair of pieces, repeated by the multiplicities."""

    def __init__(self, shape: tuple[int, int], blocks: Sequence[tuple[Run, Run, Tensor]]) -> None:
        width, self.size, offset = shape[1], shape[0] * shape[1], 0
        self._blocks: list[_Block] = []
        for rows, columns, basis in blocks:
            sizes = (rows.piece_size, columns.piece_size, rows.multiplicity, columns.multiplicity)
            strides = (width, 1, rows.piece_size * width, columns.piece_size)
            self._blocks.append(_Block(basis, sizes, strides, rows.start * width + columns.start, offset))
            offset += self._blocks[-1].count
        self.rank = offset
        self._cast: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}

    def _bases(self, like: Tensor) -> list[Tensor]:
        key = (like.dtype, like.device)
        if key not in self._cast:
            self._cast[key] = [block.basis.to(like) for block in self._blocks]
        return self._cast[key]

    def _expand(self, beta: Tensor) -> Tensor:
        flat = beta.reshape(math.prod(beta.shape[:-1]), self.rank)
        matrix = beta.new_zeros(len(flat), self.size)
        for block, basis in zip(self._blocks, self._bases(beta), strict=True):
            chunk = flat[:, block.offset : block.offset + block.count].unflatten(1, (basis.shape[1], -1))
            target = block.view(matrix)
            target.copy_((basis @ chunk).view(target.shape))
        return matrix.reshape(*beta.shape[:-1], self.size)

    def _coordinates(self, vector: Tensor) -> Tensor:
        matrix = vector.reshape(math.prod(vector.shape[:-1]), self.size).contiguous()
        chunks = [
            (basis.mT @ block.view(matrix).flatten(3).flatten(1, 2)).flatten(1)
            for block, basis in zip(self._blocks, self._bases(vector), strict=True)
        ]
        flat = torch.cat(chunks, dim=1) if chunks else matrix.new_zeros(len(matrix), 0)
        return flat.reshape(*vector.shape[:-1], self.rank)


class DenseBasis(StructuredBasis):
    """Q as a matrix: the fastest for small bases, such as those of biases."""

    def __init__(self, matrix: Float[Tensor, "size rank"]) -> None:
        self.size, self.rank = matrix.shape
        self._matrix = matrix
        self._cast: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def _q(self, like: Tensor) -> Tensor:
        key = (like.dtype, like.device)
        if key not in self._cast:
            self._cast[key] = self._matrix.to(like)
        return self._cast[key]

    def _expand(self, beta: Tensor) -> Tensor:
        return beta @ self._q(beta).mT

    def _coordinates(self, vector: Tensor) -> Tensor:
        return vector @ self._q(vector)


class OrbitBasis(StructuredBasis):
    """Maps that are constant on the orbits of a permutation group: Q's columns are normalised indicators of the orbits.

    Parameters
    ----------
    labels : the orbit of each of the ``size`` coordinates; coordinates of Q are sorted by the orbits' sizes.
    """

    def __init__(self, labels: Int[np.ndarray, " size"]) -> None:
        sizes = np.bincount(labels)
        by_size = np.argsort(sizes, kind="stable")
        renumbered = np.argsort(by_size)[labels]
        members = np.argsort(renumbered, kind="stable")
        self.size, self.rank = len(labels), len(sizes)
        self._labels = torch.from_numpy(renumbered)
        self._scale = torch.from_numpy(1.0 / np.sqrt(sizes[by_size]))
        distinct, counts = np.unique(sizes, return_counts=True)
        self._classes = [(int(s), int(c)) for s, c in zip(distinct, counts, strict=True)]
        self._members = torch.from_numpy(members)
        self._cast: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor, Tensor]] = {}

    def _tables(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        key = (like.dtype, like.device)
        if key not in self._cast:
            self._cast[key] = (
                self._labels.to(like.device),
                self._members.to(like.device),
                self._scale.to(like),
            )
        return self._cast[key]

    def _expand(self, beta: Tensor) -> Tensor:
        labels, _, scale = self._tables(beta)
        return (beta * scale).index_select(-1, labels)

    def _coordinates(self, vector: Tensor) -> Tensor:
        _, members, scale = self._tables(vector)
        gathered, sums, start = vector.index_select(-1, members), [], 0
        for orbit_size, count in self._classes:
            stop = start + orbit_size * count
            sums.append(gathered[..., start:stop].unflatten(-1, (count, orbit_size)).sum(-1))
            start = stop
        return torch.cat(sums, dim=-1) * scale if sums else vector.new_zeros(*vector.shape[:-1], 0)
