"""What ``fit`` has understood of a table, for its user to see before the training."""

from __future__ import annotations

import torch
from torch import Tensor

from analysis.cli.fitting.problem import Problem
from analysis.tables.columns import shown
from analysis.tables.table_data import rows_among
from bayes_rpp import BayesianModel, Gaussian, Likelihood, NormalizedNetwork, Rep, Trivial

_FEW = 30  # test rows on which numbers hardly rest
_RARE = 0.02  # of the rows; more that are far apart are a second kind, and no outliers
_PIECES = 12  # that are shown
_MAD_OF_NORMAL = 0.6745  # the median absolute deviation of a standard normal distribution
_FAR = 20.0  # robust standard deviations from the median, beyond which Gaussian noise does not reach


def understood(problem: Problem, model: BayesianModel) -> str:
    """Rows, the pieces that columns make up with their scales, the network and its prior, and what looks wrong."""
    table, network = problem.table, model.network
    train, test = len(problem.train[0]), len(problem.test[0])
    lines = [f"{table.path}: {train} rows to train on, {test} to test on" + _left_out(problem)]
    inputs = outputs = None
    if isinstance(network, NormalizedNetwork):
        inputs, outputs = network.inputs.scale, network.outputs.scale
    lines += ["inputs:", *_pieces(problem.rep_in, table.x_names, inputs)]
    if problem.is_of_labels:
        lines += [f"labels: {table.y_names[0]}, {len(table.classes)} different: {shown(table.classes)}"]
    else:
        lines += ["outputs:", *_pieces(problem.rep_out, table.y_names, outputs)]
    group = "no symmetry is declared" if isinstance(problem.group, Trivial) else f"group {problem.group}"
    lines += [group if isinstance(model.likelihood, Gaussian) else f"{group}; {model.likelihood!r}"]
    return "\n".join(lines + [f"warning: {warning}" for warning in warnings_of(problem, model.likelihood)])


def _left_out(problem: Problem) -> str:
    dropped = problem.table.dropped
    other = f" of {problem.held_out_of}" if problem.held_out_of != problem.table.path else ""
    return other + (f"; {dropped} with gaps are left out" if dropped else "")


def _pieces(rep: Rep, names: list[str], scale: Tensor | None) -> list[str]:
    """A line for each copy of a piece; of scalars one line together."""
    lines: list[str] = []
    for run in rep.runs:
        piece = str(Rep(((1, run.piece),), rep.group))
        if run.piece_size == 1:
            own = slice(run.start, run.stop)
            lines += [f"  {run.multiplicity} {piece} <- {shown(names[own])}{_scales(scale, own)}"]
            continue
        for copy in range(run.multiplicity):
            own = slice(run.start + copy * run.piece_size, run.start + (copy + 1) * run.piece_size)
            lines += [f"  {piece} {copy + 1} <- {shown(names[own])}{_scales(scale, own)}"]
    return lines if len(lines) <= _PIECES else [*lines[:_PIECES], f"  and {len(lines) - _PIECES} others"]


def _scales(scale: Tensor | None, own: slice) -> str:
    if scale is None:
        return ""
    values = scale[own]
    low, high = float(values.min()), float(values.max())
    return f"   (scale {low:.3g})" if low == high else f"   (scales {low:.3g} to {high:.3g})"


def warnings_of(problem: Problem, likelihood: Likelihood) -> list[str]:
    """What looks wrong with the data, in sentences."""
    found, test = [], len(problem.test[0])
    if test < _FEW:
        found += [f"there are only {test} rows to test on, so that numbers of the report rest on few."]
    x = problem.train[0]
    if len(x) < _FEW:
        found += [f"there are only {len(x)} rows to train on: intervals tend to hold fewer observations than they say."]
    if both := int(rows_among(problem.test[0], x).sum()):
        found += [f"{both} of the {test} rows to test on have the inputs of rows to train on."]
    constant = [name for name, same in zip(problem.table.x_names, (x == x[:1]).all(0).tolist(), strict=True) if same]
    if constant and len(x) > 1:
        found += [f"the same in every row to train on: {shown(constant)}."]
    spread = x.std(0) if len(x) > 1 else torch.ones(x.shape[1])
    far = [name for name, mean, std in zip(problem.table.x_names, x.mean(0).tolist(), spread.tolist(), strict=True)
           if std > 0 and abs(mean) > 1e3 * std]  # fmt: skip
    found += _outliers(problem) if isinstance(likelihood, Gaussian) else []
    if far:
        found += [f"the mean is over 1,000 times the spread in {shown(far)}: subtract a reference value."]
    return found


def _outliers(problem: Problem) -> list[str]:
    """Values of outputs that are far from all others, and what is less moved by them; noise variances would grow."""
    y = problem.train[1]
    if len(y) < _FEW:
        return []
    middle = y.median(0).values
    away = (y - middle).abs()
    away = torch.where(away > 0, away, torch.nan)  # many values may be the same, as 0
    spread = away.nanmedian(0).values.nan_to_num(torch.inf) / _MAD_OF_NORMAL
    found = []
    for part, rows in (("train", y), ("test", problem.test[1])):
        far = ((rows - middle).abs() > _FAR * spread).sum(0).tolist()
        counts = zip(problem.table.y_names, far, strict=True)
        if columns := [f"{name} ({count})" for name, count in counts if 0 < count <= max(1, _RARE * len(rows))]:
            found += [f"{shown(columns)} among the rows to {part} on"]
    if not found:
        return []
    return [
        f"values over {_FAR:g} robust standard deviations from the median, by column: {'; '.join(found)}. If they are "
        "errors, leave them out; if not, --likelihood student-t follows them less."
    ]
