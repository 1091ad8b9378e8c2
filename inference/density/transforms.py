"""Constrained parameters to free ones and back, at the engines' boundary."""

from __future__ import annotations

from collections.abc import Mapping

from torch.distributions import biject_to, constraints

from bayes_rpp.types import Params


def to_free(params: Params, constraint_of: Mapping[str, constraints.Constraint]) -> Params:
    """Every parameter as an unconstrained tensor."""
    return {name: biject_to(constraint_of[name]).inv(value) for name, value in params.items()}


def to_constrained(free: Params, constraint_of: Mapping[str, constraints.Constraint]) -> Params:
    """The inverse of ``to_free``."""
    return {
        name: value if constraint_of[name] is constraints.real else biject_to(constraint_of[name])(value)
        for name, value in free.items()
    }
