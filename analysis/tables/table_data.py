"""What is read of a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.rounding import warn_if_rounded


@dataclass(frozen=True)
class TableData:
    """What is read of a file.

    Attributes
    ----------
    path : the file.
    x : (rows, inputs), float64.
    y : (rows, outputs), float64; labels (rows,), int64, if they were asked for; None if no outputs were.
    x_names, y_names : of the columns.
    classes : what the labels 0, 1, ... stand for.
    dropped : how many rows were left out, since they had gaps.
    kept : (rows,), the number in the file of each row, from 0 on.
    """

    path: Path
    x: Float[Tensor, "rows inputs"]
    y: Tensor | None
    x_names: list[str]
    y_names: list[str]
    kept: np.ndarray
    classes: list[str] = field(default_factory=list)
    dropped: int = 0


def in_double(data: TableData) -> TableData:
    """The data in float64, after a warning of numbers that have lost their variation to rounding."""
    parts = {"x": data.x, "y": data.y}
    for name, part in parts.items():
        if part is not None:
            warn_if_rounded(name, part, part.dtype)
    double = {
        name: part.double() if part is not None and part.is_floating_point() else part for name, part in parts.items()
    }
    return TableData(**{**vars(data), **double})


def rows_among(x: Float[Tensor, "rows inputs"], others: Float[Tensor, "others inputs"]) -> np.ndarray:
    """Which of the rows are among others, number for number: (rows,), true or false."""
    own, known = (np.ascontiguousarray(part.to(others.dtype).numpy()) for part in (x, others))
    kind = np.dtype((np.void, own.dtype.itemsize * own.shape[1]))
    return np.isin(own.view(kind), known.view(kind))[:, 0]
