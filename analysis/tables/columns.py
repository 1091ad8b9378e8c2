"""Choosing columns of a table by names and patterns."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

_SHOWN = 12  # names in a message


def check_names(path: Path, names: list[str]) -> None:
    """Raise ValueError if a table has no columns, or two of the same name."""
    if not any(names):
        raise ValueError(f"{path} is empty; its first line must name the columns.")
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise ValueError(f"{path} names the column {twice[0]!r} more than once; every column needs a name of its own.")


def matching(path: Path, names: list[str], patterns: str | list[str], option: str) -> list[str]:
    """The columns that comma-separated names or patterns such as ``x*`` take: names in the order given, those of a
    pattern in the file's. A list is of names alone. Raises ValueError, with the option they come from, if one takes
    none.
    """
    found: list[str] = []
    listed = isinstance(patterns, list)
    for pattern in patterns if isinstance(patterns, list) else (part.strip() for part in patterns.split(",")):
        if not pattern:
            raise ValueError(f"{option} has an empty name, as before or after a comma; the columns are {shown(names)}.")
        fitting = [name for name in names if name == pattern]
        fitting = fitting or [name for name in names if fnmatchcase(name, pattern) and not listed]
        if not fitting:
            source = f", an {option} of the run" if listed else f" (from {option})"
            raise ValueError(f"{path} has no column {pattern!r}{source}; its columns are {shown(names)}.")
        found += [name for name in fitting if name not in found]
    return found


def shown(names: list[str], count: int = _SHOWN) -> str:
    """The first names, and how many others there are."""
    others = f" and {len(names) - count} others" if len(names) > count else ""
    return ", ".join(name or "(no name)" for name in names[:count]) + others


def inputs_and_outputs(
    path: Path, names: list[str], x: str | list[str], y: str | list[str] | None
) -> tuple[list[str], list[str]]:
    """The columns that are inputs, and those that are outputs, none if y is None; ValueError if they share one."""
    inputs = matching(path, names, x, "input" if isinstance(x, list) else "--x")
    outputs = [] if y is None else matching(path, names, y, "output" if isinstance(y, list) else "--y")
    if shared := [name for name in inputs if name in outputs]:
        raise ValueError(f"column {shared[0]!r} of {path} is both an input and an output; narrow --x or --y.")
    return inputs, outputs
