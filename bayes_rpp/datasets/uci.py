"""Tables for regression from the UCI repository, with their splits, and tables as images."""

from __future__ import annotations

import math
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pandas
import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.datasets.regression_data import RegressionTable, Split
from bayes_rpp.groups.named import Trivial
from bayes_rpp.representations.rep import Scalar
from bayes_rpp.seeding import seeded_generator

_TEST_SHARE = 0.1  # of a table without splits of its own


def uci(name: str, split: int = 0, root: str | Path | None = None) -> RegressionTable:
    """A table, split into examples to train on and to test on.

    Parameters
    ----------
    name : of the table.
    split : which of its splits. A table from OpenML has none of its own: a tenth is drawn, with this seed.
    root : a folder that holds ``<name>/data.csv.gz``, without a header, the target in the last column, and
        ``<name>/test_mask.csv.gz``, whose column k is 1 for the rows that split k tests on. Without it, the table is
        asked of OpenML, through scikit-learn (pip install "bayes_rpp[images]"): its numeric columns and its target.

    Returns
    -------
    RegressionTable whose representations are scalars of the trivial group.

    Raises
    ------
    FileNotFoundError
        If the table is not there.
    ConnectionError
        If OpenML cannot be reached.
    ValueError
        If there is no such split, a split leaves nothing to train or to test on, a file is damaged, or a cell is no
        number.

    Examples
    --------
    >>> data = uci("energy", split=3, root="data/uci")
    >>> data.train.x.shape, data.test.x.shape
    (torch.Size([691, 8]), torch.Size([77, 8]))
    """
    if not isinstance(split, int):
        raise TypeError(f"split must be an integer, got {split!r}.")
    if split < 0:
        raise ValueError(f"split must not be negative, got {split}.")
    table, tested = _of_openml(name, split) if root is None else _of_files(Path(root) / name, split)
    x, y = (torch.from_numpy(part).to(torch.get_default_dtype()) for part in (table[:, :-1], table[:, -1:]))
    held = torch.from_numpy(tested)
    group = Trivial(1)
    rep_in = (x.shape[1] * Scalar)(group)
    return RegressionTable(Split(x[~held], y[~held]), Split(x[held], y[held]), rep_in, Scalar(group), group)


def as_images(x: Float[Tensor, "batch columns"]) -> Float[Tensor, "batch 1 height width"]:
    """Rows of a table as images, the smallest nearly square ones that hold all columns, padded with zeros.

    Examples
    --------
    >>> as_images(torch.ones(7, 10)).shape
    torch.Size([7, 1, 3, 4])
    """
    height = max(math.isqrt(x.shape[1]), 1)
    width = -(-x.shape[1] // height)
    return torch.nn.functional.pad(x, (0, height * width - x.shape[1])).reshape(len(x), 1, height, width)


def _of_files(folder: Path, split: int) -> tuple[np.ndarray, np.ndarray]:
    table = _numbers(folder / "data.csv.gz")
    masks = _numbers(folder / "test_mask.csv.gz")
    if len(masks) != len(table) or not np.isin(masks, (0, 1)).all():
        raise ValueError(f"{folder / 'test_mask.csv.gz'} must have {len(table)} rows of 0 and 1, as many as the data.")
    if split >= masks.shape[1]:
        raise ValueError(f"{folder.name} has {masks.shape[1]} splits, numbered from 0; there is no split {split}.")
    tested = masks[:, split] == 1
    if tested.all() or not tested.any():
        raise ValueError(f"split {split} of {folder.name} leaves nothing to {'train' if tested.all() else 'test'} on.")
    return table, tested


def _numbers(file: Path) -> np.ndarray:
    """A table of numbers; raises ValueError that names the first cell that is none."""
    if not file.exists():
        raise FileNotFoundError(f"there is no {file}.")
    try:
        table = pandas.read_csv(file, header=None, dtype=str, keep_default_na=False, skip_blank_lines=False)
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError, EOFError, OSError) as error:
        raise ValueError(f"{file} is no compressed table of numbers: {error}") from error
    numbers = table.apply(pandas.to_numeric, errors="coerce").to_numpy(dtype=np.float64, copy=True)
    if (bad := np.argwhere(~np.isfinite(numbers))).size:
        row, column = bad[0]
        raise ValueError(
            f"{file}, line {row + 1}, column {column + 1}: {table.iat[row, column]!r} is no finite number."
        )
    return numbers


def _of_openml(name: str, split: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import fetch_openml
    except ImportError as error:
        raise ImportError('uci() without root= needs scikit-learn: pip install "bayes_rpp[images]".') from error
    try:
        found = fetch_openml(name, as_frame=True, parser="auto")
    except URLError as error:
        raise ConnectionError(
            f"uci({name!r}) without root= asks OpenML, which cannot be reached: {error.reason}. For files, give root=."
        ) from error
    inputs = found.data.select_dtypes("number").to_numpy(dtype=np.float64)
    target = pandas.to_numeric(found.target, errors="coerce").to_numpy(dtype=np.float64)
    table = np.column_stack([inputs, target])
    if not np.isfinite(table).all():
        raise ValueError(f"OpenML's table {name!r} has missing numbers, or a target that is none.")
    order = torch.randperm(len(table), generator=seeded_generator(split)).numpy()
    tested = np.zeros(len(table), dtype=bool)
    tested[order[: max(1, round(_TEST_SHARE * len(table)))]] = True
    return table, tested
