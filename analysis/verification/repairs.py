"""Small changes to a representation: each would be the repair of one mistake in it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, combinations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.verification.generator_errors import Layout
from analysis.verification.report import Kind, Side, Suspect
from bayes_rpp import Group, Rep
from bayes_rpp.representations.factors import SIGN, VECTOR
from bayes_rpp.representations.tensor_products import Piece, dual_piece, piece_size

_ZERO = 1e-12  # entries of a group element's matrix, of order one and in float64, that are zero up to rounding

Elements = Float[Tensor, "element d d"]


@dataclass(frozen=True)
class Repair:
    """A layout to try instead of the given one, and in words what would have been the mistake.

    A function of columns that are moved less violates any symmetry less, so that a squared error that falls to
    ``share`` of what it was is no sign of a repair.
    """

    side: Side
    kind: Kind
    coordinates: tuple[int, ...]
    words: str
    layout: Layout
    share: float = 1.0  # how many columns are moved in comparison with the given layout, at most 1

    def suspect(self, before: float, after: float) -> Suspect:
        """The mistake, with the mean errors before and after the repair."""
        return Suspect(self.side, self.kind, self.coordinates, self.words, before, after)


def single_repairs(side: Side, rep: Rep, elements: Elements) -> Iterator[Repair]:
    """Every change of one type, order, sign or pair of columns that makes a difference to how the elements act."""
    yield from _block_repairs(side, rep, elements)
    yield from _order_repairs(side, rep)
    yield from _sign_repairs(side, rep, elements)
    yield from _swap_repairs(side, rep, elements)


def _block_repairs(side: Side, rep: Rep, elements: Elements) -> Iterator[Repair]:
    """Another type for one copy, or one tensor in place of several copies."""
    group = rep.bound_group
    pieces = [run.piece for run in rep.runs for _ in range(run.multiplicity)]
    starts = [0, *accumulate(piece_size(piece, group) for piece in pieces)]
    moved = _moved_columns(Layout.plain(rep), elements)
    for at in range(len(pieces)):
        for count, wanted in _alternatives(pieces[at:], group):
            stop = at + count
            changed = Rep([(1, piece) for piece in (*pieces[:at], *wanted, *pieces[stop:])], group)
            if changed == rep:
                continue
            layout = Layout.plain(changed)
            share = _share(moved, _moved_columns(layout, elements)) if side == "input" else 1.0
            if share == 0:
                continue
            coordinates = tuple(range(starts[at], starts[stop]))
            given, truth = (Rep([(1, piece) for piece in parts], group) for parts in (pieces[at:stop], wanted))
            words = f"{side} {_columns(coordinates)} {'is' if len(coordinates) == 1 else 'are'} {truth}, not {given}"
            yield Repair(side, "block", coordinates, words, layout, share)


def _alternatives(pieces: Sequence[Piece], group: Group) -> Iterator[tuple[int, list[Piece]]]:
    """What the first few of these copies might be instead: how many of them, and the pieces that replace them."""
    piece = pieces[0]
    if piece:
        yield 1, [piece[1:]] * piece[0].size(group)
        yield 1, [dual_piece(piece)]
        if len(piece) > 1:
            yield 1, [()] * piece_size(piece, group)
    for slot, part in enumerate(group.factors):
        yield 1, [(replace(SIGN, slot=slot), *piece)]
        for axes, count in enumerate((part.d, part.d**2), start=1):
            if 1 < count <= len(pieces) and all(other == piece for other in pieces[:count]):
                yield count, [(replace(VECTOR, slot=slot),) * axes + piece]


def _share(before: Bool[Tensor, "element size"], after: Bool[Tensor, "element size"]) -> float:
    """How many columns are moved in comparison with before; 0 if an element that moved some would move none and so test
    nothing any longer: as scalars, inputs fit any function.
    """
    if bool((before.any(-1) & ~after.any(-1)).any()):
        return 0.0
    return min(1.0, float(after.sum() / before.sum().clamp_min(1)))


def _moved_columns(layout: Layout, elements: Elements) -> Bool[Tensor, "element size"]:
    """Which columns each element changes, or uses to change others."""
    matrices = layout.transposed_matrices(elements)
    difference = (matrices - torch.eye(layout.rep.size, dtype=matrices.dtype)).abs() > _ZERO
    return difference.any(-2) | difference.any(-1)


def _order_repairs(side: Side, rep: Rep) -> Iterator[Repair]:
    """Runs in another order, laid out component by component, or transposed as tables."""
    for first, second in combinations(range(len(rep.runs)), 2):
        terms = list(rep.terms)
        terms[first], terms[second] = terms[second], terms[first]
        yield _reordered(side, rep, range(rep.runs[first].start, rep.runs[second].stop), Rep(terms, rep.group))
    multiplicities = {run.multiplicity for run in rep.runs}
    if len(rep.runs) > 1 and len(multiplicities) == 1 and max(multiplicities) > 1:
        alternating = Rep([(1, run.piece) for run in rep.runs] * max(multiplicities), rep.group)
        yield _reordered(side, rep, range(rep.size), alternating)
    for run in rep.runs:
        # The axes rotated, of which the copies are the first.
        axes = [run.multiplicity, *(factor.size(rep.bound_group) for factor in run.piece)]
        for cut in range(1, len(axes)):
            plain, shape = Layout.plain(rep), (math.prod(axes[cut:]), math.prod(axes[:cut]))
            if 1 in shape:
                continue
            order = plain.order.clone()
            order[run.start : run.stop] = order[run.start : run.stop].reshape(shape).T.flatten()
            span = range(run.start, run.stop)
            words = f"{side} {_columns(span)} are a table of {shape[0]} x {shape[1]} that is to be transposed"
            yield Repair(side, "order", tuple(span), words, replace(plain, order=order))


def _reordered(side: Side, rep: Rep, span: range, truth: Rep) -> Repair:
    words = f"{side} {_columns(span)} are in another order: the whole {side} is {truth}, not {rep}"
    return Repair(side, "order", tuple(span), words, Layout.plain(truth))


def _sign_repairs(side: Side, rep: Rep, elements: Elements) -> Iterator[Repair]:
    """The other sign for a column that is mixed with others; elsewhere it would make no difference."""
    plain = Layout.plain(rep)
    off_diagonal = plain.transposed_matrices(elements) * (1 - torch.eye(rep.size, dtype=torch.float64))
    is_mixed = (off_diagonal.abs() > _ZERO).any(0)
    for k in (is_mixed.any(0) | is_mixed.any(1)).nonzero().flatten().tolist():
        signs = torch.where(torch.arange(rep.size) == k, -plain.signs, plain.signs)
        words = f"{side} column {k} ({name_component(rep, k)}) has the wrong sign"
        yield Repair(side, "sign", (k,), words, replace(plain, signs=signs))


def _swap_repairs(side: Side, rep: Rep, elements: Elements) -> Iterator[Repair]:
    """Exchanges of two columns that do not commute with every element; neighbours, the likeliest, first."""
    plain = Layout.plain(rep)
    matrices = plain.transposed_matrices(elements)
    names = [name_component(rep, k) for k in range(rep.size)]
    for i, j in sorted(combinations(range(rep.size), 2), key=lambda pair: pair[1] - pair[0]):
        order = plain.order.clone()
        order[[i, j]] = order[[j, i]]
        same_rows = torch.allclose(matrices[:, [j, i]][..., order], matrices[:, [i, j]], atol=_ZERO)
        if same_rows and torch.allclose(matrices[..., [j, i]][:, order], matrices[..., [i, j]], atol=_ZERO):
            continue
        words = f"{side} columns {i} and {j} ({names[i]}; {names[j]}) are swapped"
        yield Repair(side, "swap", (i, j), words, replace(plain, order=order))


def name_component(rep: Rep, column: int) -> str:
    """Where a column lies in its representation: "component (0, 1) of the T(2) in columns 0 to 8"."""
    run = next(run for run in rep.runs if run.start <= column < run.stop)
    offset = (column - run.start) % run.piece_size
    piece = f"the {Rep([(1, run.piece)], rep.group)}"
    if run.piece_size == 1:
        return piece
    axes = [axis for axis in (factor.size(rep.bound_group) for factor in run.piece) if axis > 1]
    index = tuple(int(i) for i in np.unravel_index(offset, axes))
    block = range(column - offset, column - offset + run.piece_size)
    return f"component {index if len(index) > 1 else index[0]} of {piece} in {_columns(block)}"


def _columns(span: Sequence[int]) -> str:
    return f"column {span[0]}" if len(span) == 1 else f"columns {span[0]} to {span[-1]}"
