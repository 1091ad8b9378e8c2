"""Tables in binary files: Parquet, spreadsheets, and rows of NumPy."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.tables.columns import check_names
from analysis.tables.text_table import holds


class FrameTable:
    """A Parquet file or the first sheet of a spreadsheet, read by pandas; or the rows of an .npy file, whose columns
    are named by their numbers from 0 on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        readers = {".parquet": _parquet, ".xlsx": _spreadsheet, ".npy": _rows}
        self._frame = readers[path.suffix.lower()](path)
        self.names = [str(name).strip() for name in self._frame.columns]
        self._frame.columns = pd.Index(self.names)
        check_names(path, self.names)

    def read(self, columns: list[str]) -> pd.DataFrame:
        """These columns."""
        for column in columns:
            if self._frame[column].dtype.kind in "mM":
                raise ValueError(f"column {column!r} of {self.path} holds dates or times, which are no numbers.")
        return self._frame[columns].reset_index(drop=True)

    def read_text(self, column: str) -> pd.Series:
        """A column of labels as text: whole numbers without decimals; None where there is none."""
        values = self._frame[column]
        if pd.api.types.is_float_dtype(values) and (values.dropna() == values.dropna().round()).all():
            values = values.astype("Int64")
        return pd.Series([None if pd.isna(value) else str(value).strip() or None for value in values], dtype=object)

    def place(self, column: str, row: int) -> str:
        """Where the field of a row stands, and what it holds, in words."""
        first = 2 if self.path.suffix.lower() == ".xlsx" else 1  # spreadsheets count the line of names
        return f"row {row + first} of {self.path}, column {column!r}, {holds(self._frame[column].iloc[row])}"


def _parquet(path: Path) -> pd.DataFrame:
    return _by_extra(path, pd.read_parquet, "pyarrow")


def _spreadsheet(path: Path) -> pd.DataFrame:
    return _by_extra(path, pd.read_excel, "openpyxl")


def _by_extra(path: Path, reader, package: str) -> pd.DataFrame:  # type: ignore[no-untyped-def]
    try:
        return pd.DataFrame(reader(path))
    except ImportError as error:
        raise ValueError(
            f'{path} needs the package {package}, which is not installed: pip install "bayes_rpp[tables]", or save '
            "the table as .csv."
        ) from error
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no readable {path.suffix} file: {error}") from error


def _rows(path: Path) -> pd.DataFrame:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is no readable .npy file: {error}") from error
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise ValueError(f"{path} must hold a table of numbers, got {array.dtype} of shape {array.shape}.")
    return pd.DataFrame(array, columns=[str(index) for index in range(array.shape[1])])
