"""Values in JSON files: what can be written, and what is read, each entry by its name.

What a file holds is declared by a TypedDict. Its entries are numbers, texts, truth values, null, and lists and mappings
of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints, is_typeddict

E = TypeVar("E")

_WORDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    NoneType: "null",
    list: "a list",
    dict: "a mapping",
}
_LONGEST = 60  # of what an error shows


def read_entries(text: str | bytes, kind: type[E], where: str, advice: str) -> E:
    """JSON with the entries that a TypedDict declares, and perhaps others. ``where`` is what errors call the file.

    Raises ValueError, with the advice, if the text is no JSON, or an entry is missing or of another kind.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # no JSON, no text, or lists in lists without end
        raise ValueError(f"{where} is damaged: {error}. {advice}") from error
    return check_entries(value, kind, where, advice)


def check_entries(value: Any, kind: type[E], where: str, advice: str) -> E:
    """The same of values that were read before."""
    if fault := _fault(value, kind, ""):
        raise ValueError(f"{where} is damaged: {fault}. {advice}")
    checked: E = value
    return checked


def json_values(value: Any, name: str) -> Any:
    """A copy that JSON can hold: numbers of NumPy and tensors without dimensions become plain numbers. Raises
    TypeError, which gives the entry's name, for anything else that JSON cannot hold.
    """
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str | int):
                raise TypeError(f"{name} has the key {key!r}; keys of what is saved as JSON must be texts.")
        return {key: json_values(part, f"{name}[{key!r}]") for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(part, f"{name}[{index}]") for index, part in enumerate(value)]
    shape = f" of shape {tuple(value.shape)}, which .tolist() makes a list" if hasattr(value, "shape") else ""
    raise TypeError(
        f"{name} holds a value of type {type(value).__name__}{shape}; what is saved as JSON must be a number, a text, "
        "true, false, None, or a list or a dict of these."
    )


def _fault(value: Any, kind: Any, name: str) -> str | None:
    """What is wrong with a value, if it is not of a kind."""
    plain = _plain(kind)
    if plain is Any:
        return None
    if plain is UnionType:
        faults = [_fault(value, option, name) for option in get_args(kind)]
        return None if None in faults else _wrong(value, kind, name)
    is_number = plain is float and type(value) is int
    is_of_length = get_origin(kind) is not tuple or (type(value) is list and len(value) == len(get_args(kind)))
    if not ((type(value) is plain or is_number) and is_of_length):
        return _wrong(value, kind, name)
    return next((fault for part in _parts(value, kind, name) if (fault := _fault(*part))), _lacking(value, kind, name))


def _parts(value: Any, kind: Any, name: str) -> Sequence[tuple[Any, Any, str]]:
    """What a list or a mapping is made of: values, their kinds and their names."""
    if is_typeddict(kind):
        return [
            (value[key], of, f"{name}.{key}".lstrip(".")) for key, of in get_type_hints(kind).items() if key in value
        ]
    if get_origin(kind) is dict:
        return [(part, get_args(kind)[1], f"{name}.{key}".lstrip(".")) for key, part in value.items()]
    if get_origin(kind) is list:
        return [(part, get_args(kind)[0], f"{name}[{index}]") for index, part in enumerate(value)]
    if get_origin(kind) is tuple:
        return [
            (part, of, f"{name}[{index}]") for index, (part, of) in enumerate(zip(value, get_args(kind), strict=True))
        ]
    return []


def _plain(kind: Any) -> Any:
    """The class of a value in JSON."""
    if is_typeddict(kind):
        return dict
    return list if get_origin(kind) is tuple else get_origin(kind) or kind


def _lacking(value: Any, kind: Any, name: str) -> str | None:
    missing = sorted(kind.__required_keys__ - value.keys()) if is_typeddict(kind) else []
    return f"{f'its entry {name!r}' if name else 'it'} lacks {missing[0]!r}" if missing else None


def _wrong(value: Any, kind: Any, name: str) -> str:
    text = json.dumps(value)
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return f"{f'its entry {name!r}' if name else 'it'} holds {text}, but should hold {_in_words(kind)}"


def _in_words(kind: Any) -> str:
    if get_origin(kind) is UnionType:
        return " or ".join(map(_in_words, get_args(kind)))
    if get_origin(kind) is tuple:
        return f"a list of {len(get_args(kind))}"
    if get_origin(kind) is list and get_args(kind)[0] is not Any:
        return f"a list, each of its parts {_in_words(get_args(kind)[0])}"
    return _WORDS[_plain(kind)]
