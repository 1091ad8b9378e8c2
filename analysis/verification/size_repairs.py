"""Representations whose sizes are not the data's: which blocks, left out or put in, would make them fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, product

from analysis.verification.generator_errors import Layout, SampledFunction
from analysis.verification.repairs import Repair
from analysis.verification.report import Side, Suspect
from bayes_rpp import Rep
from bayes_rpp.representations.factors import VECTOR
from bayes_rpp.representations.tensor_products import Piece, piece_size

_ARGUMENTS: dict[Side, str] = {"input": "rep_in", "output": "rep_out"}


def fit_sizes(sampled: SampledFunction, rep_in: Rep, rep_out: Rep, floor: float) -> tuple[Rep, Rep, list[Suspect]]:
    """The given representations, or the best whose sizes fit, with suspects; ValueError if no block explains a size."""
    inputs = _choices("input", rep_in, sampled.x.shape[1])
    outputs = _choices("output", rep_out, sampled.y.shape[1])
    if inputs == outputs == [None]:
        return rep_in, rep_out, []
    tried = []
    for pair in product(inputs, outputs):
        source, target = (r.layout if r else Layout.plain(rep) for r, rep in zip(pair, (rep_in, rep_out), strict=True))
        tried.append((float(sampled.errors(target, sampled.images([source])[0]).mean()), source.rep, target.rep, pair))
    tried.sort(key=lambda entry: max(entry[0], floor))
    suspects: dict[str, Suspect] = {}  # each repair once, with the best partner on the other side
    for error, _, _, pair in tried:
        for r in filter(None, pair):
            suspects.setdefault(r.words, r.suspect(math.nan, error))
    _, best_in, best_out, _ = tried[0]
    return best_in, best_out, list(suspects.values())


def _choices(side: Side, rep: Rep, width: int) -> Sequence[Repair | None]:
    """None if the size fits, otherwise the repairs that make it fit."""
    if rep.size == width:
        return [None]
    excess = rep.size - width
    repairs = _with_less(side, rep, excess) if excess > 0 else _with_more(side, rep, -excess)
    found: dict[Rep, Repair] = {}  # one for each representation, which several repairs may lead to
    for repair in repairs:
        found.setdefault(repair.layout.rep, repair)
    if not found:
        raise ValueError(
            f"the {side} has {width} columns, but {_ARGUMENTS[side]} = {rep} of {rep.group} has size {rep.size}, "
            "and there is no kind of block whose removal or addition makes these agree."
        )
    return list(found.values())


def _with_less(side: Side, rep: Rep, excess: int) -> Iterator[Repair]:
    """Copies of one or two runs left out."""
    for counts in _removals(rep, excess):
        removed = list(zip(counts, rep.runs, strict=True))
        kept = Rep([(run.multiplicity - n, run.piece) for n, run in removed], rep.group)
        taken = Rep([(n, run.piece) for n, run in removed], rep.group)
        coordinates = tuple(k for n, run in removed for k in range(run.stop - n * run.piece_size, run.stop))
        words = f"{_ARGUMENTS[side]} = {kept} ({taken} left out)"
        yield Repair(side, "block", coordinates, words, Layout.plain(kept))


def _removals(rep: Rep, excess: int) -> Iterator[tuple[int, ...]]:
    """How many copies of each run to leave out, of at most two runs, so that the size falls by ``excess``."""
    sizes = [run.piece_size for run in rep.runs]
    for first, second in combinations(range(-1, len(sizes)), 2):  # -1: none but the second
        for n in range(1, rep.runs[first].multiplicity + 1) if first >= 0 else (0,):
            m, rest = divmod(excess - n * sizes[first], sizes[second])
            if rest == 0 and 1 <= m <= rep.runs[second].multiplicity:
                yield tuple(n if k == first else m if k == second else 0 for k in range(len(sizes)))


def _with_more(side: Side, rep: Rep, lack: int) -> Iterator[Repair]:
    """Copies of one piece put in between two runs: of a piece that there is already, a scalar or a vector."""
    group = rep.bound_group
    pieces: set[Piece] = {(), *(run.piece for run in rep.runs)}
    pieces |= {(replace(VECTOR, slot=slot),) for slot in range(len(group.factors))}
    for piece, at in product(sorted(pieces, key=repr), range(len(rep.terms) + 1)):
        count, rest = divmod(lack, piece_size(piece, group))
        if rest:
            continue
        grown = Rep([*rep.terms[:at], (count, piece), *rep.terms[at:]], group)
        start = rep.runs[at].start if at < len(rep.runs) else rep.size
        words = f"{_ARGUMENTS[side]} = {grown} ({Rep([(count, piece)], group)} put in)"
        yield Repair(side, "block", tuple(range(start, start + lack)), words, Layout.plain(grown))
