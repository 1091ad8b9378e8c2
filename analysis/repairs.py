"""Small changes to a pair of representations, and how well a function agrees with each: the search for a mistake."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice, product
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayes_rpp import Group, Rep
from bayes_rpp.factors import SIGN, VECTOR
from bayes_rpp.pieces import Piece, dual_piece, piece_size, terms_text

Side = Literal["input", "output"]
Kind = Literal["sign", "swap", "block", "order"]

_ROWS = 8192  # points that f is given at once
_FINALISTS = 24  # repairs that are measured again at all points


@dataclass(frozen=True)
class Layout:
    """How data columns are to be read as a representation's coordinates: z_k = signs_k x_(order_k)."""

    rep: Rep
    order: Int[Tensor, " size"]
    signs: Float[Tensor, " size"]

    @staticmethod
    def plain(rep: Rep) -> Layout:
        """Columns as they are."""
        return Layout(rep, torch.arange(rep.size), torch.ones(rep.size, dtype=torch.float64))

    def transform(self, g: Float[Tensor, "*batch d d"], x: Float[Tensor, "*batch size"]) -> Tensor:
        """Act on data columns."""
        signs = self.signs.to(x)
        moved = self.rep.apply(g, x[..., self.order] * signs) * signs
        return moved[..., self.order.argsort()]

    def matrices(self, elements: Float[Tensor, "element d d"]) -> Float[Tensor, "element size size"]:
        """The transposed matrices by which elements act on data columns."""
        return self.transform(elements[:, None], torch.eye(self.rep.size, dtype=torch.float64))


@dataclass(frozen=True)
class Repair:
    """A layout to try in place of the given one, and in words what would have been the mistake."""

    side: Side
    kind: Kind
    coordinates: tuple[int, ...]
    words: str
    layout: Layout
    share: float = 1.0  # of the squared violation that is left because fewer input columns are moved at all


@dataclass(frozen=True)
class Trial:
    """What a repair does: the error of each generator and its chance level, (generator,) both."""

    repair: Repair
    errors: Float[Tensor, " generator"]
    chance: Float[Tensor, " generator"]


@dataclass(frozen=True)
class Probe:
    """A function, points x with the values y there, and the group elements to compare at.

    Attributes
    ----------
    owner : for each element, the generator to which it belongs.
    """

    f: Callable[[Tensor], Tensor]
    x: Float[Tensor, "batch n"]
    y: Float[Tensor, "batch m"]
    elements: Float[Tensor, "element d d"]
    owner: Int[Tensor, " element"]

    def images(self, layouts: Sequence[Layout]) -> list[Float[Tensor, "element batch m"]]:
        """The function at the transformed points, for several layouts of the input in one go."""
        moved = [layout.transform(self.elements[:, None], self.x).flatten(0, 1) for layout in layouts]
        values = torch.cat([self.f(rows) for rows in torch.cat(moved).split(_ROWS)])
        return list(values.reshape(len(layouts), len(self.elements), *self.y.shape).unbind())

    def pairs(self, output: Layout, images: Tensor) -> tuple[Tensor, Tensor]:
        """rho_out(g) f(x) and f(rho_in(g) x)."""
        return output.transform(self.elements[:, None], self.y), images

    def errors(self, output: Layout, images: Float[Tensor, "element batch m"]) -> Float[Tensor, " generator"]:
        """The mean of ||a - b|| / (||a|| + ||b||) for each generator."""
        return self.by_generator(relative_distance(*self.pairs(output, images)).mean(-1))

    def chance(self, output: Layout, images: Float[Tensor, "element batch m"]) -> Float[Tensor, " generator"]:
        """The error if each point's output were compared with another point's."""
        a, b = self.pairs(output, images)
        return self.by_generator(relative_distance(a, b.roll(1, dims=1)).mean(-1))

    def by_generator(self, values: Float[Tensor, "element *rest"]) -> Float[Tensor, "generator *rest"]:
        """The mean over each generator's elements."""
        return torch.stack([values[self.owner == k].mean(0) for k in range(int(self.owner.max()) + 1)])

    def thinned(self, points: int) -> Probe:
        """Fewer points, and the first element alone of each generator."""
        first = torch.tensor([int((self.owner == k).nonzero()[0]) for k in range(int(self.owner.max()) + 1)])
        return replace(
            self, x=self.x[:points], y=self.y[:points], elements=self.elements[first], owner=self.owner[first]
        )


