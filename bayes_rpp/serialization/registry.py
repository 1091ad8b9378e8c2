"""What files can rebuild: networks, likelihoods and hyperpriors, each under a name, with how it is described."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from torch.distributions import Distribution

Description = dict[str, Any]
Role = Literal["network", "likelihood", "hyperprior"]


@dataclass(frozen=True)
class _Entry:
    kind: type
    describe: Callable[[Any], Description | None]
    rebuild: Callable[[Description], Any]

    @property
    def role(self) -> Role:
        if issubclass(self.kind, nn.Module):
            return "network"
        return "hyperprior" if issubclass(self.kind, Distribution) else "likelihood"


_ENTRIES: dict[str, _Entry] = {}


def register(
    name: str, kind: type, describe: Callable[[Any], Description | None], rebuild: Callable[[Description], Any]
) -> None:
    """Let posteriors of models with this class be saved and loaded without ``model=``.

    Parameters
    ----------
    name : what files call the class; it must not change once there are files.
    kind : the class of a network (a torch Module), a hyperprior (a Distribution) or a likelihood. Subclasses need names
        of their own.
    describe : from an instance to a dict of JSON values, or None if it has a part that no file can hold.
    rebuild : from such a dict to an instance. A network's weights need not be restored: they are in the draws.

    Raises
    ------
    ValueError
        If the name is that of another class.

    Examples
    --------
    >>> register("MyNet", MyNet, lambda net: {"width": net.width}, lambda given: MyNet(**given))
    """
    known = _ENTRIES.get(name)
    if known is not None and class_name(known.kind) != class_name(kind):
        raise ValueError(f"the name {name!r} is taken by {class_name(known.kind)}; give {class_name(kind)} another.")
    _ENTRIES[name] = _Entry(kind, describe, rebuild)


def described(value: object, key: str = "kind") -> Description | None:
    """An instance's description with its class's name at ``key``; None if the class or a part has no description."""
    for name, entry in _ENTRIES.items():
        if type(value) is entry.kind:
            description = entry.describe(value)
            return None if description is None else {key: name, **description}
    return None


def rebuilt(role: Role, description: Mapping[str, Any], key: str = "kind") -> Any:
    """The instance that ``described`` described; raises ValueError for a name that is not registered."""
    name, entry = description[key], _ENTRIES.get(description[key])
    if entry is None or entry.role != role:
        known = ", ".join(other for other, entry in _ENTRIES.items() if entry.role == role)
        raise ValueError(
            f"unknown {role} {name!r}; known are {known}. Register a class of your own with "
            "bayes_rpp.serialization.register, or pass the model where the file is read."
        )
    return entry.rebuild({part: value for part, value in description.items() if part != key})


def class_name(kind: type) -> str:
    """The full name of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"
