"""Choosing columns of a table by names and patterns."""

from __future__ import annotations

import csv
import re
from fnmatch import fnmatchcase
from pathlib import Path

_BY_DEFAULT = ("x*", "y*")
_SHOWN = 12  # names in a message
_NUMERAL = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?")


class NoSuchColumnError(ValueError):
    """A table lacks a column that was asked for."""


def check_names(path: Path, names: list[str]) -> None:
    """Raise ValueError if a table has no columns, or two of the same name."""
    if not any(names):
        raise ValueError(f"{path} is empty; its first line must name the columns.")
    if names[0].startswith("#") or names[0].lower().startswith("sep="):
        raise ValueError(f"the first line of {path} begins with {names[0]!r}: remove what is above the columns' names.")
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise ValueError(f"{path} names the column {twice[0]!r} more than once; every column needs a name of its own.")


def matching(path: Path, names: list[str], patterns: str | list[str], option: str) -> list[str]:
    """The columns that comma-separated names or patterns such as ``x*`` take: names in the order given, those of a
    pattern in the file's; a name with a comma stands in double quotes. A list is of names alone. Raises
    NoSuchColumnError, with the option they come from, if one takes none.
    """
    found: list[str] = []
    listed = isinstance(patterns, list)
    for pattern in patterns if isinstance(patterns, list) else _split(patterns):
        if not pattern:
            raise ValueError(f"{option} has an empty name, as before or after a comma; the columns are {shown(names)}.")
        fitting = [name for name in names if name == pattern]
        fitting = fitting or [name for name in names if fnmatchcase(name, pattern) and not listed]
        if not fitting:
            source = f", an {option} of the run" if listed else f" (from {option})"
            advice = f" Name those to take with {option}." if pattern in _BY_DEFAULT else ""
            known = f"its columns are {shown(names)}.{advice}"
            raise NoSuchColumnError(f"{path} has no column {pattern!r}{source}; {known}")
        found += [name for name in fitting if name not in found]
    return found


def shown(names: list[str], count: int = _SHOWN) -> str:
    """The first names, and how many others there are."""
    others = f" and {len(names) - count} others" if len(names) > count else ""
    return ", ".join((f'"{name}"' if "," in name else name) or "(no name)" for name in names[:count]) + others


def _split(patterns: str) -> list[str]:
    return [part.strip() for part in next(csv.reader([patterns], skipinitialspace=True), None) or [""]]


def refuse_numbers_for_names(path: Path, names: list[str]) -> None:
    """Raise ValueError if all names are numbers: a first row of data."""
    if all(_NUMERAL.fullmatch(name) for name in names):
        raise ValueError(
            f"the first line of {path} holds numbers, {shown(names, 4)}: put a line above it that names the columns, "
            "such as x1,x2,y1."
        )


def inputs_and_outputs(
    path: Path, names: list[str], x: str | list[str], y: str | list[str] | None
) -> tuple[list[str], list[str]]:
    """The columns that are inputs, and those that are outputs, none if y is None; ValueError if they share one."""
    inputs = matching(path, names, x, "input" if isinstance(x, list) else "--x")
    outputs = [] if y is None else matching(path, names, y, "output" if isinstance(y, list) else "--y")
    if shared := [name for name in inputs if name in outputs]:
        raise ValueError(f"column {shared[0]!r} of {path} is both an input and an output; narrow --x or --y.")
    return inputs, outputs
