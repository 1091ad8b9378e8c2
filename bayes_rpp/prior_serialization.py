"""Priors as plain dicts of JSON values, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pyro.distributions as dist
import torch

from bayes_rpp.priors import RPPPrior
from bayes_rpp.variance_settings import Entry, Variance

_HYPERPRIORS = {
    law.__name__: law
    for law in (dist.HalfCauchy, dist.InverseGamma, dist.LogNormal, dist.HalfNormal, dist.Gamma, dist.Exponential)
}
_KIND = "hyperprior"  # a mapping of layers has numbers and dicts for values, no text


class _ForeignError(Exception):
    """A hyperprior that no file can hold."""


def describe_prior(prior: RPPPrior) -> dict[str, Any] | None:
    """A prior as JSON values, or None if it has a hyperprior of a kind that cannot be rebuilt from them.

    Examples
    --------
    >>> describe_prior(RPPPrior(dense_variance=HalfCauchy(0.01)))["dense_variance"]
    {'hyperprior': 'HalfCauchy', 'scale': 0.009999999776482582}
    """
    try:
        given = {field.name: getattr(prior, field.name) for field in fields(prior)}
        levels = given.pop("pathway_variances")
        scaling = given.pop("scaling")
        described = {name: _describe(setting) for name, setting in given.items()}
        own = None if levels is None else [_describe(setting) for setting in levels]
    except _ForeignError:
        return None
    return {**described, "scaling": scaling, "pathway_variances": own}


def rebuild_prior(description: Mapping[str, Any]) -> RPPPrior:
    """The prior that ``describe_prior`` described; raises KeyError, TypeError or ValueError if it is damaged."""
    given = dict(description)
    levels, scaling = given.pop("pathway_variances"), given.pop("scaling")
    settings = {name: _rebuild(setting) for name, setting in given.items()}
    own = None if levels is None else [_rebuild(setting) for setting in levels]
    return RPPPrior(**settings, scaling=scaling, pathway_variances=own)


def _describe(setting: Variance) -> Any:
    if isinstance(setting, Mapping):
        return {layer: _describe_entry(value) for layer, value in setting.items()}
    return _describe_entry(setting)


def _describe_entry(value: Entry) -> Any:
    if isinstance(value, int | float):
        return value
    kind = type(value).__name__
    if _HYPERPRIORS.get(kind) is not type(value):
        raise _ForeignError
    return {_KIND: kind, **{name: float(getattr(value, name)) for name in value.arg_constraints}}


def _rebuild(setting: Any) -> Variance:
    if isinstance(setting, Mapping) and not isinstance(setting.get(_KIND), str):
        return {layer: _rebuild_entry(value) for layer, value in setting.items()}
    return _rebuild_entry(setting)


def _rebuild_entry(value: Any) -> Entry:
    if not isinstance(value, Mapping):
        return value
    numbers = {name: torch.tensor(number, dtype=torch.float64) for name, number in value.items() if name != _KIND}
    return _HYPERPRIORS[value[_KIND]](**numbers)
