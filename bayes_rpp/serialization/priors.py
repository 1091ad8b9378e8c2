"""Priors as plain dicts of JSON values, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import Distribution
from torch import Tensor

from bayes_rpp.priors.rpp_prior import RPPPrior
from bayes_rpp.priors.variance_settings import Variance
from bayes_rpp.serialization.registry import Description, class_name, described, rebuilt, register

_KIND = "hyperprior"  # a mapping of layers has numbers and dicts for values, no text
_RULE, _BY_PIECE = "fan_in", "piece"  # old files, whose "fan_in" is one for a whole layer, lack it


def _describe_law(law: Distribution) -> Description:
    return {name: float(getattr(law, name)) for name in law.arg_constraints}


def _rebuild_law(kind: type[Distribution], description: Description) -> Distribution:
    return kind(**{name: torch.tensor(number, dtype=torch.float64) for name, number in description.items()})


for _kind in (dist.HalfCauchy, dist.InverseGamma, dist.LogNormal, dist.HalfNormal, dist.Gamma, dist.Exponential):
    register(_kind.__name__, _kind, _describe_law, partial(_rebuild_law, _kind))


class _ForeignError(Exception):
    """A hyperprior of a class that is not registered."""


def describe_prior(prior: RPPPrior) -> dict[str, Any] | None:
    """A prior as JSON values, or None if it has a hyperprior of a class that is not registered."""
    try:
        given = {field.name: getattr(prior, field.name) for field in fields(prior)}
        levels = given.pop("pathway_variances")
        scaling = given.pop("scaling")
        described = {name: _describe(setting) for name, setting in given.items()}
        own = None if levels is None else [_describe(setting) for setting in levels]
    except _ForeignError:
        return None
    return {**described, "scaling": scaling, "pathway_variances": own, _RULE: _BY_PIECE}


def rebuild_prior(description: Mapping[str, Any]) -> RPPPrior:
    """The prior that ``describe_prior`` described; raises KeyError, TypeError or ValueError if it is damaged."""
    given = dict(description)
    levels, scaling, rule = given.pop("pathway_variances"), given.pop("scaling"), given.pop(_RULE, None)
    if scaling == "fan_in" and rule != _BY_PIECE:
        scaling = "layer_fan_in"  # what files of that time mean by it
    settings = {name: _rebuild(setting) for name, setting in given.items()}
    own = None if levels is None else [_rebuild(setting) for setting in levels]
    return RPPPrior(**settings, scaling=scaling, pathway_variances=own)


def exact_description(value: Any) -> Any:
    """Settings of any kind as JSON values, to distinguish them: distributions by class and parameters, not by their
    text, which leaves tensors out; what is not known, by its class alone.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(name): exact_description(part) for name, part in value.items()}
    if isinstance(value, Sequence):
        return [exact_description(part) for part in value]
    return {"class": class_name(type(value))} | {name: exact_description(part) for name, part in _parts(value).items()}


def _parts(value: object) -> dict[str, Any]:
    """What a dataclass or a distribution is made of; of transforms, what they keep in public."""
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, torch.distributions.Distribution):
        nested = {
            name: part
            for name, part in vars(value).items()
            if isinstance(part, torch.distributions.Distribution) or name == "transforms"
        }
        return {name: getattr(value, name) for name in value.arg_constraints} | nested
    if isinstance(value, torch.distributions.Transform):
        return {name: part for name, part in vars(value).items() if not name.startswith("_")}
    return {}


def _describe(setting: Variance) -> Any:
    if isinstance(setting, Mapping):
        return {layer: _describe(value) for layer, value in setting.items()}
    if isinstance(setting, int | float):
        return setting
    found = described(setting, _KIND)
    if found is None:
        raise _ForeignError
    return found


def _rebuild(setting: Any) -> Any:
    if not isinstance(setting, Mapping):
        return setting
    if isinstance(setting.get(_KIND), str):
        return rebuilt("hyperprior", setting, _KIND)
    return {layer: _rebuild(value) for layer, value in setting.items()}