def relative_distance(a: Float[Tensor, "*batch m"], b: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch"]:
    """||a - b|| / (||a|| + ||b||), and 1 where f is not finite."""
    a, b = a.double(), b.double()
    size = (a.norm(dim=-1) + b.norm(dim=-1)).clamp_min(torch.finfo(torch.float64).tiny)
    return ((a - b).norm(dim=-1) / size).nan_to_num(nan=1.0, posinf=1.0)


def name_coordinate(rep: Rep, coordinate: int) -> str:
    """Where a coordinate lies in its representation: "component (0, 1) of T(2)"."""
    run = next(run for run in rep.runs if run.start <= coordinate < run.stop)
    copy, place = divmod(coordinate - run.start, run.piece_size)
    axes = [axis for axis in (factor.size(rep.bound_group) for factor in run.piece) if axis > 1]
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(place), axes)) if axes else ()
    component = f"component {index if len(index) > 1 else index[0]} of " if index else ""
    return f"{component}{_name_piece(run.piece, rep)}{f' number {copy}' if run.multiplicity > 1 else ''}"


def _name_piece(piece: Piece, rep: Rep) -> str:
    return terms_text([(1, piece)], rep.bound_group)


def sparse_repairs(side: Side, layout: Layout, elements: Float[Tensor, "element d d"]) -> Iterator[Repair]:
    """Every repair by blocks, order, one sign or one swap that makes a difference to how the elements act."""
    yield from _block_repairs(side, layout, elements)
    yield from _order_repairs(side, layout)
    rep, matrices = layout.rep, layout.matrices(elements)
    off_diagonal = matrices * (1 - torch.eye(rep.size, dtype=torch.float64))
    mixes = (off_diagonal.abs().amax((0, 1)) + off_diagonal.abs().amax((0, 2))) > 1e-12
    for k in mixes.nonzero().flatten().tolist():
        flipped = torch.where(torch.arange(rep.size) == k, -layout.signs, layout.signs)
        words = f"{side} coordinate {k} ({name_coordinate(rep, k)}) has the wrong sign"
        yield Repair(side, "sign", (k,), words, replace(layout, signs=flipped))
    for i, j in sorted(combinations(range(rep.size), 2), key=lambda pair: pair[1] - pair[0]):
        order = torch.arange(rep.size)
        order[[i, j]] = order[[j, i]]
        rows, columns = matrices[:, [i, j]], matrices[:, :, [i, j]]
        same_rows = torch.allclose(rows[:, [1, 0]][..., order], rows, atol=1e-12)
        if same_rows and torch.allclose(columns[..., [1, 0]][:, order], columns, atol=1e-12):
            continue
        where = f"{name_coordinate(rep, i)}; {name_coordinate(rep, j)}"
        words = f"{side} coordinates {i} and {j} ({where}) are swapped"
        yield Repair(side, "swap", (i, j), words, replace(layout, order=order))


def _copies(rep: Rep) -> list[tuple[Piece, int, int]]:
    """Every copy of a piece, with the first coordinate and one past the last."""
    return [
        (run.piece, start, start + run.piece_size)
        for run in rep.runs
        for start in range(run.start, run.stop, run.piece_size)
    ]


