"""What ``bayes-rpp predict`` does."""

from __future__ import annotations

import logging
from argparse import Namespace
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from analysis.cli.outcome import Outcome
from analysis.cli.run_folder import part_to_report
from analysis.report.run import Run
from analysis.tables.columns import NoSuchColumnError, shown
from analysis.tables.read_data import read_data
from analysis.tables.table_data import rows_among
from inference import Posterior
from inference.atomic_write import atomic_write

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
    found = posterior.predict(table.x).to_dataframe(columns["classes"] or columns["y"], options.probability)
    found.index = pd.Index(table.kept)
    whole = found.reindex(range(len(found) + table.dropped))  # a line for each of the table's, empty for those left out
    with atomic_write(options.out) as beside:
        whole.to_csv(beside, index=False)
    seen = rows_among(table.x, posterior.data[0]) if posterior.data is not None else np.zeros(len(table.x), dtype=bool)
    trained = int(seen.sum())
    of_gaps = f" ({table.dropped} of them empty, for gaps in the inputs)" if table.dropped else ""
    words = f"{len(whole)} rows{of_gaps} of {shown(list(found))} are in {options.out}"
    words += f"\n{trained} of them have the inputs of rows that the run was trained on" if trained else ""
    values = {
        "out": str(options.out),
        "rows": len(whole),
        "incomplete": table.dropped,
        "trained_on": trained,
        "columns": list(found),
    }
    scores = _scores(found, found.index[~seen], columns, options)
    return Outcome("\n".join([words, scores.words] if scores else [words]), values | (scores.values if scores else {}))


def _columns_of(posterior: Posterior, options: Namespace) -> _Columns:
    columns: _Columns | None = posterior.stats.get("table")
    if not columns:
        raise ValueError(
            f"{options.folder} does not say which columns it was fitted to: it is of `demo`, or older than `predict`. "
            "Fit a table with `fit`."
        )
    return columns


def _scores(found: pd.DataFrame, new: pd.Index, columns: _Columns, options: Namespace) -> Outcome | None:
    """How good the predictions are, of the rows that have outputs too and are new, if there are any; None if the table
    has no such columns.
    """
    classes = columns["classes"]
    how: dict[str, Any] = {"labels": bool(classes), "classes": classes or None, "drop_incomplete": True}
    try:
        known = read_data(options.data, columns["x"], columns["y"], **how)
    except NoSuchColumnError:
        return None
    except ValueError as refused:
        return Outcome(f"the predictions are not scored: {refused}", {"not_scored": str(refused)})
    assert known.y is not None
    judged = np.isin(known.kept, new)
    if not judged.any():
        judged[:] = True
    y, own = known.y.numpy()[judged], found.loc[known.kept[judged]]
    which = "" if judged.all() else " new"
    head, scored = f"{len(own)}{which} rows have the {'labels' if classes else 'outputs'}", {"scored": len(own)}
    if classes:
        wrong = float((own["label"].to_numpy() != np.array(classes)[y]).mean())
        return Outcome(f"{head}: {wrong:.2%} are wrong", scored | {"error": wrong})
    mean, lower, upper = (own.iloc[:, k :: len(own.columns) // y.shape[1]].to_numpy() for k in (0, 2, 3))
    inside, error = float(((lower <= y) & (y <= upper)).mean()), float(np.square(mean - y).mean())
    held = f"the {100 * options.probability:g} % intervals hold {inside:.1%}"
    return Outcome(f"{head}: MSE {error:.4g}; {held}", scored | {"mse": error, "coverage": inside})
