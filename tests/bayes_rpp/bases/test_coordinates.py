"""Groups written in units and in skewed axes have the invariants of the group that they are."""

import numpy as np
import pytest
import torch

from bayes_rpp import (
    SL,
    SO,
    D,
    DkeR3,
    Group,
    Irrep,
    O,
    O2eR3,
    Regular,
    S,
    SO13p,
    T,
    Vector,
    Z,
    equivariant_basis,
    equivariant_maps,
    matrix_rep,
)
from tests.scenarios.groups import QUARTER_TURNS
from tests.scenarios.numbers import numbers

TENSORS = [T(1), T(2), T(3), T(1, 1), T(2, 1)]
SKEW = torch.tensor([[1.0, 30.0], [0.0, 1.0]], dtype=torch.float64)
UNITS = torch.diag(torch.tensor([1.0, 100.0, 0.01], dtype=torch.float64))
SIGNED = Group(generators=[[[0.0, -1, 0], [1, 0, 0], [0, 0, -1]], [[-1.0, 0, 0], [0, 1, 0], [0, 0, 1]]], name="signed")


def in_coordinates(group, change):
    """The group of all S g S^-1."""
    inverse = torch.linalg.inv(change)
    parts = (
        change @ matrices @ inverse if len(matrices) else None for matrices in (group.lie_algebra, group.generators)
    )
    return Group(*parts, name=f"{group} in other coordinates")


def units(*exponents):
    return torch.diag(10.0 ** torch.tensor(exponents, dtype=torch.float64))


# The group as it is, and in other coordinates.
PAIRS = {
    "a quarter turn in integers": (QUARTER_TURNS, Group(generators=[[[3.0, -1.0], [10.0, -3.0]]])),
    "a quarter turn in units": (QUARTER_TURNS, Group(generators=[[[0.0, -1e3], [1e-3, 0.0]]])),
    "a quarter turn in far units": (QUARTER_TURNS, Group(generators=[[[0.0, -1e7], [1e-7, 0.0]]])),
    "a circle in units": (SO(2), Group(lie_algebra=[[[0.0, -1e6], [1e-6, 0.0]]])),
    "a small algebra": (SO(3), Group(lie_algebra=1e-6 * SO(3).lie_algebra)),
    "a large algebra": (SO(3), Group(lie_algebra=1e6 * SO(3).lie_algebra)),
    "a small skewed algebra": (SO(2), Group(lie_algebra=1e-6 * in_coordinates(SO(2), SKEW).lie_algebra)),
    "shears": (
        Group(generators=[[[1.0, 1.0], [0.0, 1.0]]]),
        Group(generators=[[[1.0, 1e-4], [0.0, 1.0]], [[1.0, 1e4], [0.0, 1.0]]]),
    ),
    "two slow turns": (SO(3), Group(generators=torch.linalg.matrix_exp(1e-5 * SO(3).lie_algebra[:2]))),
    "a skewed reflection": (Z(2), in_coordinates(Z(2), SKEW)),
    **{f"{g} in units": (g, in_coordinates(g, UNITS)) for g in (O(3), SO(3), S(3), O2eR3(), DkeR3(3), SIGNED)},
    **{f"skewed {g}": (g, in_coordinates(g, SKEW)) for g in (D(5), D(3), SO(2), O(2))},
    **{f"{g} in far units": (g, in_coordinates(g, units(0, 4))) for g in (D(5), O(2), SL(2))},
    "Lorentz in seconds": (SO13p(), in_coordinates(SO13p(), torch.diag(torch.tensor([3e8, 1, 1, 1.0]).double()))),
    **{f"mixed {g}": (g, in_coordinates(g, numbers(4, 4))) for g in (S(4), Z(4))},
}


def largest_miss(rep, basis):
    """How far elements move columns, relative to the norms of their matrices."""
    elements = [*rep.bound_group.sample(3, seed=0), *rep.bound_group.generators]
    matrices = [rep.rho(g) for g in elements]
    misses = [(m @ basis - basis).norm(dim=0) / torch.linalg.matrix_norm(m, 2) for m in matrices]
    return float(torch.stack(misses).max()) if basis.shape[1] else 0.0


def test_coordinates_make_no_difference_to_ranks(subtests):
    for name, (group, other) in PAIRS.items():
        for tensor in TENSORS:
            with subtests.test(msg=f"{name}: {tensor}"):
                basis = equivariant_basis(tensor(other)).dense()
                assert basis.shape[1] == equivariant_basis(tensor(group)).rank
                assert largest_miss(tensor(other), basis) < 1e-9
                torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]).double(), rtol=0, atol=1e-10)


def test_the_inverse_of_the_invariant_inner_product_is_an_invariant(subtests):
    """g M^-1 g^T = M^-1 for the M that the group keeps; for D(3) there is no other tensor of two axes."""
    for name in ("a quarter turn in integers", "skewed D(3)", "mixed S(4)", "a quarter turn in units"):
        with subtests.test(msg=name):
            group, back = PAIRS[name][1], torch.linalg.inv(PAIRS[name][1].orthogonal_coordinates)
            inverse = (back @ back.T).flatten()
            projected = equivariant_basis(T(2)(group)).project(inverse)
            assert (projected - inverse).norm() < 1e-9 * inverse.norm()


