"""Orthonormal bases of equivariant maps, block by block."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.bases.dense import MOST_SUMMED_IN_ORDER, DenseBasis, StructuredBasis, is_summed_in_order
from bayes_rpp.representations.rep import Run

SMALL_MATRIX = 100_000
_FEW_ENTRIES = 8  # of a column of Q, on average


def assembled_maps(shape: tuple[int, int], blocks: Sequence[tuple[Run, Run, Tensor]]) -> BlockBasis | DenseBasis:
    """Maps (m, n) made of blocks: output and input pieces, a basis from copy to copy. A small Q becomes one matrix."""
    maps = BlockBasis(shape, [block for block in blocks if block[2].shape[1]])
    return DenseBasis(maps.dense()) if maps.size * maps.rank <= SMALL_MATRIX else maps


@dataclass(frozen=True)
class _Block:
    """The maps from all copies of one input piece to all copies of one output piece."""

    sizes: tuple[int, int, int, int]  # size_out, size_in, multiplicity_out, multiplicity_in
    strides: tuple[int, int, int, int]  # the same axes, inside the whole contiguous matrix
    start: int  # the block's first entry in the matrix
    coordinates: slice  # of the block

    def view(self, matrix: Tensor) -> Tensor:
        """The block of a contiguous (batch, m n) as (batch, size_out, size_in, multiplicity_out, multiplicity_in)."""
        batch, size = matrix.shape
        if not torch.compiler.is_compiling():
            # One view in place of five, which is a third of the time for small blocks.
            start = matrix.storage_offset() + self.start
            return matrix.as_strided((batch, *self.sizes), (size, *self.strides), start)
        d_out, d_in, n_out, n_in = self.sizes
        row, column = divmod(self.start, self.strides[0])
        rows = matrix.view(batch, -1, self.strides[0])[:, row : row + n_out * d_out, column : column + n_in * d_in]
        return rows.unflatten(2, (n_in, d_in)).unflatten(1, (n_out, d_out)).permute(0, 2, 4, 1, 3)


class BlockBasis(StructuredBasis):
    """Equivariant maps, block by block: a small dense basis for each pair of pieces, repeated by the multiplicities."""

    def __init__(self, shape: tuple[int, int], blocks: Sequence[tuple[Run, Run, Tensor]]) -> None:
        width, rank = shape[1], 0
        self._blocks: list[_Block] = []
        for rows, columns, basis in blocks:
            sizes = (rows.piece_size, columns.piece_size, rows.multiplicity, columns.multiplicity)
            strides = (width, 1, rows.piece_size * width, columns.piece_size)
            start, rank = rank, rank + basis.shape[1] * rows.multiplicity * columns.multiplicity
            self._blocks.append(_Block(sizes, strides, rows.start * width + columns.start, slice(start, rank)))
        dense = [basis for _, _, basis in blocks]
        entries = self._entries(shape[0] * width, dense) if self._is_sparse(rank, dense) else []
        super().__init__(shape[0] * width, rank, [*dense, *entries])

    def _entries(self, size: int, bases: Sequence[Tensor]) -> list[Tensor]:
        """Row, column and value of every entry of Q that is not zero."""
        numbers = torch.arange(size)[None]
        rows, columns, values = [], [], []
        for block, basis in zip(self._blocks, bases, strict=True):
            where = block.view(numbers)[0].flatten(2).flatten(0, 1)  # (entry of the small basis, pair of copies)
            pairs = torch.arange(where.shape[1])
            entry, column = basis.nonzero().mT
            rows.append(where[entry].flatten())
            columns.append((block.coordinates.start + column[:, None] * len(pairs) + pairs).flatten())
            values.append(basis[entry, column].repeat_interleave(len(pairs)))
        return [torch.cat(parts) for parts in (rows, columns, values)]

    def _is_sparse(self, rank: int, bases: Sequence[Tensor]) -> bool:
        """Whether the columns of Q have few entries: then adding them one by one is faster than products with all."""
        pairs = (block.sizes[2] * block.sizes[3] for block in self._blocks)
        columns = [(basis != 0).sum(0) for basis in bases]
        entries = sum(int(column.sum()) * count for column, count in zip(columns, pairs, strict=True))
        largest = max((int(column.max()) for column in columns), default=0)
        return 0 < entries <= _FEW_ENTRIES * rank and largest <= MOST_SUMMED_IN_ORDER

    def band_norms(
        self, row_sizes: Sequence[int], column_sizes: Sequence[int]
    ) -> Float[Tensor, "rank row_band column_band"] | None:
        """See StructuredBasis; None if a block is cut by a band."""
        norms = torch.zeros(self.rank, len(row_sizes), len(column_sizes), dtype=torch.float64)
        for block in self._blocks:
            row, column = divmod(block.start, block.strides[0])
            d_out, d_in, n_out, n_in = block.sizes
            where = _band(row_sizes, row, n_out * d_out), _band(column_sizes, column, n_in * d_in)
            if None in where:
                return None
            norms[block.coordinates, where[0], where[1]] = 1
        return norms

    def _expand(self, beta: Tensor) -> Tensor:
        flat = beta.reshape(math.prod(beta.shape[:-1]), self.rank)
        matrix = beta.new_zeros(len(flat), self.size)
        if self._is_scattered(beta):
            return self._scattered_onto(matrix, flat).reshape(*beta.shape[:-1], self.size)
        for block, basis in zip(self._blocks, self._like(beta), strict=False):
            chunk = flat[:, block.coordinates].unflatten(1, (basis.shape[1], -1))
            target = block.view(matrix)
            target.copy_((basis @ chunk).view(target.shape))
        return matrix.reshape(*beta.shape[:-1], self.size)

    def _expand_onto(self, beta: Tensor, vector: Tensor) -> Tensor:
        if not self._is_scattered(beta):
            return super()._expand_onto(beta, vector)
        flat = beta.reshape(math.prod(beta.shape[:-1]), self.rank)
        copy = vector.reshape(len(flat), self.size).clone(memory_format=torch.contiguous_format)
        return self._scattered_onto(copy, flat).reshape(vector.shape)

    def _is_scattered(self, value: Tensor) -> bool:
        return len(self._tensors) > len(self._blocks) and is_summed_in_order(value)

    def _scattered_onto(self, matrix: Float[Tensor, "batch size"], beta: Float[Tensor, "batch rank"]) -> Tensor:
        """Add Q beta in place."""
        rows, columns, values = self._like(beta)[-3:]
        return matrix.scatter_add_(1, rows.expand(len(beta), -1), beta.index_select(1, columns) * values)

    def _coordinates(self, vector: Tensor) -> Tensor:
        if self._is_scattered(vector):
            rows, columns, values = self._like(vector)[-3:]
            flat = vector.reshape(math.prod(vector.shape[:-1]), self.size)
            sums = vector.new_zeros(len(flat), self.rank)
            sums.scatter_add_(1, columns.expand(len(flat), -1), flat.index_select(1, rows) * values)
            return sums.reshape(*vector.shape[:-1], self.rank)
        matrix = vector.reshape(math.prod(vector.shape[:-1]), self.size).contiguous()
        chunks = [
            (basis.mT @ block.view(matrix).flatten(3).flatten(1, 2)).flatten(1)
            for block, basis in zip(self._blocks, self._like(vector), strict=False)
        ]
        flat = torch.cat(chunks, dim=1) if chunks else matrix.new_zeros(len(matrix), 0)
        return flat.reshape(*vector.shape[:-1], self.rank)


def _band(sizes: Sequence[int], start: int, count: int) -> int | None:
    """The band in which all of some rows or columns lie, if there is one."""
    for index, stop in enumerate(itertools.accumulate(sizes)):
        if start < stop:
            return index if start + count <= stop else None
    return None
