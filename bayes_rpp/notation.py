"""Groups and representations as text: ``parse_group("O(3)")``, ``parse_rep("5*Scalar + 5*Vector")``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import NoReturn, TypeVar

from bayes_rpp.groups import cubes, named
from bayes_rpp.groups.group import Group
from bayes_rpp.representations.constructors import Irrep, Regular
from bayes_rpp.representations.rep import PseudoScalar, Rep, Scalar, T, Vector

_GROUPS: dict[str, Callable[..., Group]] = {
    name: value
    for module in (named, cubes)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, Group) and value is not Group
}
_REPS = {"Scalar": Scalar, "PseudoScalar": PseudoScalar, "Vector": Vector, "Regular": Regular}
_Value = TypeVar("_Value")
_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_][A-Za-z_0-9]*)|(\*\*|[-+*(),]))")


def parse_group(text: str) -> Group:
    """Read a group from text, in the notation of the classes.

    Parameters
    ----------
    text : for example ``"O(3)"``, ``"Z(4)"``, ``"SO2eR3"`` or the direct product ``"SO(3) * S(5)"``.

    Raises
    ------
    ValueError
        If the text is no group; the message marks the position.

    Examples
    --------
    >>> parse_group("O(3)").d
    3
    """
    return _Tokens(text, "group").parse(_parse_group_product)


def as_group(group: Group | str) -> Group:
    """A group, or text that names one."""
    return parse_group(group) if isinstance(group, str) else group


def as_rep(rep: Rep | str) -> Rep:
    """A representation, or text that describes one."""
    return parse_rep(rep) if isinstance(rep, str) else rep


def _parse_group_product(tokens: _Tokens) -> Group:
    result = _parse_single_group(tokens)
    while tokens.take_if("*"):
        result = result * _parse_single_group(tokens)
    return result


def _parse_single_group(tokens: _Tokens) -> Group:
    at = tokens.position
    name = tokens.take_name()
    if name not in _GROUPS:
        tokens.fail(at, f"unknown group {name!r}; known are {', '.join(_GROUPS)}")
    build = _GROUPS[name]
    arity = len(inspect.signature(build).parameters)
    arguments = tokens.take_arguments(0, arity)
    if len(arguments) != arity:
        tokens.fail(at, f"{name} takes {arity} argument(s), got {len(arguments)}")
    try:
        return build(*arguments)
    except ValueError as error:
        tokens.fail(at, str(error))


def parse_rep(text: str) -> Rep:
    """Read a representation from text.

    Sums, integer multiples, tensor products, powers and parentheses of Scalar, PseudoScalar, Vector, T(p) and T(p,q).
    It is unbound, unless pieces name their group, as they must for a direct product:
    ``"Vector(SO(3)) * Vector(S(5))"``. Where a product has a factor twice, its index says which:
    ``"Vector(Z(2) * Z(2), 0)"``.

    Raises
    ------
    ValueError
        If the text is no representation; the message marks the position.

    Examples
    --------
    >>> parse_rep("5*Scalar + 5*Vector")
    5*Scalar + 5*Vector
    """
    return _Tokens(text, "representation").parse(_parse_sum)


def _parse_sum(tokens: _Tokens) -> Rep:
    result = _parse_product(tokens)
    while tokens.take_if("+"):
        result = result + _parse_product(tokens)
    return result


def _parse_product(tokens: _Tokens) -> Rep:
    at = tokens.position
    result: Rep | int = _parse_power(tokens)
    while tokens.take_if("*"):
        result = result * _parse_power(tokens)
    if isinstance(result, int):
        tokens.fail(at, f"the number {result} must multiply a representation, as in {result}*Scalar")
    return result


def _parse_power(tokens: _Tokens) -> Rep | int:
    if tokens.current.isdigit():
        return tokens.take_number("")
    if tokens.take_if("("):
        base = _parse_sum(tokens)
        tokens.expect(")")
    else:
        base = _parse_named_rep(tokens)
    base = _bind_if_named(tokens, base)
    return base ** tokens.take_number("a power needs a non-negative integer") if tokens.take_if("**") else base


def _parse_named_rep(tokens: _Tokens) -> Rep:
    at = tokens.position
    name = tokens.take_name()
    if name == "T":
        return T(*tokens.take_arguments(1, 2))
    if name == "Irrep":
        return Irrep(*tokens.take_arguments(1, 1))
    if name not in _REPS:
        tokens.fail(at, f"unknown representation {name!r}; known are {', '.join(_REPS)}, Irrep(k), T(p) and T(p,q)")
    return _REPS[name]


def _bind_if_named(tokens: _Tokens, rep: Rep) -> Rep:
    """``(SO(3))`` after a representation binds it, ``(Z(2) * Z(2), 1)`` binds it to the second factor of a product."""
    at = tokens.position
    if not tokens.take_if("("):
        return rep
    group = _parse_group_product(tokens)
    slot = tokens.take_number("expected the index of a factor here") if tokens.take_if(",") else None
    tokens.expect(")")
    try:
        return rep(group) if slot is None else rep.on(group, slot)
    except ValueError as error:
        tokens.fail(at, str(error))


# Python's ast.parse was tried: it marks "O(3" at its bracket, loses the position of "5*", and reads T(0x2) and T(1_0).
class _Tokens:
    """The tokens of a text, each with its position."""

    def __init__(self, text: str, what: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"the {what} must be given as text, got {type(text).__name__}.")
        self.text, self.what = text, what
        self.tokens: list[tuple[str, int]] = []
        start, end = 0, len(text.rstrip())
        while start < end:
            match = _TOKEN.match(text, start)
            if match is None:
                start += len(text[start:]) - len(text[start:].lstrip())
                self.fail(start, f"unexpected character {text[start]!r}")
            self.tokens.append((match.group(match.lastindex or 0), match.start(match.lastindex or 0)))
            start = match.end()
        self.index = 0

    @property
    def position(self) -> int:
        return self.tokens[self.index][1] if self.index < len(self.tokens) else len(self.text)

    @property
    def current(self) -> str:
        return self.tokens[self.index][0] if self.index < len(self.tokens) else ""

    def fail(self, start: int, reason: str) -> NoReturn:
        raise ValueError(f"cannot read this {self.what}: {reason}\n  {self.text}\n  {' ' * start}^")

    def take_if(self, token: str) -> bool:
        found = self.current == token
        self.index += found
        return found

    def expect(self, token: str) -> None:
        if not self.take_if(token):
            self.fail(self.position, f"expected {token!r} here")

    def parse(self, rule: Callable[[_Tokens], _Value]) -> _Value:
        """What the whole text says by a rule."""
        result = rule(self)
        if self.current:
            self.fail(self.position, f"unexpected {self.current!r} here")
        return result

    def take_number(self, otherwise: str) -> int:
        """Read a number, or fail for this reason."""
        if not self.current.isdigit():
            self.fail(self.position, otherwise)
        self.index += 1
        return int(self.tokens[self.index - 1][0])

    def take_name(self) -> str:
        if not self.current.isidentifier():
            self.fail(self.position, "expected a name here")
        self.index += 1
        return self.tokens[self.index - 1][0]

    def take_arguments(self, fewest: int, most: int) -> list[int]:
        """Read ``(1, 2)``; no parentheses at all are no arguments."""
        arguments: list[int] = []
        at = self.position
        if self.take_if("(") and not self.take_if(")"):
            while not arguments or self.take_if(","):
                arguments.append(self.take_number("expected a whole number here"))
            self.expect(")")
        if not fewest <= len(arguments) <= most:
            self.fail(at, f"expected {fewest} to {most} numbers in parentheses, got {len(arguments)}")
        return arguments
