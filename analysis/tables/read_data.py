"""Inputs and outputs from a file, by the names of columns or arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.tables.binary_tables import FrameTable
from analysis.tables.columns import inputs_and_outputs, shown
from analysis.tables.labels import as_labels, refuse_text
from analysis.tables.named_arrays import read_named_arrays
from analysis.tables.table_data import TableData, in_double
from analysis.tables.text_table import TextTable

_TEXT, _FRAMES = {".csv", ".tsv", ".txt"}, {".parquet", ".xlsx", ".npy"}
_KINDS = ".csv, .tsv, .txt (or one of these with .gz), .parquet, .xlsx, .npy or .npz"


def read_data(
    path: Path,
    x: str | list[str],
    y: str | list[str] | None,
    *,
    labels: bool = False,
    classes: list[str] | None = None,
    drop_incomplete: bool = False,
) -> TableData:
    """Read inputs and outputs.

    Parameters
    ----------
    path : a table with a line of names, or an .npz file.
    x, y : comma-separated names of columns, or patterns such as ``x*``, which take columns in the file's order; of an
        .npz file, the name of one array each; or lists of names, as of ``TableData``. Without y, the inputs alone.
    labels : y is one column of labels, text or numbers, rather than numbers to predict.
    classes : the labels that there are, in order; by default those in the file.
    drop_incomplete : leave rows with gaps out, rather than refuse them.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing, of another kind or damaged, lacks a column, or holds something that is no number: with
        the line and the column.
    """
    if not path.is_file():
        what = f"{path} is a folder, not a table." if path.is_dir() else f"there is no data file {path}."
        raise FileNotFoundError(what)
    kind = _kind(path)
    if kind == ".npz":
        return read_named_arrays(path, x, y, labels, classes, drop_incomplete)
    table = TextTable(path) if kind in _TEXT else FrameTable(path)
    inputs, outputs = inputs_and_outputs(path, table.names, x, y)
    if labels and len(outputs) > 1:
        raise ValueError(f"labels are one column, but --y takes {len(outputs)} of {path}: {shown(outputs)}.")
    frame = table.read(inputs if labels else inputs + outputs)
    if labels and outputs:
        frame = frame.assign(**{outputs[0]: table.read_text(outputs[0])})
    if not len(frame):
        raise ValueError(f"{path} names {len(table.names)} columns but has 0 rows.")
    kept, rows = np.arange(len(frame)), len(frame)
    if drop_incomplete:
        kept = np.flatnonzero(frame.notna().all(axis=1))
        if not len(kept):
            raise ValueError(f"every row of {path} has a gap in a column of {shown(inputs + outputs)}.")
        frame = frame.iloc[kept]
    coded: Tensor | None = None
    found: list[str] = []
    if labels and outputs:
        coded, found = as_labels(path, outputs[0], frame[outputs[0]], classes)
    elif outputs:
        refuse_text(path, frame[outputs])
    numbers = torch.from_numpy(_numbers(frame[inputs if labels else inputs + outputs], table, kept))
    if outputs and not labels:
        coded = numbers[:, len(inputs) :].contiguous()
    given = numbers[:, : len(inputs)].contiguous()
    return in_double(TableData(path, given, coded, inputs, outputs, kept, found, rows - len(kept)))


def _kind(path: Path) -> str:
    compressed = path.suffix.lower() == ".gz"
    kind = Path(path.stem).suffix.lower() if compressed else path.suffix.lower()
    known = _TEXT if compressed else _TEXT | _FRAMES | {".npz"}
    if kind not in known:
        raise ValueError(f"{path} must be a {_KINDS} file, not {path.suffix or 'a file without a suffix'!r}.")
    return kind


def _numbers(frame: pd.DataFrame, table: TextTable | FrameTable, kept: np.ndarray) -> np.ndarray:
    """Columns as numbers in float64; ValueError with the place of the first field that is none."""
    columns = {name: pd.to_numeric(frame[name], errors="coerce").astype("float64") for name in frame}
    numbers = np.column_stack([column.to_numpy() for column in columns.values()])
    missing = np.isnan(numbers)
    if missing.any():
        row, column = (int(index) for index in np.argwhere(missing)[0])
        name, gaps = list(columns)[column], int(frame.isna().any(axis=1).sum())
        place = table.place(name, int(kept[row]))
        advice = "Narrow --x or --y, or mend it; of text as an input, give each word a column of 0 and 1."
        if pd.isna(frame[name].iloc[row]):
            advice = f"{gaps} of {len(frame)} rows have gaps: fill them, or leave them out with --drop-incomplete."
        raise ValueError(f"{place}, which is no number. {advice}")
    if not np.isfinite(numbers).all():
        row, column = (int(index) for index in np.argwhere(~np.isfinite(numbers))[0])
        raise ValueError(f"{table.place(list(columns)[column], int(kept[row]))}, which is not finite.")
    return numbers
