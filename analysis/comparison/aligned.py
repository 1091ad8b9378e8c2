"""Tables: as aligned text, and as numbers by name."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, with the first column flush left and the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(rest, widths[1:], strict=True))]).rstrip()
        for first, *rest in rows
    ]


def by_name(dataset: xr.Dataset) -> dict[str, dict[str, float]]:
    """The numbers of each row by the names of their columns, without those that are NaN."""
    return {str(name): own.dropna().to_dict() for name, own in dataset.to_dataframe().T.items()}
