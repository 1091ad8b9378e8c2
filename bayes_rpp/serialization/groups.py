"""Groups and representations as JSON values, and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bayes_rpp.groups.group import Group, ProductGroup
from bayes_rpp.notation import parse_group, parse_rep
from bayes_rpp.representations.elementary import MatrixAction, RestrictedAction
from bayes_rpp.representations.factors import Action, Factor
from bayes_rpp.representations.homomorphism import Homomorphism
from bayes_rpp.representations.rep import Rep

Description = dict[str, Any]


def describe_group(group: Group) -> Description:
    """A group by its generators, or by its factors."""
    if len(group.factors) > 1:
        return {"factors": [describe_group(factor) for factor in group.factors]}
    return {
        "name": group.name,
        "d": group.d,
        "lie_algebra": group.lie_algebra.tolist(),
        "generators": group.generators.tolist(),
    }


def rebuild_group(description: Description) -> Group:
    """The group by its name if that gives the same generators, and with them the exact sampler; else by generators."""
    if "factors" in description:
        return ProductGroup([rebuild_group(factor) for factor in description["factors"]])
    algebra, generators = (_matrices(description[key], description["d"]) for key in ("lie_algebra", "generators"))
    generic = Group(algebra, generators, name=description["name"])
    try:
        named = parse_group(description["name"])
    except ValueError:
        return generic
    return named if named == generic else generic


def describe_rep(rep: Rep) -> list[Any]:
    """The terms of a representation as they were given, each with its factors."""
    return [
        [count, [[_describe_action(f.action), f.slot, f.is_dual] for f in piece]] for count, piece in rep.given_terms
    ]


def rebuild_rep(description: list[Any], group: Group) -> Rep:
    """The representation of a group that ``describe_rep`` described."""
    terms = [
        (count, tuple(Factor(_rebuild_action(action), slot, dual) for action, slot, dual in piece))
        for count, piece in description
    ]
    return Rep(terms, group)


def _describe_action(action: Action) -> Any:
    if isinstance(action, RestrictedAction):
        return {"restricted": _describe_action(action.action), "larger": describe_group(action.larger)}
    if isinstance(action, MatrixAction):
        given = action.homomorphism
        return {
            "name": action.name,
            "group": describe_group(given.group),
            "size": given.size,
            "lie_algebra": given.algebra_images.tolist(),
            "generators": given.generator_images.tolist(),
        }
    return action.name


def _rebuild_action(description: Any) -> Action:
    if isinstance(description, str):
        return parse_rep(description).given_terms[0][1][0].action
    if "restricted" in description:
        return RestrictedAction(_rebuild_action(description["restricted"]), rebuild_group(description["larger"]))
    images = (_matrices(description[key], description["size"]) for key in ("lie_algebra", "generators"))
    return MatrixAction(Homomorphism(rebuild_group(description["group"]), *images), description["name"])


def _matrices(values: list[Any], size: int) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, size, size)
