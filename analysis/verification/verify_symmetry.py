"""Whether a function has the symmetry that two representations say, and if not, which mistake in them is to blame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.symmetry.equivariance import Function
from analysis.symmetry.generator_names import generator_names
from analysis.verification.generator_errors import Layout, SampledFunction, elements_to_try
from analysis.verification.repair_search import EXPLAINED, Errors, Trial, find_repairs
from analysis.verification.report import UNRELATED, GeneratorError, SymmetryReport, Verdict
from analysis.verification.size_repairs import fit_sizes
from analysis.verification.surrogate import fit_surrogate
from bayes_rpp import Group, Rep
from bayes_rpp.seeding import seeded_generator

_LEAST_EXAMPLES = 20  # of data: four to measure the surrogate at


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
    r"""Check representations against a function or data: which generators of the group are symmetries, and if one is
    not, which sign, swap or block was mistaken.

    Every Lie-algebra element A is tried as exp(tA / ||A||), at t = 0.5, 1, 2 for rotations and +-0.5 for others, and
    every discrete generator as it is. With a = rho_out(g) f(x), b = f(rho_in(g) x), the error of a generator is the
    mean over x and t of

        ||a - b|| / (||a|| + ||b||),

    and its chance level is the same with b of another x. Where f is not finite, it counts as 1. A generator

    * **holds** if its error is at most the floor: the square root of the machine epsilon (half the digits), or for data
      twice the surrogate's error on held-out data, by the triangle inequality for the two evaluations (at transformed
      points it is only as good as the data reach there);
    * is **wrong** if a and b agree hardly better than for different points, with an error above half of the chance
      level; or if repairing one mistake removes more than half of its squared error;
    * is **approximate** otherwise.

    Size alone cannot distinguish a wrong sign from a broken symmetry: one wrong sign among the 15 coordinates of
    inertia's positions gives an error of 0.09, the modification of the paper one of 0.08. A search can: of the flip of
    each sign, the swap of each two columns, other types and orders of blocks, on both sides. It names a repair

    * if it removes more than half of the sum of squared errors of all generators (no two independent causes can), and
      leaves none above a third of chance;
    * or if it makes a generator hold and adds to no other's error.

    A repair by which fewer input columns are moved at all must do better in proportion. Those whose mean error is at
    most 5 % above the best one's are named too. It is one mistake at a time.

    Parameters
    ----------
    f : a function of batches; or data, a pair (x, y), to which a network is fitted first: 80 % of them to train on, the
        rest to measure its error at. A poor fit hides mistakes; the report says so.
    x : (batch, size_in), in the domain of f; not given with data.
    group : needed if the representations are not bound.
    rep_in, rep_out : the representations in question, bound or not. If their sizes do not fit the data, blocks are
        removed or added, and the report is on the best pair found.
    points : at most so many of x are used.
    budget : at how many points, roughly, the repairs of each side may be tried; on the input side f is evaluated there.
    seed : of the choice of points and of the surrogate.
    progress : show the surrogate's training.

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

    The second body's y coordinate, column 9, with the wrong sign, and no broken symmetry:

    >>> data, signs = inertia(symmetry_breaking=0), torch.ones(20)
    >>> signs[9] = -1
    >>> f = lambda x: data.function(signs * x)
    >>> report = verify_symmetry(f, data.test.x, rep_in=data.rep_in, rep_out=data.rep_out)
    >>> report.suspects[0].words
    'input column 9 (component 1 of the Vector in columns 8 to 10) has the wrong sign'
    """
    group = group or rep_in.group or rep_out.group
    if group is None:
        raise ValueError("verify_symmetry needs a group: pass one, or bound representations.")
    rep_in, rep_out = rep_in(group), rep_out(group)
    for name, value in (("points", points), ("budget", budget)):
        if not isinstance(value, int) or value < 2:
            raise ValueError(f"{name} must be an integer of at least 2, got {value!r}.")
    x, evaluate, surrogate_error = _points_and_function(f, x, seed, progress)
    x = x[torch.randperm(len(x), generator=seeded_generator(seed))[:points]]
    sampled = SampledFunction(evaluate, x, _numbers(evaluate(x), "f(x)", least=len(x)), *elements_to_try(group))
    return _report(sampled, rep_in, rep_out, surrogate_error, budget)


def _points_and_function(
    f: Function | Sequence[Any], x: Tensor | None, seed: int, progress: bool
) -> tuple[Tensor, Function, float | None]:
    """The points at which to measure, the function to measure, and the error of a surrogate."""
    if callable(f):
        if x is None:
            raise ValueError("verify_symmetry needs x, the points at which to measure the function.")
        return _numbers(x, "x", least=2), torch.no_grad()(f), None
    if x is not None or not isinstance(f, Sequence) or len(f) != 2:
        raise ValueError("verify_symmetry needs a function and x, or data: one pair (x, y).")
    x, y = (_numbers(part, name, least=_LEAST_EXAMPLES) for part, name in zip(f, "xy", strict=True))
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} examples, but y has {len(y)}.")
    return fit_surrogate(x, y, seed, progress)


def _numbers(value: Any, name: str, least: int) -> Float[Tensor, "batch size"]:
    table = torch.as_tensor(value).detach().cpu()
    table = table if table.is_floating_point() else table.double()
    if table.ndim != 2 or len(table) < least or table.shape[1] == 0:
        raise ValueError(
            f"{name} must have shape (batch, size) with a batch of at least {least}, got {tuple(table.shape)}."
        )
    if not torch.isfinite(table).all():
        raise ValueError(f"{name} holds NaN or infinite numbers.")
    return table


def _report(
    sampled: SampledFunction, rep_in: Rep, rep_out: Rep, surrogate_error: float | None, budget: int
) -> SymmetryReport:
    floor = max(sampled.rounding, 2 * (surrogate_error or 0.0))
    rep_in, rep_out, wrong_sizes = fit_sizes(sampled, rep_in, rep_out, floor)
    images, output = sampled.images([Layout.plain(rep_in)])[0], Layout.plain(rep_out)
    errors, chance = sampled.errors(output, images), sampled.chance(output, images)
    trials, untried = list[Trial](), 0
    if surrogate_error is not None or bool((errors > floor).any()):  # a repair may show what a surrogate's floor hides
        trials, untried = find_repairs(sampled, rep_in, rep_out, images, floor, budget)
    repairs = (trial.repair.suspect(float(errors.mean()), float(trial.errors.mean())) for trial in trials)
    verdicts = _verdicts(errors, chance, floor, trials, sampled.rounding)
    columns = map(tuple, sampled.column_errors(output, images).tolist())
    table = zip(generator_names(rep_in.bound_group), errors.tolist(), chance.tolist(), verdicts, columns, strict=True)
    return SymmetryReport(
        generators=tuple(GeneratorError(*entry) for entry in table),
        suspects=(*wrong_sizes, *repairs),
        floor=floor,
        surrogate_error=surrogate_error,
        untried=untried,
        rep_in=rep_in,
        rep_out=rep_out,
        points=len(sampled.x),
    )


def _verdicts(errors: Errors, chance: Errors, floor: float, trials: list[Trial], rounding: float) -> list[Verdict]:
    """See verify_symmetry. A repair that explains a surrogate's error makes it wrong, even if below the floor."""
    is_wrong = errors > (UNRELATED * chance).clamp_min(floor)
    if trials:
        is_wrong |= (errors > rounding) & (trials[0].errors.square() < EXPLAINED * errors.square())
    return [
        "wrong" if wrong else "holds" if error <= floor else "approximate"
        for wrong, error in zip(is_wrong.tolist(), errors.tolist(), strict=True)
    ]
