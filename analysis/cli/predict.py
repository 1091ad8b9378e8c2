"""What ``bayes-rpp predict`` does."""

from __future__ import annotations

import logging
from argparse import Namespace
from typing import TypedDict

import pandas as pd

from analysis.cli.outcome import Outcome
from analysis.cli.run_folder import part_to_report
from analysis.report.run import Run
from analysis.tables.columns import NoSuchColumnError, shown
from analysis.tables.read_data import TableData, read_data
from inference import Posterior
from inference.atomic_write import atomic_write
from inference.posterior.prediction import Prediction

logger = logging.getLogger(__name__)


class _Columns(TypedDict):
    x: list[str]
    y: list[str]
    classes: list[str]


def predict(options: Namespace) -> Outcome:
    """Predict the rows of a table, and write them as another, with the names of the first one's outputs."""
    if not 0 < options.probability < 1:
        raise ValueError(f"--probability must lie between 0 and 1, got {options.probability}.")
    if options.out.suffix.lower() != ".csv":
        raise ValueError(f"--out must be a .csv file, got {options.out}.")
    if options.out.exists() and options.data.exists() and options.out.samefile(options.data):
        raise ValueError(f"--out {options.out} is the table itself, which would be lost: give another.")
    if options.out.exists() and not options.force:
        raise FileExistsError(f"{options.out} exists: give another --out, or --force to replace it.")
    posterior = Run.load(part_to_report(options.folder)).posterior
    if posterior.interrupted:
        logger.warning("the fit in %s was interrupted: these are predictions of what was trained.", options.folder)
    columns = _columns_of(posterior, options)
    table = read_data(options.data, columns["x"], None, drop_incomplete=options.drop_incomplete)
    prediction = posterior.predict(table.x)
    found = prediction.to_dataframe(columns["classes"] or columns["y"], options.probability)
    found.index = pd.Index(table.kept)
    whole = found.reindex(range(len(found) + table.dropped))  # a line for each of the table's, empty for those left out
    with atomic_write(options.out) as beside:
        whole.to_csv(beside, index=False)
    of_gaps = f", {table.dropped} of them empty for their gaps" if table.dropped else ""
    words = f"{len(whole)} rows{of_gaps} of {shown(list(found))} are in {options.out}"
    values = {"out": str(options.out), "rows": len(whole), "incomplete": table.dropped, "columns": list(found)}
    scores = _scores(prediction, columns, options, table)
    return Outcome("\n".join([words, scores.words] if scores else [words]), values | (scores.values if scores else {}))


def _columns_of(posterior: Posterior, options: Namespace) -> _Columns:
    columns: _Columns | None = posterior.stats.get("table")
    if not columns:
        raise ValueError(
            f"{options.folder} does not say which columns it was fitted to: it is of `demo`, or older than `predict`. "
            "Fit a table with `fit`."
        )
    return columns


def _scores(prediction: Prediction, columns: _Columns, options: Namespace, table: TableData) -> Outcome | None:
    """How good the predictions are, if the table has the outputs as well."""
    try:
        y = read_data(
            options.data,
            columns["x"],
            columns["y"],
            labels=bool(columns["classes"]),
            classes=columns["classes"] or None,
            drop_incomplete=options.drop_incomplete,
        ).y
    except NoSuchColumnError:
        return None
    except ValueError as refused:
        return Outcome(f"the predictions are not scored: {refused}", {"not_scored": str(refused)})
    assert y is not None
    if len(y) != len(table.x):
        return None
    if columns["classes"]:
        wrong = float((prediction.mean.argmax(1) != y).double().mean())
        return Outcome(f"the table has the labels: {wrong:.2%} are wrong", {"error": wrong})
    lower, upper = prediction.interval(options.probability)
    inside = float(((lower <= y) & (y <= upper)).double().mean())
    error = float((prediction.mean - y).square().mean())
    words = (
        f"the table has the outputs: MSE {error:.4g}; the {100 * options.probability:g} % intervals hold {inside:.1%}"
    )
    return Outcome(words, {"mse": error, "coverage": inside})
