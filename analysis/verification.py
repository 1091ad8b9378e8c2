"""Whether a function has the symmetry that two representations say, and if not, which coordinate is to blame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.equivariance import Function
from analysis.repairs import (
    Kind,
    Layout,
    Probe,
    Repair,
    Side,
    Trial,
    fitting_repairs,
    relative_distance,
    search,
)
from bayes_rpp import MLP, BayesianModel, Gaussian, Group, Rep, RPPPrior, Scalar, Trivial
from inference import MAP

Verdict = Literal["holds", "approximate", "wrong"]

_EXPLAINED = 0.5  # of a squared violation: no two causes can each account for more than half of it
_UNRELATED = 1 / 2  # of the chance level: a explains less than three quarters of b's variance
_RELATED = 1 / 3  # of the chance level: a explains eight ninths, as it must before a repair is believed
_STEPS = 2500  # of the surrogate's training
_ANGLES, _RAPIDITIES = (1.0, 0.5, 2.0), (0.5, -0.5)


@dataclass(frozen=True)
class GeneratorError:
    """How well one generator of the group is a symmetry.

    Attributes
    ----------
    name : what it does to the axes of the space on which the group is defined.
    error : the mean of ||a - b|| / (||a|| + ||b||) with a = rho_out(g) f(x), b = f(rho_in(g) x).
    chance : what ``error`` would be if a and b belonged to different points.
    verdict : "holds", "approximate" or "wrong".
    output_errors : the same for each output coordinate alone: rms(a_k - b_k) / (rms(a_k) + rms(b_k)).
    """

    name: str
    error: float
    chance: float
    verdict: Verdict
    output_errors: tuple[float, ...]


@dataclass(frozen=True)
class Suspect:
    """A possible mistake in a representation.

    Attributes
    ----------
    side : "input" or "output".
    kind : "sign", "swap", "block" (a type, or a block too many or too few) or "order" (of blocks, or of axes).
    coordinates : the columns concerned; of a block too many: its coordinates in the given representation.
    words : the mistake in words.
    error_before, error_after : the mean error over generators; before is NaN where the sizes did not fit the data.
    """

    side: Side
    kind: Kind
    coordinates: tuple[int, ...]
    words: str
    error_before: float
    error_after: float


@dataclass(frozen=True)
class SymmetryReport:
    """What ``verify_symmetry`` found; ``print`` it.

    Attributes
    ----------
    generators : one entry for each generator of the group.
    suspects : possible mistakes, best first; those that repair equally well cannot be told apart.
    floor : errors up to here say nothing: rounding, or the surrogate's own error.
    surrogate_error : the surrogate's relative error on held-out data; None for a function.
    untried : how many repairs there was no budget for.
    rep_in, rep_out : the bound representations that were verified: those given, or where their sizes do not fit, the
        best that do.
    points : at how many points.
    """

    generators: tuple[GeneratorError, ...]
    suspects: tuple[Suspect, ...]
    floor: float
    surrogate_error: float | None
    untried: int
    rep_in: Rep
    rep_out: Rep
    points: int

    def __str__(self) -> str:
        return "\n".join([*self._heading(), *self._table(), *self._findings()])

    def _heading(self) -> list[str]:
        lines = [
            f"Symmetry under {self.rep_in.group}, measured at {self.points} points",
            f"  inputs  {self.rep_in} ({self.rep_in.size} columns)",
            f"  outputs {self.rep_out} ({self.rep_out.size} columns)",
        ]
        if self.surrogate_error is not None:
            lines += [
                f"The function is a network fitted to the data; it misses held-out data by {self.surrogate_error:.1%}.",
                f"Errors below {self.floor:.2g} may be the network's own.",
            ]
            if self.floor > 0.2:
                lines.append("That is a poor fit: 'holds' below means little. More data would help.")
        return lines

    def _table(self) -> list[str]:
        width = max(len(generator.name) for generator in self.generators)
        lines = ["", f"{'generator':{width}}  {'error':>8}  {'chance':>8}  verdict"]
        for generator in self.generators:
            line = f"{generator.name:{width}}  {generator.error:8.2g}  {generator.chance:8.2g}  {generator.verdict}"
            if generator.verdict != "holds":
                errors = generator.output_errors
                worst = sorted(range(len(errors)), key=lambda k: -errors[k])[:3]
                line += "; worst in output " + ", ".join(f"{k} ({errors[k]:.2g})" for k in worst if errors[k] > 0)
            lines.append(line)
        return [*lines, "error: 0 is a perfect symmetry; chance: the error of unrelated outputs."]

    def _findings(self) -> list[str]:
        misfits = [suspect for suspect in self.suspects if math.isnan(suspect.error_before)]
        repairs = [suspect for suspect in self.suspects if not math.isnan(suspect.error_before)]
        lines = []
        if misfits:
            lines += ["", "The sizes given do not fit the data. What would make them fit, best first:"]
            lines += [f"  {k}. {s.words}: mean error {s.error_after:.2g}." for k, s in enumerate(misfits, start=1)]
            lines.append("The table above is for the first.")
        if repairs:
            several = "s; any one of them would explain the errors" if len(repairs) > 1 else ""
            lines += ["", f"Suspected mistake{several}:"]
            for k, s in enumerate(repairs, start=1):
                effect = f"repaired, the mean error falls from {s.error_before:.2g} to {s.error_after:.2g}"
                lines.append(f"  {k}. {s.words}; {effect}.")
            lines.append("Repair one and verify again: there may be another mistake behind it.")
        else:
            lines += ["", self._without_repair()]
        return [*lines, *([f"{self.untried} more repairs were not tried: raise `budget`."] if self.untried else [])]

    def _without_repair(self) -> str:
        verdicts = {generator.verdict for generator in self.generators}
        if verdicts == {"holds"}:
            return "Every generator holds."
        if "wrong" in verdicts:
            return "No single sign, swap, block or order explains what is wrong: several mistakes, or no such symmetry."
        return "No single sign, swap, block or order explains the errors: the symmetry seems to be approximate."


def verify_symmetry(
    f: Function | Sequence[Any],
    x: Float[Tensor, "batch size_in"] | None = None,
    group: Group | None = None,
    *,
    rep_in: Rep,
    rep_out: Rep,
    points: int = 256,
    budget: int = 1_000_000,
    seed: int = 0,
    progress: bool = True,
) -> SymmetryReport:
    r"""Check representations against a function or data: which generator of the group is a symmetry, and if one is
    not, which sign, swap or block was mistaken.

    Every Lie-algebra element A is tried as exp(tA / ||A||), at t = 0.5, 1, 2 for rotations and +-0.5 for others, and
    every discrete generator as it is. With a = rho_out(g) f(x), b = f(rho_in(g) x), a generator

    * **holds** if its error, the mean of ||a - b|| / (||a|| + ||b||), is at most the floor: the square root of the
      machine epsilon (half the digits), or for data twice the surrogate's relative error on held-out data, by the
      triangle inequality for the two evaluations (at transformed points it is only as good as the data reach there);
    * is **wrong** if a and b agree hardly better than outputs of different points do (their error exceeds half of this
      chance level), or if repairing one mistake removes more than half of its squared error;
    * is **approximate** otherwise.

    Size alone cannot tell a wrong sign from a broken symmetry: one wrong sign among the 15 coordinates of inertia's
    positions gives an error of 0.09, the modification of the paper one of 0.08. The search can. It tries the flip of
    each sign, the swap of each two coordinates, other types and orders of blocks, on both sides, and names a repair
    if it removes more than half of the sum of squared errors of all generators (no two independent causes can), and
    leaves none above a third of chance; or if it makes a generator hold and adds to no other's. A repair by which fewer
    input coordinates are moved at all must do better in proportion. It is one mistake at a time.

    Parameters
    ----------
    f : a function of batches; or data, a pair (x, y), to which a network is fitted first: 80 % of them to train on, the
        rest to measure its error at.
    x : (batch, size_in), in the domain of f; not given with data.
    group : needed if the representations are not bound.
    rep_in, rep_out : the representations in question, bound or not. If their sizes do not fit the data, blocks are
        removed or added, and the report is on the best pair found.
    points : at most so many of x are used.
    budget : on how many points f may be evaluated, roughly, in the search for mistakes on the input side.
    seed : of the choice of points and of the surrogate.
    progress : show the surrogate's training.

    Returns
    -------
    SymmetryReport

    Raises
    ------
    ValueError
        If x, y or f(x) hold NaN, there are too few points, the group is missing or without generators, or the sizes do
        not fit and no block explains it.

    Examples
    --------
    >>> data = inertia(symmetry_breaking=0.3)
    >>> report = verify_symmetry(data.function, data.test.x, data.group, rep_in=data.rep_in, rep_out=data.rep_out)
    >>> [generator.verdict for generator in report.generators]
    ['holds', 'approximate', 'approximate', 'holds']
    """
    group = group or rep_in.group or rep_out.group
    if group is None:
        raise ValueError("verify_symmetry needs a group: pass one, or bound representations.")
    rep_in, rep_out = rep_in(group), rep_out(group)
    for name, value in (("points", points), ("budget", budget)):
        if not isinstance(value, int) or value < 2:
            raise ValueError(f"{name} must be an integer of at least 2, got {value!r}.")
    surrogate_error = None
    if callable(f):
        if x is None:
            raise ValueError("verify_symmetry needs x, the points at which to measure the function.")
        x, evaluate = _table_of_numbers(x, "x", least=2), torch.no_grad()(f)
    else:
        if x is not None or len(f) != 2:
            raise ValueError("verify_symmetry needs a function and x, or data: one pair (x, y).")
        x, evaluate, surrogate_error = _fit_surrogate(f, seed, progress)
    x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:points]]
    y = _table_of_numbers(evaluate(x), "f(x)", least=len(x))
    elements, owner, names = _elements(group)
    probe = Probe(evaluate, x, y, elements, owner)
    rounding = math.sqrt(max(torch.finfo(x.dtype).eps, torch.finfo(y.dtype).eps))
    floor = rounding if surrogate_error is None else max(rounding, 2 * surrogate_error)
    layouts, misfits = _fit_sizes(probe, rep_in, rep_out, floor)
    return _report(probe, layouts, names, misfits, floor, surrogate_error, budget)


def _report(
    probe: Probe,
    layouts: tuple[Layout, Layout],
    names: list[str],
    misfits: list[Suspect],
    floor: float,
    surrogate_error: float | None,
    budget: int,
) -> SymmetryReport:
    images = probe.images([layouts[0]])[0]
    before, chance = probe.errors(layouts[1], images), probe.chance(layouts[1], images)
    trials: list[Trial] = []
    untried = 0
    if surrogate_error is not None or bool((before > floor).any()):
        trials, untried = search(probe, layouts, images, floor, budget)
    trials = [trial for trial in trials if _is_decisive(before, trial, floor)]
    best = trials[0].errors.clamp_min(floor).mean() if trials else math.inf
    trials = [trial for trial in trials if trial.errors.clamp_min(floor).mean() <= 1.05 * best]
    wrong = (before > floor) & (before > _UNRELATED * chance)
    if trials:
        wrong |= trials[0].errors.square() < _EXPLAINED * before.square()
    verdicts: list[Verdict] = [
        "wrong" if is_wrong else "holds" if error <= floor else "approximate"
        for is_wrong, error in zip(wrong.tolist(), before.tolist(), strict=True)
    ]
    columns = zip(
        names, before.tolist(), chance.tolist(), verdicts, _output_errors(probe, layouts[1], images), strict=True
    )
    return SymmetryReport(
        generators=tuple(GeneratorError(*column) for column in columns),
        suspects=(*misfits, *(_suspect(t.repair, float(before.mean()), float(t.errors.mean())) for t in trials)),
        floor=floor,
        surrogate_error=surrogate_error,
        untried=untried,
        rep_in=layouts[0].rep,
        rep_out=layouts[1].rep,
        points=len(probe.x),
    )


def _output_errors(probe: Probe, output: Layout, images: Tensor) -> list[tuple[float, ...]]:
    """For each generator, rms(a_k - b_k) / (rms(a_k) + rms(b_k)) of every output coordinate k."""
    a, b = probe.pairs(output, images)
    difference, left, right = (probe.by_generator(v.double().square().mean(1)).sqrt() for v in (a - b, a, b))
    errors = difference / (left + right).clamp_min(torch.finfo(torch.float64).tiny)
    return [tuple(row) for row in errors.nan_to_num(nan=1.0).tolist()]


def _suspect(repair: Repair, before: float, after: float) -> Suspect:
    return Suspect(repair.side, repair.kind, repair.coordinates, repair.words, before, after)


def _is_decisive(before: Float[Tensor, " generator"], trial: Trial, floor: float) -> bool:
    """Whether a repair is the cause of the errors and no coincidence; see verify_symmetry."""
    explained, after = trial.repair.share * _EXPLAINED, trial.errors
    halved = after.square().sum() < explained * before.square().sum()
    related = (after <= (_RELATED * trial.chance).clamp_min(floor)).all()
    mended = (before > floor) & (after <= floor) & (after.square() < explained * before.square())
    return bool((halved & related) | (mended.any() & (after <= before.clamp_min(floor)).all()))


def _fit_sizes(probe: Probe, rep_in: Rep, rep_out: Rep, floor: float) -> tuple[tuple[Layout, Layout], list[Suspect]]:
    """The given layouts, or where sizes do not fit, the best pair that does, with what is suspected then."""
    sides: list[tuple[Side, Rep, int]] = [("input", rep_in, probe.x.shape[1]), ("output", rep_out, probe.y.shape[1])]
    choices: list[list[Repair | Layout]] = []
    for side, rep, width in sides:
        found: list[Any] = [Layout.plain(rep)] if rep.size == width else fitting_repairs(side, rep, width)
        if not found:
            name = "rep_in" if side == "input" else "rep_out"
            raise ValueError(
                f"the {side} has {width} columns, but {name} = {rep} of {rep.group} has size {rep.size}, "
                "and there is no kind of block whose removal or addition makes these agree."
            )
        choices.append(found)
    if all(isinstance(found[0], Layout) for found in choices):
        return (Layout.plain(rep_in), Layout.plain(rep_out)), []
    tried = []
    for pair in product(*choices):
        source, target = (choice if isinstance(choice, Layout) else choice.layout for choice in pair)
        error = float(probe.errors(target, probe.images([source])[0]).mean())
        tried.append((error, (source, target), [choice for choice in pair if isinstance(choice, Repair)]))
    tried.sort(key=lambda entry: max(entry[0], floor))
    suspects = [_suspect(repair, math.nan, error) for error, _, repairs in tried for repair in repairs]
    return tried[0][1], suspects


def _table_of_numbers(value: Any, name: str, least: int) -> Tensor:
    table = torch.as_tensor(value).detach().cpu()
    table = table if table.is_floating_point() else table.double()
    if table.ndim != 2 or len(table) < least or table.shape[1] == 0:
        raise ValueError(
            f"{name} must have shape (batch, size) with a batch of at least {least}, got {tuple(table.shape)}."
        )
    if not torch.isfinite(table).all():
        raise ValueError(f"{name} holds NaN or infinite numbers.")
    return table


def _elements(group: Group) -> tuple[Tensor, Tensor, list[str]]:
    """Elements to compare at, the generator to which each belongs, and the generators' names."""
    elements: list[Tensor] = []
    owner: list[int] = []
    names: list[str] = []
    count = {"Lie-algebra element": 0, "discrete generator": 0}
    for kind, matrices in (("Lie-algebra element", group.lie_algebra), ("discrete generator", group.generators)):
        for matrix in matrices:
            is_algebra = kind == "Lie-algebra element"
            neutral = torch.zeros(group.d).double() if is_algebra else torch.ones(group.d).double()
            slot = next((s for s in range(len(group.factors)) if not _is_neutral(group, matrix, s, neutral)), 0)
            block = group.block(matrix, slot)
            describe = _describe_algebra if is_algebra else _describe_discrete
            name = describe(block) or f"{kind} {count[kind]}"
            several = len(group.factors) > 1
            place = f" of {group.factors[slot]}" + (
                f" (factor {slot})" if group.factors.count(group.factors[slot]) > 1 else ""
            )
            count[kind] += 1
            names.append(name + place if several else name)
            acting = [matrix] if not is_algebra else _one_parameter(matrix)
            elements += acting
            owner += [len(names) - 1] * len(acting)
    if not elements:
        raise ValueError(f"{group} has no generators, so there is no symmetry to verify.")
    return torch.stack(elements), torch.tensor(owner), names


