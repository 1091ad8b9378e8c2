"""The variances of a prior by name: numbers or hyperpriors, for all layers or layer by layer.

A setting has the name of its argument, ``dense_variance`` or ``pathway_variances[0]``; of a mapping, the default entry
has that name too, and the entry of a layer is ``dense_variance[network.0]``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import TypeAlias

import torch
from pyro.distributions import Distribution
from torch.distributions import constraints

Entry: TypeAlias = float | Distribution
Variance: TypeAlias = float | Distribution | Mapping[str, float | Distribution]


def entries(name: str, setting: Variance) -> Iterator[tuple[str, str, Entry]]:
    """The name, the layer ("" by default) and the value of every entry of a setting."""
    for layer, value in setting.items() if isinstance(setting, Mapping) else [("", setting)]:
        yield entry_name(name, layer), layer, value


def entry_name(name: str, layer: str) -> str:
    """The name of a setting's entry for a layer."""
    return f"{name}[{layer}]" if layer else name


def entry_of(name: str, setting: Variance, parameter: str) -> str:
    """The entry that a parameter takes, by name: the longest layer that holds it wins; ValueError if there is none."""
    if not isinstance(setting, Mapping):
        return name
    matches = [layer for layer in setting if layer == "" or parameter.startswith(layer + ".")]
    if not matches:
        raise ValueError(f"no variance for {parameter!r}: add a default under the empty name, {{'': 1e-4, ...}}.")
    return entry_name(name, max(matches, key=len))


def setting_text(setting: Variance) -> str:
    """A setting as it would be given, hyperpriors with their parameters."""
    if isinstance(setting, Mapping):
        return "{" + ", ".join(f"{layer!r}: {setting_text(value)}" for layer, value in setting.items()) + "}"
    if not isinstance(setting, Distribution):
        return repr(setting)
    parameters = ", ".join(f"{name}={float(getattr(setting, name)):g}" for name in setting.arg_constraints)
    return f"{type(setting).__name__}({parameters})"


def checked_setting(name: str, setting: Variance) -> Variance:
    """A setting whose numbers, of any kind, have become plain floats, since they are saved as they are. Raises
    TypeError unless every entry is a number or a Pyro distribution, and ValueError unless numbers are positive and
    finite, and distributions are of one positive number.
    """
    checked = {layer: _checked_entry(name, layer, value) for _, layer, value in entries(name, setting)}
    return checked if isinstance(setting, Mapping) else checked[""]


def _checked_entry(name: str, layer: str, value: Entry) -> Entry:
    at = f"{name} for {layer!r}" if layer else name
    if isinstance(value, Distribution):
        _check_hyperprior(at, value)
        return value
    if isinstance(value, torch.distributions.Distribution):
        kind = type(value).__name__
        raise TypeError(
            f"{at} must be a number or a distribution of pyro.distributions, got {value} of torch.distributions: take "
            f"pyro.distributions.{kind}."
        )
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(
            f"{name} must be a number, a distribution of pyro.distributions, or a mapping of these, got {value!r}."
        )
    number = float(value)
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{at} must be positive and finite, got {value}.")
    return number


def _check_hyperprior(at: str, hyperprior: Distribution) -> None:
    support = getattr(hyperprior, "support", None)
    half_line = isinstance(support, constraints.greater_than | constraints.greater_than_eq)
    if not (half_line and float(getattr(support, "lower_bound", -math.inf)) == 0.0):
        raise ValueError(
            f"{at} must have a hyperprior on the positive numbers, as HalfCauchy, InverseGamma or LogNormal, got "
            f"{hyperprior} with support {support}."
        )
    if shape := tuple(hyperprior.shape()):
        raise ValueError(f"{at} must have a hyperprior of one number, got {hyperprior} of shape {shape}.")