def _block_repairs(side: Side, layout: Layout, elements: Tensor) -> Iterator[Repair]:
    """Another type for one copy, or one tensor in place of several copies."""
    rep, group, copies = layout.rep, layout.rep.bound_group, _copies(layout.rep)
    moved = _moved(layout, elements)
    for at, (piece, start, _) in enumerate(copies):
        for count, wanted in _alternatives(piece, copies[at:], group):
            pieces = [*(p for p, _, _ in copies[:at]), *wanted, *(p for p, _, _ in copies[at + count :])]
            changed = Layout.plain(Rep([(1, p) for p in pieces], group))
            if changed.rep == rep:
                continue
            coordinates = tuple(range(start, copies[at + count - 1][2]))
            given, truth = (_describe(parts, group) for parts in ([p for p, _, _ in copies[at : at + count]], wanted))
            words = f"{side} coordinates {_span(coordinates)} are {truth}, not {given}"
            left = _moved(changed, elements)
            if side == "input" and bool((left.sum(-1) == 0).logical_and(moved.sum(-1) > 0).any()):
                continue  # a generator that moves no input says nothing
            share = min(1.0, float(left.sum() / moved.sum().clamp_min(1))) if side == "input" else 1.0
            yield Repair(side, "block", coordinates, words, changed, share)


def _moved(layout: Layout, elements: Tensor) -> Tensor:
    """Which columns each element changes."""
    difference = layout.matrices(elements) - torch.eye(layout.rep.size, dtype=torch.float64)
    return (difference.abs().amax(-2) > 1e-12) | (difference.abs().amax(-1) > 1e-12)


def _alternatives(
    piece: Piece, following: list[tuple[Piece, int, int]], group: Group
) -> Iterator[tuple[int, list[Piece]]]:
    """What the next copies might be instead: how many of them, and the pieces to put there."""
    if piece:
        yield 1, [piece[1:]] * piece[0].size(group)
        yield 1, [dual_piece(piece)]
        if len(piece) > 1:
            yield 1, [()] * piece_size(piece, group)
    for slot, part in enumerate(group.factors):
        yield 1, [(replace(SIGN, slot=slot), *piece)]
        for axes, count in enumerate((part.d, part.d**2), start=1):
            if 1 < count <= len(following) and all(other == piece for other, _, _ in following[:count]):
                yield count, [(replace(VECTOR, slot=slot),) * axes + piece]


def _describe(pieces: list[Piece], group: Group) -> str:
    return repr(Rep([(1, piece) for piece in pieces], group))


def _span(coordinates: Sequence[int]) -> str:
    return str(coordinates[0]) if len(coordinates) == 1 else f"{coordinates[0]} to {coordinates[-1]}"


def _order_repairs(side: Side, layout: Layout) -> Iterator[Repair]:
    """Blocks in another order, or laid out component by component."""
    rep, place = layout.rep, torch.arange(layout.rep.size)
    for first, second in combinations(range(len(rep.runs)), 2):
        terms = list(rep.terms)
        terms[first], terms[second] = terms[second], terms[first]
        span = tuple(range(rep.runs[first].start, rep.runs[second].stop))
        changed = Layout.plain(Rep(terms, rep.group))
        words = f"{side} coordinates {_span(span)} are ordered as {changed.rep}"
        yield Repair(side, "order", span, words, changed)
    for run in rep.runs:
        axes = [run.multiplicity, *(factor.size(rep.bound_group) for factor in run.piece)]
        for cut in range(1, len(axes)):
            order, shape = place.clone(), (math.prod(axes[cut:]), math.prod(axes[:cut]))
            order[run.start : run.stop] = place[run.start : run.stop].reshape(shape).T.flatten()
            if 1 in shape or torch.equal(order, place):
                continue
            span = tuple(range(run.start, run.stop))
            words = f"{side} coordinates {_span(span)} are a table of {shape[0]} x {shape[1]} that is to be transposed"
            yield Repair(side, "order", span, words, replace(layout, order=order))
    if len(rep.runs) > 1 and len({run.multiplicity for run in rep.runs}) == 1 and rep.runs[0].multiplicity > 1:
        repeated = Layout.plain(Rep([(1, run.piece) for run in rep.runs] * rep.runs[0].multiplicity, rep.group))
        words = f"{side} coordinates {_span(place.tolist())} are ordered as {repeated.rep}"
        yield Repair(side, "order", tuple(place.tolist()), words, repeated)