def _is_neutral(group: Group, matrix: Tensor, slot: int, diagonal: Tensor) -> bool:
    return torch.equal(group.block(matrix, slot), group.block(torch.diag(diagonal), slot))


def _one_parameter(matrix: Tensor) -> list[Tensor]:
    size = torch.linalg.matrix_norm(matrix, 2)
    times = _ANGLES if torch.allclose(matrix.T, -matrix) else _RAPIDITIES
    return [torch.linalg.matrix_exp(t * matrix / size.clamp_min(1e-12)) for t in times]


def _describe_algebra(a: Tensor) -> str | None:
    entries = a.nonzero().tolist()
    if len(entries) == 2 and entries[0] == entries[1][::-1] and entries[0][0] != entries[0][1]:
        (i, j), forward, backward = entries[0], float(a[tuple(entries[0])]), float(a[tuple(entries[1])])
        if forward == -backward:
            return f"rotation in the plane of axes {i} and {j}"
        if forward == backward:
            return f"boost in the plane of axes {i} and {j}"
    if len(entries) == 1 and entries[0][0] != entries[0][1]:
        return f"shear: axis {entries[0][0]} gains a multiple of axis {entries[0][1]}"
    if entries and all(i == j for i, j in entries):
        return f"stretch along axes {', '.join(str(i) for i, _ in entries)}"
    return None


