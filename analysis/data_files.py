"""Reading a user's data: .csv by column names, .npz by array names."""

from __future__ import annotations

import csv
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def read_data(path: Path, x_names: str, y_names: str) -> tuple[Tensor, Tensor]:
    """Read inputs and outputs.

    Parameters
    ----------
    path : a .csv file with a header line, or a .npz file.
    x_names, y_names : for .csv, comma-separated column names or patterns such as ``x*``, which take columns in the
        file's order; for .npz, the name of one array each.

    Returns
    -------
    x (rows, columns) and y (rows, columns), float32.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing, of another kind, lacks a column, or holds something that is no number.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no data file {path}.")
    readers = {".csv": _read_csv, ".npz": _read_npz}
    if path.suffix not in readers:
        raise ValueError(f"{path} must be a .csv or a .npz file, not {path.suffix or 'a file without a suffix'!r}.")
    x, y = readers[path.suffix](path, x_names, y_names)
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y.astype(np.float32))


def _read_csv(path: Path, x_names: str, y_names: str) -> tuple[np.ndarray, np.ndarray]:
    with path.open(newline="") as file:
        header = [name.strip() for name in next(csv.reader(file), [])]
    if not header:
        raise ValueError(f"{path} is empty; its first line must name the columns.")
    x, y = _columns(path, header, x_names, "--x"), _columns(path, header, y_names, "--y")
    shared = set(x) & set(y)
    if shared:
        raise ValueError(f"column {header[min(shared)]!r} of {path} is both an input and an output; narrow --x or --y.")
    try:
        table = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path} must hold numbers below its header: {error}") from error
    if table.shape[0] == 0 or table.shape[1] != len(header):
        raise ValueError(
            f"{path} names {len(header)} columns but has {table.shape[0]} rows of {table.shape[1]} numbers."
        )
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
    try:
        arrays = np.load(path, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is no readable .npz file: {error}") from error
    # The defaults are patterns for columns; for arrays they mean the names before the star.
    found = []
    for name, option in ((x_names.rstrip("*"), "--x"), (y_names.rstrip("*"), "--y")):
        if name not in arrays.files:
            raise ValueError(f"{path} has no array {name!r} (from {option}); its arrays are {', '.join(arrays.files)}.")
        array = arrays[name]
        if not np.issubdtype(array.dtype, np.number) or array.ndim < 1:
            raise ValueError(
                f"array {name!r} of {path} must hold rows of numbers, got {array.dtype} of shape {array.shape}."
            )
        found.append(array.reshape(len(array), -1))
    return found[0], found[1]