def _removals(rep: Rep, excess: int) -> Iterator[tuple[int, ...]]:
    """How many copies of each run to leave out, of at most two runs, so that the size falls by ``excess``."""
    sizes = [run.piece_size for run in rep.runs]
    for first, second in combinations(range(-1, len(sizes)), 2):  # -1: none but the second
        for n in range(1, rep.runs[first].multiplicity + 1) if first >= 0 else (0,):
            m, rest = divmod(excess - n * sizes[first], sizes[second])
            if rest == 0 and 1 <= m <= rep.runs[second].multiplicity:
                yield tuple(n if k == first else m if k == second else 0 for k in range(len(sizes)))


def fitting_repairs(side: Side, rep: Rep, width: int) -> list[Repair]:
    """Representations of the data's width: copies of one or two runs left out, or copies of one piece put in."""
    group, excess = rep.bound_group, rep.size - width
    found: dict[Rep, Repair] = {}
    if excess > 0:
        for counts in _removals(rep, excess):
            kept = Rep([(r.multiplicity - n, r.piece) for n, r in zip(counts, rep.runs, strict=True)], group)
            taken = Rep([(n, r.piece) for n, r in zip(counts, rep.runs, strict=True)], group)
            gone = (range(r.stop - n * r.piece_size, r.stop) for n, r in zip(counts, rep.runs, strict=True))
            words = f"the {side} has {taken} too many: it is {kept}"
            coordinates = tuple(k for part in gone for k in part)
            found.setdefault(kept, Repair(side, "block", coordinates, words, Layout.plain(kept)))
    if excess < 0:
        pieces: set[Piece] = {(), *(run.piece for run in rep.runs)}
        pieces |= {(replace(VECTOR, slot=slot),) for slot in range(len(group.factors))}
        for piece, at in product(sorted(pieces, key=repr), range(len(rep.terms) + 1)):
            count, rest = divmod(-excess, piece_size(piece, group))
            if rest == 0:
                grown = Rep([*rep.terms[:at], (count, piece), *rep.terms[at:]], group)
                start = rep.runs[at].start if at < len(rep.runs) else rep.size
                words = f"the {side} lacks {Rep([(count, piece)], group)}: it is {grown}"
                span = tuple(range(start, start - excess))
                found.setdefault(grown, Repair(side, "block", span, words, Layout.plain(grown)))
    return list(found.values())


def search(
    probe: Probe, layouts: tuple[Layout, Layout], images: Tensor, floor: float, budget: int
) -> tuple[list[Trial], int]:
    """The most promising repairs, measured at all points, best first, and how many were left untried.

    All are measured at a few points first, on each side at most ``budget`` points altogether.
    """
    coarse = probe.thinned(32)
    cost = len(coarse.elements) * len(coarse.x)
    sides = [
        sparse_repairs("input", layouts[0], coarse.elements),
        sparse_repairs("output", layouts[1], coarse.elements),
    ]
    inputs, outputs = (list(islice(candidates, max(1, budget // cost))) for candidates in sides)
    left_out = sum(1 for candidates in sides for _ in candidates)
    screened, at_once = [], max(1, _ROWS // cost)
    for chunk in (inputs[k : k + at_once] for k in range(0, len(inputs), at_once)):
        moved = coarse.images([repair.layout for repair in chunk])
        screened += [(r, coarse.errors(layouts[1], at)) for r, at in zip(chunk, moved, strict=True)]
    unmoved = coarse.images([layouts[0]])[0]
    screened += [(repair, coarse.errors(repair.layout, unmoved)) for repair in outputs]
    screened.sort(key=lambda found: _score(found[1], floor))
    trials = []
    for repair, _ in screened[:_FINALISTS]:
        is_input = repair.side == "input"
        output = layouts[1] if is_input else repair.layout
        values = probe.images([repair.layout])[0] if is_input else images
        trials.append(Trial(repair, probe.errors(output, values), probe.chance(output, values)))
    ranks = get_args(Kind)  # of repairs that do equally well, the simplest first
    trials.sort(key=lambda trial: (_score(trial.errors, floor), ranks.index(trial.repair.kind)))
    return trials, left_out


def _score(errors: Float[Tensor, " generator"], floor: float) -> float:
    """The mean logarithm: it rewards a generator that a repair makes exact."""
    return round(float(errors.clamp_min(floor).log().mean()), 6)
