"""Reading a user's data: .csv by column names, .npz by array names."""

from __future__ import annotations

import csv
import zipfile
import zlib
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bayes_rpp.rounding import warn_if_rounded


def read_data(path: Path, x_names: str, y_names: str) -> tuple[Tensor, Tensor]:
    """Inputs and outputs (rows, columns), in float64, of a .csv file with a header line or of a .npz file.

    The names are, for .csv, comma-separated column names or patterns such as ``x*``, which take columns in the file's
    order; for .npz, the name of one array each. Raises FileNotFoundError or ValueError if the file is missing or of
    another kind, lacks a column, or holds something that is no number.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no data file {path}.")
    readers = {".csv": _read_csv, ".npz": _read_npz}
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise ValueError(f"{path} must be a .csv or a .npz file, not {path.suffix or 'a file without a suffix'!r}.")
    x, y = (torch.from_numpy(part) for part in readers[suffix](path, x_names, y_names))
    for name, given in (("x", x), ("y", y)):
        warn_if_rounded(name, given, given.dtype)
    return x.double(), y.double()


def _read_csv(path: Path, x_names: str, y_names: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file: {error}") from error
    header = [name.strip() for name in next(csv.reader(lines), [])]
    if not header:
        raise ValueError(f"{path} is empty; its first line must name the columns.")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ValueError(f"{path} names the column {twice[0]!r} more than once; every column needs a name of its own.")
    x, y = _columns(path, header, x_names, "--x"), _columns(path, header, y_names, "--y")
    shared = set(x) & set(y)
    if shared:
        raise ValueError(f"column {header[min(shared)]!r} of {path} is both an input and an output; narrow --x or --y.")
    if len(lines) == 1:
        raise ValueError(f"{path} names {len(header)} columns but has 0 rows.")
    try:
        table = np.loadtxt(lines[1:], delimiter=",", ndmin=2, quotechar='"', comments=None)
    except ValueError as error:
        raise ValueError(f"{path} must hold numbers below its header: {error}") from error
    if table.shape[1] != len(header):
        raise ValueError(f"{path} names {len(header)} columns but has rows of {table.shape[1]} numbers.")
    return table[:, x], table[:, y]


def _columns(path: Path, header: list[str], names: str, option: str) -> list[int]:
    indices: list[int] = []
    for name in (part.strip() for part in names.split(",")):
        found = [index for index, column in enumerate(header) if fnmatchcase(column, name)]
        if not found:
            raise ValueError(f"{path} has no column {name!r} (from {option}); its columns are {', '.join(header)}.")
        indices += [index for index in found if index not in indices]
    return indices


def _read_npz(path: Path, x_names: str, y_names: str) -> tuple[np.ndarray, np.ndarray]:
    # The defaults are patterns for columns; for arrays they mean the names before the star.
    x_name, y_name = x_names.rstrip("*"), y_names.rstrip("*")
    if x_name == y_name:
        raise ValueError(f"array {x_name!r} of {path} is both an input and an output; give --x and --y other names.")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            x, y = (_array(path, arrays, name, option) for name, option in ((x_name, "--x"), (y_name, "--y")))
    except _Refused:
        raise
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is no readable .npz file: {error}") from error
    if len(x) != len(y):
        raise ValueError(f"{path} has {len(x)} rows in {x_name!r} but {len(y)} in {y_name!r}; they must agree.")
    return x, y


def _array(path: Path, arrays: np.lib.npyio.NpzFile, name: str, option: str) -> np.ndarray:
    if name not in arrays.files:
        raise _Refused(f"{path} has no array {name!r} (from {option}); its arrays are {', '.join(arrays.files)}.")
    try:
        array = arrays[name]
    except ValueError as error:
        raise _Refused(f"array {name!r} of {path} cannot be read: {error}") from error
    if array.dtype.kind not in "iuf" or array.ndim < 1:
        raise _Refused(f"array {name!r} of {path} must hold rows of numbers, got {array.dtype} of shape {array.shape}.")
    if len(array) == 0:
        raise _Refused(f"array {name!r} of {path} has 0 rows.")
    rows = array.reshape(len(array), -1)
    return rows if array.dtype.kind == "f" and array.dtype.itemsize <= 8 else rows.astype(np.float64)


class _Refused(ValueError):
    """A readable array that cannot be data; its message stands as it is."""
