"""Which pieces of a representation can be maps between others: the terms of bilinear layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from bayes_rpp.representations.rep import Rep, Run
from bayes_rpp.representations.tensor_products import Piece, dual_piece, simplify_piece


@dataclass(frozen=True)
class Middle:
    """Copies of a piece that serve as maps, and its axes in the order (output axes, contracted axes)."""

    run: Run
    axes: tuple[int, ...]
    sizes: tuple[int, ...]  # of the piece's own axes

    def maps(self, copies: Tensor, rows: Run, columns: Run) -> Tensor:
        """Copies (copies, piece size, batch) as maps (copies, d_out, d_in, batch)."""
        if self.axes != tuple(range(len(self.axes))):
            copies = copies.unflatten(1, self.sizes).permute(0, *[1 + axis for axis in self.axes], -1)
        return copies.reshape(len(copies), rows.piece_size, columns.piece_size, copies.shape[-1])


@dataclass(frozen=True)
class Term:
    """Pieces of ``rows`` from pieces of ``columns``, through pieces of ``middle``: all those of the type P (x) R*."""

    rows: Run
    columns: Run
    middle: tuple[Middle, ...]

    @property
    def copies(self) -> int:
        """Of the middle piece, in all runs."""
        return sum(middle.run.multiplicity for middle in self.middle)


def bilinear_terms(rep: Rep) -> Iterator[Term]:
    """Every pair of types between which some piece is a map. Pieces of rank 0 are none: gates multiply by them."""
    for rows in rep.runs:
        for columns in rep.runs:
            wanted = simplify_piece(rows.piece + dual_piece(columns.piece), rep.bound_group)
            middle = tuple(
                Middle(
                    run,
                    _match_axes(_axes(run.piece), _axes(wanted)),
                    tuple(f.size(rep.bound_group) for f in _axes(run.piece)),
                )
                for run in rep.runs
                if _axes(run.piece) and _same_type(run.piece, wanted)
            )
            if middle:
                yield Term(rows, columns, middle)


def _axes(piece: Piece) -> Piece:
    return tuple(factor for factor in piece if not factor.is_sign)


def _same_type(piece: Piece, wanted: Piece) -> bool:
    """Whether two simplified pieces are the same but for the order of their axes."""
    return sorted(f.sort_key for f in piece) == sorted(f.sort_key for f in wanted)


def _match_axes(axes: Piece, wanted: Piece) -> tuple[int, ...]:
    """For each wanted factor, the first unused axis of that kind."""
    unused = {kind: [i for i, factor in enumerate(axes) if factor == kind] for kind in axes}
    return tuple(unused[factor].pop(0) for factor in wanted)
