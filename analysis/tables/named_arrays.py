"""Inputs and outputs from the arrays of an .npz file."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from analysis.tables.labels import as_labels
from analysis.tables.table_data import TableData, in_double


def read_named_arrays(
    path: Path,
    x: str | list[str],
    y: str | list[str] | None,
    labels: bool,
    classes: list[str] | None,
    drop_incomplete: bool,
) -> TableData:
    """See ``read_data``; columns are called by the array and their number in it."""
    # The defaults are patterns for columns; for arrays they mean the names before the star.
    names = {"--x": _array_name(path, x)} | ({} if y is None else {"--y": _array_name(path, y)})
    if len(set(names.values())) < len(names):
        raise ValueError(
            f"array {names['--x']!r} of {path} is both an input and an output; give --x and --y other names."
        )
    arrays = _read_arrays(path, names, labels)
    if len({len(array) for array in arrays.values()}) > 1:
        counts = " but ".join(f"{len(arrays[option])} in {name!r}" for option, name in names.items())
        raise ValueError(f"{path} has rows that do not agree: {counts}.")
    columns = {option: [f"{names[option]}[{i}]" for i in range(array.shape[1])] for option, array in arrays.items()}
    rows, kept = len(arrays["--x"]), np.arange(len(arrays["--x"]))
    if drop_incomplete:
        kept = np.flatnonzero(np.all([~_gaps(array).any(1) for array in arrays.values()], axis=0))
        if not len(kept):
            raise ValueError(f"every row of {path} has a gap.")
        arrays = {option: array[kept] for option, array in arrays.items()}
    _refuse_gaps(path, arrays, columns, kept)
    found: list[str] = []
    parts = {option: torch.from_numpy(array) for option, array in arrays.items() if array.dtype.kind != "U"}
    if labels and y is not None:
        if arrays["--y"].shape[1] > 1:
            raise ValueError(f"labels are one number a row, but {names['--y']!r} of {path} has {len(columns['--y'])}.")
        text = pd.Series([_label(value) for value in arrays["--y"][:, 0].tolist()], dtype=object)
        parts["--y"], found = as_labels(path, columns["--y"][0], text, classes)
    data = TableData(path, parts["--x"], parts.get("--y"), columns["--x"], columns.get("--y", []), kept, found)
    return in_double(replace(data, dropped=rows - len(kept)))


def _label(value: str | float) -> str:
    return value.strip() if isinstance(value, str) else f"{value:g}"


def _gaps(array: np.ndarray) -> np.ndarray:
    return np.asarray(array == "" if array.dtype.kind == "U" else np.isnan(array))


def _refuse_gaps(path: Path, arrays: dict[str, np.ndarray], columns: dict[str, list[str]], kept: np.ndarray) -> None:
    for option, array in arrays.items():
        wrong = _gaps(array) if array.dtype.kind == "U" else ~np.isfinite(array)
        if wrong.any():
            row, column = (int(index) for index in np.argwhere(wrong)[0])
            what = "an empty label" if array.dtype.kind == "U" else "a NaN or infinite number"
            gaps = np.any([_gaps(each).any(1) for each in arrays.values()], axis=0)
            raise ValueError(
                f"{path} holds {what}, first in row {kept[row] + 1} of {columns[option][column]}. {int(gaps.sum())} of "
                f"{len(array)} rows have gaps: fill them, or leave them out with --drop-incomplete."
            )


def _array_name(path: Path, names: str | list[str]) -> str:
    if isinstance(names, str):
        return names.rstrip("*")
    if "[" not in names[0]:
        raise ValueError(f"the run was fitted to columns of a table, such as {names[0]!r}, and {path} holds arrays.")
    return names[0].rpartition("[")[0]


def _read_arrays(path: Path, names: dict[str, str], labels: bool) -> dict[str, np.ndarray]:
    """Arrays of an .npz file as rows of numbers, by the option that names each; the outputs may be labels of
    text. Raises ValueError if one is missing or holds no rows of numbers.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {
                option: _array(path, arrays, name, option, labels and option == "--y") for option, name in names.items()
            }
    except _Refused:
        raise
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is no readable .npz file: {error}") from error


def _array(path: Path, arrays: np.lib.npyio.NpzFile, name: str, option: str, labels: bool) -> np.ndarray:
    if name not in arrays.files:
        raise _Refused(f"{path} has no array {name!r} (from {option}); its arrays are {', '.join(arrays.files)}.")
    try:
        array = arrays[name]
    except ValueError as error:
        raise _Refused(f"array {name!r} of {path} cannot be read: {error}") from error
    if array.dtype.kind in "U" and array.ndim == 1 and labels and option == "--y":
        return np.asarray(array[:, None])
    if array.dtype.kind not in "biuf" or array.ndim < 1:
        raise _Refused(
            f"array {name!r} of {path} must hold rows of numbers, got {array.dtype} of shape {array.shape}."
            + (" For labels give --likelihood categorical." if array.dtype.kind == "U" and option == "--y" else "")
        )
    if len(array) == 0:
        raise _Refused(f"array {name!r} of {path} has 0 rows.")
    rows = array.reshape(len(array), -1)
    return rows if array.dtype.kind == "f" and array.dtype.itemsize <= 8 else rows.astype(np.float64)


class _Refused(ValueError):
    """A readable array that cannot be data; its message stands as it is."""
