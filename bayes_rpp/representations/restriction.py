"""Representations of a group, restricted to a subgroup."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch

from bayes_rpp.groups.group import Group
from bayes_rpp.representations.elementary import RestrictedAction
from bayes_rpp.representations.factors import SIGN, VECTOR, Factor
from bayes_rpp.representations.homomorphism import Homomorphism
from bayes_rpp.representations.rep import Rep


def restrict(rep: Rep, subgroup: Group) -> Rep:
    """The restriction of a representation to a subgroup of matrices of the same size, for direct products factor by
    factor; raises ValueError if a generator of the subgroup is no element of the group.

    Examples
    --------
    >>> equivariant_basis(restrict(Irrep(2)(SO(3)), SO2eR3())).rank
    1
    """
    group = rep.bound_group
    if len(group.factors) != len(subgroup.factors):
        raise ValueError(f"{subgroup} is no subgroup of {group}: they have different numbers of factors.")
    for part, smaller in zip(group.factors, subgroup.factors, strict=True):
        _check_subgroup(part, smaller)
    terms = [(n, tuple(_restrict_factor(f, group.factors[f.slot]) for f in piece)) for n, piece in rep.given_terms]
    return Rep(terms, subgroup)


@lru_cache(maxsize=256)
def _check_subgroup(group: Group, subgroup: Group) -> None:
    if group == subgroup:
        return
    if group.d != subgroup.d:
        raise ValueError(f"{subgroup} is no subgroup of {group}: it acts on R^{subgroup.d}, not on R^{group.d}.")
    generators = torch.cat([torch.linalg.matrix_exp(0.7 * subgroup.orthonormal_algebra), subgroup.generators])
    if group.is_permutation:
        inside = subgroup.is_permutation and all(
            group.has_permutation(images) for images in subgroup.generators.argmax(dim=1)
        )
    else:
        inside = Homomorphism(group, group.lie_algebra, group.generators).holds(generators)
    if len(generators) and not inside:
        raise ValueError(f"{subgroup} is no subgroup of {group}: not all of its generators are elements of {group}.")


def _restrict_factor(factor: Factor, larger: Group) -> Factor:
    """Vectors and signs are functions of the matrix alone."""
    if factor.action in (VECTOR.action, SIGN.action):
        return factor
    return replace(factor, action=RestrictedAction(factor.action, larger))
