"""Columns by the names that the table or the frames of a fit had."""

from __future__ import annotations

from typing import Any


def column_names(data: Any, outputs: int) -> dict[str, list[str]] | None:
    """Those of inputs and of outputs, as ``stats["table"]`` has them, where a pair of frames or series has texts for
    them; labels have none.
    """
    if not isinstance(data, tuple | list) or len(data) != 2:
        return None
    x, y = map(_names, data)
    y = y if len(y) == outputs else []
    return {"x": x, "y": y, "classes": []} if x or y else None


def in_order_of_fit(x: Any, stats: dict[str, Any]) -> Any:
    """A frame of pandas with the input columns in the order in which those of the fit were; other inputs, and frames
    that share no name with it, as they are. Raises ValueError if some of the columns are missing.
    """
    names = (stats.get("table") or {}).get("x", [])
    if not hasattr(x, "columns") or not set(names) & set(x.columns):
        return x
    if missing := [name for name in names if name not in x.columns]:
        raise ValueError(f"x lacks {', '.join(map(repr, missing))}; the posterior was fitted to {', '.join(names)}.")
    return x[names]


def output_names(stats: dict[str, Any]) -> tuple[str, ...]:
    """The labels, or the names of the outputs, of the fit's table; empty without one."""
    table = stats.get("table") or {}
    return tuple(table.get("classes") or table.get("y") or ())


def _names(part: Any) -> list[str]:
    names = list(getattr(part, "columns", [getattr(part, "name", None)]))
    return names if all(isinstance(name, str) for name in names) else []
