"""Docstrings of this project for mkdocstrings: types are those of the signature, and what follows ``name :`` is prose.

Where NumPy's style has "name : type" and the description below, sections here have "name : description". They are
handed on as a name with an indented description; the text of Returns likewise, without a name. What "see Base." refers
to is put in its place, and methods that only say "See Base." are left out.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import griffe

NAMED = ("Parameters", "Other Parameters", "Attributes")
ITEM = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*) : (.*)$")
TITLE = re.compile(r"^\w[\w ]*$")
OF_BASE = re.compile(r"^see (\w+)\.\s*")
CALLED = ("fit", "estimate")  # by users
BY_BASE = re.compile(r"^See \w+\.$")

Items = dict[str, list[str]]


def sections(lines: list[str]) -> list[list[str]]:
    """The lines of what comes before the first title, then of each section with its title and its dashes."""
    found: list[list[str]] = [[]]
    for i, line in enumerate(lines):
        following = lines[i + 1] if i + 1 < len(lines) else ""
        if TITLE.match(line) and following and set(following) == {"-"}:
            found.append([])
        found[-1].append(line)
    return found


def items_of(lines: list[str]) -> Items:
    """The lines of each name's description."""
    items: Items = {}
    names: list[str] = []
    for line in lines:
        if match := ITEM.match(line):
            names = match[1].split(", ")
            items |= {name: [match[2]] for name in names}
        else:
            for name in names:
                items[name].append(line.removeprefix("    "))
    return items


def described_by(cls: type, base: str) -> Items:
    """What the docstring of one of a class's bases says of its parameters."""
    for parent in cls.__mro__[1:]:
        if parent.__name__ == base:
            return complete(parameters_of(inspect.getdoc(parent) or ""), parent)
    return {}


def parameters_of(text: str) -> Items:
    """The items of the section Parameters."""
    return next((items_of(part[2:]) for part in sections(text.splitlines()) if part[:1] == ["Parameters"]), {})


def complete(items: Items, cls: type | None) -> Items:
    """The items with a base's descriptions in place of references to it."""
    result: Items = {}
    for name, lines in items.items():
        match = OF_BASE.match(lines[0])
        inherited = described_by(cls, match[1]).get(name) if cls and match else None
        result[name] = lines
        if inherited:
            assert match is not None
            further = [lines[0][match.end() :], *lines[1:]]
            result[name] = [*inherited, *(line for line in further if line)]
    return result


def in_numpy_style(text: str, cls: type | None) -> str:
    """A docstring as mkdocstrings' parser takes it."""
    result = []
    for section in sections(text.splitlines()):
        title, body = (section[0], section[2:]) if len(section) > 1 else ("", [])
        if title in NAMED:
            result += section[:2]
            for name, lines in complete(items_of(body), cls).items():
                result += [name, *(f"    {line}" if line else "" for line in lines)]
        elif title == "Returns":
            result += [*section[:2], ":", *(f"    {line}" if line else "" for line in body)]
        else:
            result += section
    return "\n".join(result)


class ProseDescriptions(griffe.Extension):
    """Rewrites every docstring of the packages before it is parsed."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Leave out what only a base calls; see griffe.Extension."""
        for name, member in list(cls.members.items()):
            by_base = member.is_function and member.docstring and BY_BASE.match(member.docstring.value)
            if by_base and name not in CALLED:
                del cls.members[name]

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """See griffe.Extension."""
        if obj.docstring is None:
            return
        cls = getattr(importlib.import_module(obj.module.path), obj.name, None) if obj.is_class else None
        obj.docstring.value = in_numpy_style(obj.docstring.value, cls if isinstance(cls, type) else None)