def _describe_discrete(g: Tensor) -> str | None:
    if torch.equal(g.abs(), torch.eye(len(g), dtype=g.dtype)):
        negative = (g.diagonal() < 0).nonzero().flatten().tolist()
        if len(negative) == len(g) > 1:
            return "inversion of all axes"
        return f"reflection of axis {', '.join(map(str, negative))}" if negative else "the identity"
    if bool(((g == 0) | (g == 1)).all()) and bool((g.sum(0) == 1).all()) and bool((g.sum(1) == 1).all()):
        return "axes " + ", ".join(" -> ".join(map(str, cycle)) for cycle in _cycles(g.argmax(0).tolist()))
    moved = (g - torch.eye(len(g), dtype=g.dtype)).abs().amax(0).nonzero().flatten().tolist()
    if len(moved) == 2 and torch.allclose(g.T @ g, torch.eye(len(g), dtype=g.dtype)) and torch.linalg.det(g) > 0:
        angle = math.degrees(math.atan2(float(g[moved[1], moved[0]]), float(g[moved[0], moved[0]])))
        return f"rotation by {angle:.4g} degrees in the plane of axes {moved[0]} and {moved[1]}"
    return None


def _cycles(images: list[int]) -> list[list[int]]:
    """The cycles of a permutation, each closed: [0, 1, 2, 0]."""
    cycles, seen = [], set[int]()
    for start in range(len(images)):
        if start in seen or images[start] == start:
            continue
        cycle = [start]
        while images[cycle[-1]] != start:
            cycle.append(images[cycle[-1]])
        seen.update(cycle)
        cycles.append([*cycle, start])
    return cycles


