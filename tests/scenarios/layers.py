"""Layers with several structured pathways: chains of groups, and bases of any kind that a user gives."""

from collections.abc import Callable
from functools import partial

import torch

from bayes_rpp import (
    O13,
    SO,
    SO13,
    Irrep,
    O,
    O2eR3,
    PseudoScalar,
    RPPLinear,
    S,
    Scalar,
    SO2eR3,
    SO13p,
    T,
    Trivial,
    Vector,
    Z,
    banded_maps,
    entry_maps,
    equivariant_maps,
    low_frequency_maps,
)
from tests.scenarios.numbers import numbers

PRODUCT = SO(3) * S(3)
CHAINS = {
    "rotations": (2 * Vector + Scalar, T(2) + Vector, [O(3), O2eR3(), Trivial(3)]),
    "permutations": (Vector + Scalar, 2 * Vector, [S(4), Z(4)]),
    "Lorentz": (Vector + Vector.dual, Vector + PseudoScalar, [O13(), SO13(), SO13p()]),
    "harmonics": (Irrep(1) + Irrep(2), Vector + Scalar, [SO(3), SO2eR3()]),
    "a product": (
        Vector(SO(3))(PRODUCT) + Vector(S(3)),
        Vector(SO(3))(PRODUCT) * Vector(S(3)) + Scalar,
        [PRODUCT, SO2eR3() * Z(3)],
    ),
}


def chain_layer(case: str, parametrization: str = "residual", **options) -> RPPLinear:
    """A layer of a chain of groups."""
    rep_in, rep_out, groups = CHAINS[case]
    return RPPLinear(rep_in, rep_out, group=groups, parametrization=parametrization, **options)


REP_IN, REP_OUT = (2 * Vector)(O(2)), (Vector + 2 * Scalar)(O(2))
PATHWAYS = {
    "one": [banded_maps(4, 4, 1)],
    "overlapping": [equivariant_maps(REP_IN, REP_OUT), banded_maps(4, 4, 1), low_frequency_maps(4, 4, 2)],
    "disjoint": [entry_maps(torch.eye(4)), entry_maps(1 - torch.eye(4))],
    "with an empty one": [entry_maps(torch.zeros(4, 4)), banded_maps(4, 4, 0)],
    "the same twice": [banded_maps(4, 4, 0), banded_maps(4, 4, 0)],
}


def pathway_layer(case: str, parametrization: str = "residual", **options) -> RPPLinear:
    """A layer of given bases."""
    return RPPLinear(REP_IN, REP_OUT, pathways=PATHWAYS[case], parametrization=parametrization, **options)


LAYERS: dict[str, Callable[..., RPPLinear]] = {
    **{f"chain: {case}": partial(chain_layer, case) for case in CHAINS},
    **{f"pathways: {case}": partial(pathway_layer, case) for case in PATHWAYS},
}


def randomised(layer: RPPLinear) -> RPPLinear:
    """The same layer in double precision, with nothing at zero."""
    with torch.no_grad():
        for k, parameter in enumerate(layer.double().parameters()):
            parameter.copy_(numbers(*parameter.shape, seed=k))
    return layer
