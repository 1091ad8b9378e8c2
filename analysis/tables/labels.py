"""Columns of labels, and columns of numbers that may be labels."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from analysis.tables.columns import shown

_FEW, _ROWS_EACH = 20, 5  # whole numbers of which there are so few, in so many rows each, may be labels
_LABELS = "For labels give --likelihood categorical"


def as_labels(path: Path, frame: pd.DataFrame, classes: list[str] | None) -> tuple[Int[Tensor, " rows"], list[str]]:
    """Labels 0, 1, ... of one column, and what they stand for: those found, in order, or ``classes``. Raises ValueError
    for several columns, a single label, gaps, or one that is not among the classes.
    """
    if frame.shape[1] != 1:
        raise ValueError(f"labels are one column, but --y takes {frame.shape[1]} of {path}: {shown(list(frame))}.")
    name = frame.columns[0]
    column = frame[name]
    if column.isna().any():
        raise ValueError(f"{int(column.isna().sum())} of {len(column)} labels in column {name!r} of {path} are empty.")
    if pd.api.types.is_float_dtype(column) and (column == column.round()).all():
        column = column.astype("int64")
    found = sorted(column.unique().tolist(), key=lambda value: (isinstance(value, str), value))
    named = column.astype(str).str.strip()
    known = classes or [str(value).strip() for value in found]
    if len(known) < 2:
        raise ValueError(f"column {name!r} of {path} has a single label, {known[0]!r}: there is nothing to tell apart.")
    strange = sorted(set(named.unique()) - set(known))
    if strange:
        raise ValueError(f"column {name!r} of {path} has labels that the run does not know: {shown(strange)}.")
    codes = pd.Categorical(named, categories=known).codes
    return torch.as_tensor(codes.copy(), dtype=torch.int64), known


def refuse_text(path: Path, frame: pd.DataFrame) -> None:
    """Raise ValueError for an output that is text in most rows: labels."""
    for name in frame:
        given = frame[name].dropna()
        if len(given) and pd.to_numeric(given, errors="coerce").isna().mean() > 0.5:
            labels = sorted({str(value).strip() for value in given.unique()})
            raise ValueError(
                f"column {name!r} of {path} holds text, {len(labels)} different: {shown(labels, 5)}. {_LABELS}."
            )


def refuse_what_may_be_labels(path: Path, names: list[str], y: Tensor) -> None:
    """Raise ValueError for a single output of few whole numbers, which are not to be regressed on unasked."""
    values = y.unique()
    if y.shape[1] == 1 and len(values) <= min(_FEW, len(y) // _ROWS_EACH) and bool((values == values.round()).all()):
        several = [f"{value:g}" for value in values.tolist()]
        raise ValueError(
            f"column {names[0]!r} of {path} holds {len(values)} different whole numbers in {len(y)} rows: "
            f"{shown(several, 5)}. {_LABELS}; for quantities, --likelihood gaussian."
        )
