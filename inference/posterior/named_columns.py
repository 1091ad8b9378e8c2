"""Columns by the names that the table of a fit had."""

from __future__ import annotations

from typing import Any


def in_order_of_fit(x: Any, stats: dict[str, Any]) -> Any:
    """A frame of pandas with the input columns in the order in which the command's table had them; other inputs, and
    frames that share no name with it, as they are. Raises ValueError if some of the columns are missing.
    """
    names = (stats.get("table") or {}).get("x", [])
    if not hasattr(x, "columns") or not set(names) & set(x.columns):
        return x
    if missing := [name for name in names if name not in x.columns]:
        raise ValueError(f"x lacks {', '.join(map(repr, missing))}; the posterior was fitted to {', '.join(names)}.")
    return x[names]


def output_names(stats: dict[str, Any]) -> tuple[str, ...]:
    """The labels, or the names of the outputs, of the command's table; empty without one."""
    table = stats.get("table") or {}
    return tuple(table.get("classes") or table.get("y") or ())