def test_finite_groups_are_recognised_in_any_coordinates(subtests):
    for name, (group, other) in PAIRS.items():
        with subtests.test(msg=name):
            if name != "two slow turns":
                assert (other.order, other.is_finite) == (group.order, group.is_finite)
            if group.order and group.order < 50 and not group.is_permutation:
                assert equivariant_basis(Irrep(1)(other)).rank == 0
                assert equivariant_basis(Regular(other)).rank == 1


def test_elements_in_other_coordinates_are_those_of_the_group():
    """Before, an algebra in units was sampled next to the identity: rotations by 1e-3 in place of all angles."""
    for change in (units(0, 6), SKEW):
        group = in_coordinates(SO(2), change)
        traces = group.sample(400, seed=0).diagonal(dim1=1, dim2=2).sum(1)
        assert traces.min() < -1.9
        assert traces.max() > 1.9
        turned = torch.linalg.inv(change) @ group.sample(5, seed=1) @ change
        torch.testing.assert_close(turned.mT @ turned, torch.eye(2).double().expand(5, 2, 2), rtol=0, atol=1e-8)


def test_a_perturbed_generator_is_another_group(subtests):
    """An error of 1e-4 in an entry makes the turn grow or shrink; one in the angle generates all rotations."""
    exact = PAIRS["a quarter turn in integers"][1].generators[0]
    for entry in range(4):
        with subtests.test(msg=f"entry {entry}"):
            wrong = exact.clone()
            wrong.view(-1)[entry] += 1e-4
            group = Group(generators=wrong[None])
            assert [equivariant_basis(t(group)).rank for t in (T(2), T(4), T(1, 1))] == [0, 0, 2]
            assert group.order is None
    angle = torch.pi / 2 + 1e-4
    turn = SO(2).lie_algebra[0].mul(angle).matrix_exp()
    skewed = Group(generators=(SKEW @ turn @ torch.linalg.inv(SKEW))[None])
    assert equivariant_basis(T(4)(skewed)).rank == equivariant_basis(T(4)(SO(2))).rank < 8


def test_representations_by_matrices_in_units():
    wave = Group(lie_algebra=[[[1.0, 0.0], [0.0, -1.0]]])
    slow = matrix_rep(wave, lie_algebra=[1e-6 * np.diag([1.0, -2.0])])
    assert equivariant_maps(slow, slow).rank == 2
    skewed_group = in_coordinates(O(2), units(0, 5))
    by_matrices = matrix_rep(
        skewed_group, O(2).lie_algebra, O(2).generators
    )  # in other units, with one scale of its own
    assert equivariant_maps(by_matrices, Vector(skewed_group)).rank == 1
    with pytest.raises(ValueError, match="no representation"):
        matrix_rep(SO(3), lie_algebra=1e-9 * SO(3).lie_algebra)
    skewed = matrix_rep(SO(2), lie_algebra=in_coordinates(SO(2), units(0, 5)).lie_algebra)
    assert equivariant_maps(skewed, Vector(SO(2))).rank == 2
    shrinking = 0.05 * torch.eye(10).double()[None]  # its determinant is 1e-13
    small = matrix_rep(Group(generators=shrinking), generators=shrinking)
    assert equivariant_maps(small, small).rank == 100


def test_what_is_singular_is_so_in_any_units():
    for scale in (1e-9, 1.0, 1e9):
        with pytest.raises(ValueError, match="singular"):
            Group(generators=scale * torch.tensor([[[1.0, 2.0], [2.0, 4.0]]]))


def test_ranks_in_sheared_coordinates_are_right_or_refused_with_advice_that_helps():
    turn = torch.matrix_exp(torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64))[None]
    circle, advice = SO(2), []
    for shear in (1e1, 1e2, 1e3, 1e4, 1e5):
        change = torch.tensor([[1.0, shear], [0.0, 1.0]], dtype=torch.float64)
        for group in (in_coordinates(circle, change), in_coordinates(Group(generators=turn), change)):
            for rep in (T(2), T(1, 1), T(4), T(2, 2), T(3, 1)):
                try:
                    assert equivariant_basis(rep(group)).rank == equivariant_basis(rep(circle)).rank
                except RuntimeError as error:
                    advice.append(str(error))
        assert shear > 10 or not advice
    assert advice
    assert all("too few digits. Write the group and the data in coordinates" in text for text in advice)
    assert not any("compute them in float64" in text for text in advice)
    rounded = Group(generators=[[[1.0, 1e-4], [0.0, 1.0]], [[1.0, 1e-4], [1e-8, 1.0]]])
    with pytest.raises(RuntimeError, match="if its generators were rounded, compute them in float64"):
        equivariant_basis(T(2)(rounded))