def _fit_surrogate(data: Sequence[Any], seed: int, progress: bool) -> tuple[Tensor, Function, float]:
    """Held-out inputs, a network fitted to the rest, and its mean relative error ||f - y|| / (||f|| + ||y||) there."""
    x, y = (_table_of_numbers(part, name, least=20).float() for part, name in zip(data, "xy", strict=True))
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} examples, but y has {len(y)}.")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, held_out = order[: int(0.8 * len(x))], order[int(0.8 * len(x)) :]
    (x_mean, x_scale), (y_mean, y_scale) = (_standard(part[train]) for part in (x, y))
    network = MLP(x.shape[1] * Scalar, y.shape[1] * Scalar, Trivial(1), channels=128, layers=3)
    model = BayesianModel(network, RPPPrior(), Gaussian(noise_variance=1e-2, learned=True))
    batch = min(250, len(train))
    epochs = max(1, round(_STEPS * batch / len(train)))
    pair = ((x[train] - x_mean) / x_scale, (y[train] - y_mean) / y_scale)
    posterior = MAP(epochs=epochs, batch_size=batch).fit(model, pair, seed=seed, device="cpu", progress=progress)

    def surrogate(points: Tensor) -> Tensor:
        return posterior.outputs((points - x_mean) / x_scale)[0, 0] * y_scale + y_mean

    error = float(relative_distance(surrogate(x[held_out]), y[held_out]).mean())
    return x[held_out], surrogate, error


def _standard(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale of each column; one that never varies has scale 1."""
    scale = columns.std(0, correction=0)
    return columns.mean(0), torch.where(scale > 1e-6 * columns.abs().amax(0), scale, torch.ones_like(scale))
