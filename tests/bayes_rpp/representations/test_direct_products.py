"""Representations of direct products, and their matrices for many elements at once."""

import pytest
import torch

from bayes_rpp import SO, Regular, S, Scalar, T, Vector, Z, equivariant_maps, parse_rep


def test_the_regular_representation_of_a_direct_product_is_that_of_all_its_elements():
    for group, order in ((Z(2) * Z(2), 4), (Z(2) * S(3), 12)):
        regular = Regular(group)
        assert regular.size == equivariant_maps(regular, regular).rank == order  # one map for each element
        g = group.sample(5, seed=0)
        assert torch.equal(regular.rho(g).sum(-1), torch.ones(5, order).double())
        assert parse_rep(str(2 * regular)) == 2 * regular


def test_a_product_with_equal_factors_says_which_one_in_text():
    pair = Z(2) * Z(2)
    rep = Vector.on(pair, 0) * Vector.on(pair, 1) + 2 * Vector.on(pair, 1)
    assert parse_rep("Vector(Z(2) * Z(2), 0) * Vector(Z(2) * Z(2), 1) + 2 * Vector(Z(2) * Z(2), 1)") == rep
    assert parse_rep(str(rep)) == rep
    with pytest.raises(ValueError, match=r"\(Vector\).on\(group, 0\) or \(Vector\).on\(group, 1\)"):
        Vector(pair)
    with pytest.raises(ValueError, match="there is no slot 2"):
        parse_rep("Vector(Z(2) * Z(2), 2)")


def test_matrices_of_many_elements_are_those_of_each():
    group = SO(3) * Z(2)
    g = group.sample(4, seed=0)
    for rep in (Vector(SO(3)) * Vector(Z(2)) + T(2)(SO(3)), Scalar + Vector(SO(3))):
        bound = rep(group)
        each = [bound.rho(tuple(part[k] for part in g)) for k in range(4)]
        assert torch.equal(bound.rho(g), torch.stack(each))
