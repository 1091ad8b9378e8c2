"""A user's problem: the data of a table, the representations, and the rows to train and to test on."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from analysis.tables.labels import refuse_what_may_be_labels
from analysis.tables.read_data import TableData, read_data
from bayes_rpp import Group, Rep, Trivial, parse_group, parse_rep
from bayes_rpp.seeding import seeded_generator
from inference.data import Pair


@dataclass(frozen=True)
class Problem:
    """What to learn from what.

    Attributes
    ----------
    table : of the user's file.
    rep_in, rep_out : bound representations; of labels, that of the logits.
    train, test : the rows to fit, and those to judge by.
    held_out_of : the file that the test rows are from.
    """

    table: TableData
    rep_in: Rep
    rep_out: Rep
    train: Pair
    test: Pair
    held_out_of: Path

    @property
    def group(self) -> Group:
        """The symmetry group."""
        return self.rep_in.bound_group

    @property
    def is_of_labels(self) -> bool:
        """Whether the outputs are labels."""
        return bool(self.table.classes)


def read_problem(options: Namespace) -> Problem:
    """Read and check everything that a fit needs, by the options of the command. Raises ValueError or OSError, with the
    option, the file, the line and the column that are wrong.
    """
    given = _representations(options)
    if not 0 < options.test_fraction < 1:
        raise ValueError(f"--test-fraction must lie between 0 and 1, got {options.test_fraction}.")
    labels = options.likelihood == "categorical"
    how = {"labels": labels, "drop_incomplete": options.drop_incomplete}
    table = read_data(options.data, options.x, options.y, **how)
    assert table.y is not None
    outputs = len(table.classes) if labels else table.y.shape[1]
    rep_in, rep_out = given or _scalars(table.x.shape[1], outputs)
    if given is None and labels:
        rep_out = parse_rep(f"{outputs}*Scalar")(rep_in.bound_group)
    _check_width(options, "x", "in", table.x.shape[1], rep_in)
    _check_width(options, "y", "out", outputs, rep_out)
    if options.likelihood is None:
        refuse_what_may_be_labels(options.data, table.y_names, table.y)
    if options.test is None:
        train, test = _split(options, table)
    else:
        other = read_data(options.test, table.x_names, table.y_names, **how, classes=table.classes or None)
        assert other.y is not None
        train, test = (table.x, table.y), (other.x, other.y)
    _check_varies(options, *train)
    return Problem(table, rep_in, rep_out, train, test, options.test or options.data)


def _representations(options: Namespace) -> tuple[Rep, Rep] | None:
    """Those that the user names; None without a group."""
    named = {f"--{name.replace('_', '-')}": getattr(options, name) for name in ("group", "rep_in", "rep_out")}
    if all(value is None for value in named.values()):
        return None
    missing = [name for name, value in named.items() if value is None]
    if missing == ["--rep-out"] and options.likelihood == "categorical":
        raise ValueError('labels need --rep-out too, one scalar for each, such as "3*Scalar".')
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} missing: a symmetry needs --group, --rep-in and --rep-out; without "
            "a symmetry give none of them."
        )
    group = parse_group(options.group)
    return parse_rep(options.rep_in)(group), parse_rep(options.rep_out)(group)


def _scalars(inputs: int, outputs: int) -> tuple[Rep, Rep]:
    group = Trivial(1)
    return parse_rep(f"{inputs}*Scalar")(group), parse_rep(f"{outputs}*Scalar")(group)


def _check_width(options: Namespace, name: str, side: str, width: int, rep: Rep) -> None:
    if width == rep.size:
        return
    of_labels = name == "y" and options.likelihood == "categorical"
    given = f"there are {width} labels" if of_labels else f"--{name} gives {width} number(s) a row"
    named = getattr(options, f"rep_{side}")
    raise ValueError(f"{given}, but --rep-{side} {named!r} of {options.group} has size {rep.size}.")


def _split(options: Namespace, table: TableData) -> tuple[Pair, Pair]:
    rows = len(table.x)
    test = round(options.test_fraction * rows)
    if not 0 < test < rows:
        raise ValueError(
            f"--test-fraction {options.test_fraction} of {rows} rows leaves nothing to train or to test on."
        )
    order = torch.randperm(rows, generator=seeded_generator(options.seed))
    held_out, kept = order[:test], order[test:]
    assert table.y is not None
    return (table.x[kept], table.y[kept]), (table.x[held_out], table.y[held_out])


def _check_varies(options: Namespace, x: Tensor, y: Tensor) -> None:
    """Refuse training data in which inputs or outputs are constants, but for rounding."""
    for name, value in (("x", x), ("y", y.double())):
        rounding = 16 * torch.finfo(value.dtype).eps * value.abs().amax(0)
        if len(value) > 1 and ((value - value.mean(0)).abs() <= rounding).all():
            raise ValueError(
                f"every row of {options.data} to train on has the same {name}: with {name} that does not vary nothing "
                "can be learned of how y depends on x."
            )
