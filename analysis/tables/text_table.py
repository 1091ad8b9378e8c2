"""Text files of a header line and rows: commas, semicolons, tabs or bars between fields, as spreadsheets write them."""

from __future__ import annotations

import csv
import gzip
import io
import re
import warnings
import zlib
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.tables.columns import check_names, refuse_numbers_for_names

_PANDAS = tuple(int(part) for part in pd.__version__.split(".")[:2])  # doubles are exact by default from 3.1 on
_SEPARATORS, _SEEN = ";\t|,", 20  # rows by which the separator is chosen
_DECIMAL_COMMA = r"(^|{0})[\"\s]*[-+]?\d+,\d+([eE][-+]?\d+)?[\"\s]*({0}|$)"  # a field, after and before a separator
STRANGE = " (?)"  # after a field that is no number, though it could be taken for one
_GAPS = {"", "na", "n/a", "nan", "null", "none", "-", "?", "#n/a"}


class _Dialect(NamedTuple):
    separator: str
    decimal: str


class TextTable:
    """A text file, which may be compressed by gzip. The separator is the one that splits the first rows into the most
    fields, as many in each; between semicolons "1,5" is a number.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        names = next(self._rows(), (0, []))[1]
        self.names = [name.strip() for name in names]
        check_names(path, self.names)
        refuse_numbers_for_names(path, self.names)

    def read(self, columns: list[str]) -> pd.DataFrame:
        """These columns: numbers where all fields are, else text; NaN where a field is empty, "NA" or the like. Raises
        ValueError with the line, as the file counts them, if a row has more or fewer fields than the header.
        """
        chosen = [self.names.index(column) for column in columns]
        self._check_lengths()
        if (table := self._plain_numbers(chosen)) is not None:
            return table.set_axis(columns, axis=1)
        parts = [_numbers(fields, self._dialect.decimal) for fields in self._fields(chosen)]
        return pd.DataFrame(dict(zip(columns, parts, strict=True)) if parts else {name: [] for name in columns})

    def read_text(self, column: str) -> pd.Series:
        """A column as it is written, as labels are; None where a field is empty."""
        self._check_lengths()
        fields = self._fields([self.names.index(column)])
        return pd.Series([field.strip() or None for field in fields[0]] if fields else [], dtype=object)

    def _fields(self, chosen: list[int]) -> list[tuple[str, ...]]:
        """The fields of some columns, column by column; none if there are no rows."""
        return list(zip(*([row[index] for index in chosen] for _, row in islice(self._rows(), 1, None)), strict=True))

    def _plain_numbers(self, chosen: list[int]) -> pd.DataFrame | None:
        """What pandas reads, ten times as fast, if it is numbers without gaps, in rows of equal length; else None."""
        exact = {"float_precision": "round_trip"} if _PANDAS < (3, 1) else {}
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of rows that are too long
            try:
                table = pd.read_csv(
                    io.StringIO(self._text),
                    sep=self._dialect.separator,
                    decimal=self._dialect.decimal,
                    skipinitialspace=True,
                    index_col=False,
                    **exact,
                )
            except (pd.errors.ParserError, pd.errors.ParserWarning, ValueError):
                return None
        table = table.iloc[:, chosen]
        plain = all(isinstance(kind, np.dtype) and kind.kind in "iuf" for kind in table.dtypes)
        return table if plain and not table.isna().any(axis=None) and np.isfinite(table.to_numpy(float)).all() else None

    def place(self, column: str, row: int) -> str:
        """Where the field of a row of ``read`` stands, and what it holds, in words."""
        line, fields = next(islice(self._rows(), row + 1, None))
        return f"line {line} of {self.path}, column {column!r}, {holds(fields[self.names.index(column)])}"

    def _check_lengths(self) -> None:
        """Raise ValueError, with the line, for a row of more or fewer fields than the header names."""
        for line, fields in islice(self._rows(), 1, None):
            if len(fields) != len(self.names):
                raise ValueError(
                    f"line {line} of {self.path} has {len(fields)} field(s), but the header names {len(self.names)} "
                    "columns."
                )

    @cached_property
    def _text(self) -> str:
        try:
            data = gzip.decompress(self.path.read_bytes()) if _is_compressed(self.path) else self.path.read_bytes()
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{self.path} cannot be unpacked: {error}") from error
        encodings = ["utf-16"] if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ["utf-8-sig", "cp1252"]
        for encoding in encodings:
            try:
                text = data.decode(encoding)
            except UnicodeDecodeError:
                continue
            if "\0" not in text:
                return text.replace("\r\n", "\n").replace("\r", "\n")
        raise ValueError(f"{self.path} is no text file, as a .csv file should be.")

    @cached_property
    def _dialect(self) -> _Dialect:
        lines = [line for line in islice(io.StringIO(self._text), 5 * _SEEN) if line.strip()][:_SEEN]
        counts = {}
        for separator in _SEPARATORS:
            widths = [len(fields) for fields in csv.reader(lines, delimiter=separator, skipinitialspace=True)]
            counts[separator] = (widths.count(widths[0]) == len(widths), widths[0]) if widths else (False, 0)
        separator = max(_SEPARATORS, key=lambda each: (counts[each][1] > 1, *counts[each]))
        field = re.compile(_DECIMAL_COMMA.format(re.escape(separator)), re.MULTILINE)
        comma = separator != "," and field.search(self._text) is not None
        return _Dialect(separator, "," if comma else ".")

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Line numbers and fields of the lines that are not empty, the header first."""
        reader = csv.reader(
            io.StringIO(self._text), delimiter=self._dialect.separator, skipinitialspace=True, strict=True
        )
        try:
            for fields in reader:
                if any(field.strip() for field in fields):
                    yield reader.line_num, fields
        except csv.Error as error:
            raise ValueError(
                f"{self.path} cannot be read up to line {reader.line_num}, as of a quote that does not close: {error}."
            ) from error


def _numbers(fields: tuple[str, ...], decimal: str) -> pd.Series:
    """Fields as numbers if all that are not gaps are, else as text; gaps are missing."""
    plain = [None if field.strip().lower() in _GAPS else _numeral(field.strip(), decimal) for field in fields]
    try:
        return pd.Series(np.array([np.nan if field is None else float(field) for field in plain]))
    except ValueError:
        return pd.Series(plain, dtype=object)


def _numeral(field: str, decimal: str) -> str:
    """A field with a decimal point. Where commas are decimal, one with a point is no number: it may be thousands."""
    is_strange = "_" in field or (decimal == "," and "." in field)
    return field + STRANGE if is_strange else field.replace(decimal, ".")


def holds(field: object) -> str:
    """What a field holds, in words."""
    text = str(field).strip()
    return "is empty" if text.lower() in _GAPS else f"holds {text!r}"


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"
