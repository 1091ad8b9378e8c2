"""Columns of labels, and columns of numbers that may be labels."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from analysis.tables.columns import shown
from analysis.tables.text_table import STRANGE

_MOST = 0.5  # of the rows of a column, by which it is judged
_FEW, _ROWS_EACH = 20, 5  # whole numbers of which there are so few, in so many rows each, may be labels
_LABELS = "For labels give --likelihood categorical"
_WITH_UNIT = r"[-+]?[\d.,]+\s*[^\d\s.,]{1,3}"
_TOO_MANY = 50  # labels, of which there are more than half as many as rows


def as_labels(
    path: Path, name: str, column: pd.Series, classes: list[str] | None
) -> tuple[Int[Tensor, " rows"], list[str]]:
    """Labels 0, 1, ... of a column of text, and what they stand for: those found, in order, or ``classes``. Raises
    ValueError for a single label, gaps, or one that is not among the classes.
    """
    if column.isna().any():
        raise ValueError(
            f"{int(column.isna().sum())} of {len(column)} labels in column {name!r} of {path} are empty: leave these "
            "rows out with --drop-incomplete."
        )
    found = sorted(column.unique().tolist(), key=_as_number_or_text)
    known = classes or found
    if classes is None and len(found) > max(_TOO_MANY, len(column) / 2):
        raise ValueError(
            f"column {name!r} of {path} has {len(found)} different labels in {len(column)} rows: {shown(found, 5)}. "
            "For quantities give --likelihood gaussian."
        )
    if len(known) < 2:
        raise ValueError(f"column {name!r} of {path} has a single label, {known[0]!r}: there is nothing to tell apart.")
    if strange := [label for label in found if label not in known]:
        raise ValueError(f"column {name!r} of {path} has labels that the run does not know: {shown(strange)}.")
    codes = pd.Categorical(column, categories=known).codes
    return torch.as_tensor(codes.copy(), dtype=torch.int64), known


def _as_number_or_text(label: str) -> tuple[bool, float, str]:
    """Numbers first, by size, and then text."""
    try:
        return False, float(label), label
    except ValueError:
        return True, 0.0, label


def refuse_text(path: Path, frame: pd.DataFrame) -> None:
    """Raise ValueError for an output that is text in most rows: labels."""
    for name in frame:
        given = frame[name].dropna()
        if len(given) and pd.to_numeric(given, errors="coerce").isna().mean() > _MOST:
            text, first = given.astype(str).str.strip(), str(given.iloc[0]).strip()
            if text.str.endswith(STRANGE).any():
                raise ValueError(f"column {name!r} of {path} mixes decimal points and commas, or has underscores.")
            if text.str.fullmatch(_WITH_UNIT).mean() > _MOST:
                raise ValueError(
                    f"column {name!r} of {path} holds numbers with a sign or a unit, as {first!r}: write them alone."
                )
            labels = sorted({str(value).strip() for value in given.unique()})
            raise ValueError(
                f"column {name!r} of {path} holds text, {len(labels)} different: {shown(labels, 5)}. {_LABELS}."
            )


def refuse_what_may_be_labels(path: Path, names: list[str], y: Tensor) -> None:
    """Raise ValueError for a single output of few whole numbers, which are not to be regressed on unasked."""
    values = y.unique()
    if (
        y.shape[1] == 1
        and 1 < len(values) <= min(_FEW, len(y) // _ROWS_EACH)
        and bool((values == values.round()).all())
    ):
        several = [f"{value:g}" for value in values.tolist()]
        raise ValueError(
            f"column {names[0]!r} of {path} holds {len(values)} different whole numbers in {len(y)} rows: "
            f"{shown(several, 5)}. {_LABELS}; for quantities, --likelihood gaussian; for counts, poisson."
        )
