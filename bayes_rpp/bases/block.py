"""Orthonormal bases of equivariant maps, block by block."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.bases.dense import DenseBasis, StructuredBasis
from bayes_rpp.representations.rep import Run

SMALL_MATRIX = 100_000


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
        super().__init__(shape[0] * width, rank, [basis for _, _, basis in blocks])

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
        for block, basis in zip(self._blocks, self._like(beta), strict=True):
            chunk = flat[:, block.coordinates].unflatten(1, (basis.shape[1], -1))
            target = block.view(matrix)
            target.copy_((basis @ chunk).view(target.shape))
        return matrix.reshape(*beta.shape[:-1], self.size)

    def _coordinates(self, vector: Tensor) -> Tensor:
        matrix = vector.reshape(math.prod(vector.shape[:-1]), self.size).contiguous()
        chunks = [
            (basis.mT @ block.view(matrix).flatten(3).flatten(1, 2)).flatten(1)
            for block, basis in zip(self._blocks, self._like(vector), strict=True)
        ]
        flat = torch.cat(chunks, dim=1) if chunks else matrix.new_zeros(len(matrix), 0)
        return flat.reshape(*vector.shape[:-1], self.rank)


def _band(sizes: Sequence[int], start: int, count: int) -> int | None:
    """The band in which all of some rows or columns lie, if there is one."""
    for index, stop in enumerate(itertools.accumulate(sizes)):
        if start < stop:
            return index if start + count <= stop else None
    return None
