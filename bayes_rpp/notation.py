"""Groups and representations as text: ``parse_group("O(3)")``, ``parse_rep("5*Scalar + 5*Vector")``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NoReturn

from bayes_rpp.groups import cubes
from bayes_rpp.groups import named as groups
from bayes_rpp.groups.group import Group
from bayes_rpp.representations.constructors import Irrep, Regular
from bayes_rpp.representations.rep import PseudoScalar, Rep, Scalar, T, Vector

_GROUPS: dict[str, tuple[Callable[..., Group], int]] = {
    "Trivial": (groups.Trivial, 1),
    "Z": (groups.Z, 1),
    "S": (groups.S, 1),
    "D": (groups.D, 1),
    "SO": (groups.SO, 1),
    "O": (groups.O, 1),
    "SL": (groups.SL, 1),
    "Sp": (groups.Sp, 1),
    "SO13p": (groups.SO13p, 0),
    "SO13": (groups.SO13, 0),
    "O13": (groups.O13, 0),
    "Lorentz": (groups.O13, 0),
    "SO2eR3": (groups.SO2eR3, 0),
    "O2eR3": (groups.O2eR3, 0),
    "DkeR3": (groups.DkeR3, 1),
    "Cube": (cubes.Cube, 0),
    "RubiksCube": (cubes.RubiksCube, 0),
}
_REPS = {"Scalar": Scalar, "PseudoScalar": PseudoScalar, "Vector": Vector, "Regular": Regular}
_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_][A-Za-z_0-9]*)|(\*\*|[-+*(),]))")


def parse_group(text: str) -> Group:
    """Read a group from text, in the notation of the classes.

    Parameters
    ----------
    text : for example ``"O(3)"``, ``"Z(4)"``, ``"SO2eR3"`` or the direct product ``"SO(3) * S(5)"``.

    Raises
    ------
    ValueError
        If the text is no group; the message points at the place.

    Examples
    --------
    >>> parse_group("O(3)").d
    3
    """
    tokens = _Tokens(text, "group")
    result = _parse_group_product(tokens)
    tokens.expect_end()
    return result


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
    build, arity = _GROUPS[name]
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
    ``"Vector(SO(3)) * Vector(S(5))"``.

    Raises
    ------
    ValueError
        If the text is no representation; the message points at the place.

    Examples
    --------
    >>> parse_rep("5*Scalar + 5*Vector")
    5*Scalar + 5*Vector
    """
    tokens = _Tokens(text, "representation")
    result = _parse_sum(tokens)
    tokens.expect_end()
    return result


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
    number = tokens.take_number()
    if number is not None:
        return number
    base = _parse_atom(tokens)
    if tokens.take_if("**"):
        at = tokens.position
        exponent = tokens.take_number()
        if exponent is None:
            tokens.fail(at, "a power needs a non-negative integer")
        return base**exponent
    return base


def _parse_atom(tokens: _Tokens) -> Rep:
    if tokens.take_if("("):
        result = _parse_sum(tokens)
        tokens.expect(")")
    else:
        result = _parse_named_rep(tokens)
    return _bind_if_named(tokens, result)


def _parse_named_rep(tokens: _Tokens) -> Rep:
    at = tokens.position
    name = tokens.take_name()
    if name == "T":
        arguments = tokens.take_arguments(1, 2)
        return T(*arguments)
    if name == "Irrep":
        return Irrep(*tokens.take_arguments(1, 1))
    if name not in _REPS:
        tokens.fail(at, f"unknown representation {name!r}; known are {', '.join(_REPS)}, Irrep(k), T(p) and T(p,q)")
    return _REPS[name]


def _bind_if_named(tokens: _Tokens, rep: Rep) -> Rep:
    """``(SO(3))`` after a representation binds it."""
    at = tokens.position
    if not tokens.take_if("("):
        return rep
    group = _parse_group_product(tokens)
    tokens.expect(")")
    try:
        return rep(group)
    except ValueError as error:
        tokens.fail(at, str(error))


# Python's own ast.parse was tried: it marks "O(3" at its bracket, loses the place of "5*", and reads T(0x2) and T(1_0).
class _Tokens:
    """The tokens of a text, each with its place."""

    def __init__(self, text: str, what: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"the {what} must be given as text, got {type(text).__name__}.")
        self.text, self.what = text, what
        self.tokens: list[tuple[str, int]] = []
        place, end = 0, len(text.rstrip())
        while place < end:
            match = _TOKEN.match(text, place)
            if match is None:
                place += len(text[place:]) - len(text[place:].lstrip())
                self.fail(place, f"unexpected character {text[place]!r}")
            self.tokens.append((match.group(match.lastindex or 0), match.start(match.lastindex or 0)))
            place = match.end()
        self.index = 0

    @property
    def position(self) -> int:
        return self.tokens[self.index][1] if self.index < len(self.tokens) else len(self.text)

    @property
    def current(self) -> str:
        return self.tokens[self.index][0] if self.index < len(self.tokens) else ""

    def fail(self, place: int, reason: str) -> NoReturn:
        raise ValueError(f"cannot read this {self.what}: {reason}\n  {self.text}\n  {' ' * place}^")

    def take_if(self, token: str) -> bool:
        found = self.current == token
        self.index += found
        return found

    def expect(self, token: str) -> None:
        if not self.take_if(token):
            self.fail(self.position, f"expected {token!r} here")

    def expect_end(self) -> None:
        if self.current:
            self.fail(self.position, f"unexpected {self.current!r} here")

    def take_number(self) -> int | None:
        if not self.current.isdigit():
            return None
        number = int(self.current)
        self.index += 1
        return number

    def take_name(self) -> str:
        if not self.current.isidentifier():
            self.fail(self.position, "expected a name here")
        name = self.current
        self.index += 1
        return name

    def take_arguments(self, fewest: int, most: int) -> list[int]:
        """Read ``(1, 2)``; no parentheses at all are no arguments."""
        arguments: list[int] = []
        at = self.position
        opened = self.take_if("(")
        if opened and not self.take_if(")"):
            while True:
                number = self.take_number()
                if number is None:
                    self.fail(self.position, "expected a whole number here")
                arguments.append(number)
                if not self.take_if(","):
                    break
            self.expect(")")
        if not fewest <= len(arguments) <= most:
            self.fail(at, f"expected {fewest} to {most} numbers in parentheses, got {len(arguments)}")
        return arguments
