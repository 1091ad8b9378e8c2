"""Representations given by matrices act on every element as they should."""

import itertools
import math

import pytest
import torch

from bayes_rpp import (
    O13,
    SL,
    SO,
    SO13,
    Cube,
    D,
    DkeR3,
    Group,
    Irrep,
    O,
    O2eR3,
    PseudoScalar,
    S,
    Scalar,
    SO2eR3,
    SO13p,
    Sp,
    T,
    Trivial,
    Vector,
    Z,
    equivariant_maps,
    matrix_rep,
)
from tests.scenarios.groups import by_matrices, turning_and_permuting

TURN = SO(2).lie_algebra[0]
FLIP = torch.diag(torch.tensor([-1.0, 1.0], dtype=torch.float64))
FINITE = [Z(1), Z(5), D(3), D(4), S(4), Cube(), DkeR3(5)]
LIE = [SO(2), O(2), SO(3), O(3), SO(4), O(4), SO2eR3(), O2eR3(), SO13p(), SO13(), O13(), SL(2), SL(3), Sp(1), Sp(2)]


def largest_error(rep, elements):
    """Of the copy given by matrices at these elements, relative to the size of each matrix."""
    copy, expected = by_matrices(rep), [rep.rho(g) for g in elements]
    errors = [
        (copy.rho(g) - e).abs().max() / e.abs().max().clamp(min=1.0) for g, e in zip(elements, expected, strict=True)
    ]
    return float(torch.stack(errors).max())


def test_a_copy_of_a_tensor_acts_as_the_tensor(subtests):
    for group in FINITE + LIE:
        for rep in [T(2), Vector.dual * Vector + Scalar, PseudoScalar * Vector]:
            with subtests.test(msg=f"{rep} of {group}"):
                bound = rep(group)
                copy = by_matrices(bound)
                for g in group.sample(60, seed=0):
                    expected = bound.rho(g)
                    assert (copy.rho(g) - expected).abs().max() < 1e-9 * expected.abs().max().clamp(min=1.0)
                for a in group.lie_algebra:
                    torch.testing.assert_close(copy.drho(a), bound.drho(a), rtol=1e-10, atol=1e-10)
                assert equivariant_maps(copy, bound).rank == equivariant_maps(bound, bound).rank
                torch.testing.assert_close(
                    equivariant_maps(copy, copy).project(torch.ones(bound.size**2).double()),
                    equivariant_maps(bound, bound).project(torch.ones(bound.size**2).double()),
                    rtol=1e-9,
                    atol=1e-9,
                )


def half_turns(n):
    generator = torch.Generator().manual_seed(0)
    frames = [torch.eye(n).double()] + [
        torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0] for _ in range(3)
    ]
    signs = [s for s in itertools.product([1.0, -1.0], repeat=n) if math.prod(s) > 0]
    return [q @ torch.diag(torch.tensor(s).double()) @ q.mT for q in frames for s in signs]


@pytest.mark.parametrize("group", [SO(2), SO(3), SO(4), SO(5)], ids=str)
def test_exact_half_turns_have_no_unique_logarithm_but_one_image(group):
    assert largest_error(T(2)(group), half_turns(group.d)) < 1e-10


@pytest.mark.parametrize("group", [O(2), O(3), O(4)], ids=str)
def test_reflections_and_inversions(group):
    reflection = torch.eye(group.d).double()
    reflection[0, 0] = -1
    elements = [h for g in half_turns(group.d) for h in (g, reflection @ g, g @ reflection)]
    assert largest_error((PseudoScalar * T(2))(group), elements) < 1e-10


def test_swaps_of_axes_are_half_turns_or_reflections():
    swap = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]).double()
    assert largest_error(T(2)(O(3)), [swap]) < 1e-10
    assert largest_error(T(2)(SO(3)), [-swap]) < 1e-10


def test_images_are_continuous_at_one_and_at_half_turns(subtests):
    for angle in [0.0, math.pi]:
        for distance in [0.0, 1e-15, 1e-12, 1e-9, 1e-7, 1e-5]:
            with subtests.test(msg=f"angle {angle} - {distance}"):
                near = torch.linalg.matrix_exp((angle - distance) * SO(3).lie_algebra)
                elements = [q @ g @ q.mT for q in half_turns(3)[:4] for g in near]
                assert largest_error(T(2)(SO(3)), elements) < 1e-9


WITHOUT_LOGARITHM = {
    "-2, -1/2": [[-2.0, 0.0], [0.0, -0.5]],
    "-4, -1/4": [[-4.0, 0.0], [0.0, -0.25]],
    "-64, -1/64": [[-64.0, 0.0], [0.0, -1 / 64]],
    "-1": [[-1.0, 0.0], [0.0, -1.0]],
    "minus a shear": [[-1.0, 1.0], [0.0, -1.0]],
    "minus the other shear": [[-1.0, -1.0], [0.0, -1.0]],
    "minus a steep shear": [[-1.0, 0.0], [64.0, -1.0]],
    "minus a slight shear": [[-1.0, 1e-5], [0.0, -1.0]],
}


def test_elements_without_a_real_logarithm(subtests):
    for group in [SL(2), Sp(1)]:
        for name, g in WITHOUT_LOGARITHM.items():
            with subtests.test(msg=f"{name} in {group}"):
                assert largest_error(T(2)(group), [torch.tensor(g).double()]) < 1e-8


@pytest.mark.parametrize("g", [[[1.0, 1.0], [0.0, 1.0]], [[64.0, 0.0], [0.0, 1 / 64]], [[0.0, 1.0], [-1.0, 0.0]]])
def test_elements_with_a_logarithm_of_sl2(g):
    assert largest_error(T(2)(SL(2)), [torch.tensor(g).double()]) < 1e-10


@pytest.mark.parametrize("group", [SL(2), SL(3), Sp(2), SO13p(), O13()], ids=str)
def test_products_of_elements_are_elements(group):
    """Far out in a group that is not compact, many elements have no logarithm."""
    rep, generator = Vector(group), torch.Generator().manual_seed(0)
    copy = by_matrices(rep)
    for _ in range(20):
        g = torch.eye(group.d).double()
        for _ in range(6):
            c = 0.7 * torch.randn(len(group.lie_algebra), generator=generator, dtype=torch.float64)
            g = g @ torch.linalg.matrix_exp(torch.einsum("k,kij->ij", c, group.lie_algebra))
        assert (copy.rho(g) - g).abs().max() < 1e-7 * g.abs().max()


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("group", [SO13p(), SO13(), O13()], ids=str)
def test_null_rotations_have_a_defective_matrix(group, sign):
    a = group.lie_algebra[0] + sign * group.lie_algebra[3]
    assert torch.linalg.matrix_power(a, 3).abs().max() == 0
    assert largest_error(T(2)(group), [torch.linalg.matrix_exp(a)]) < 1e-9


@pytest.mark.parametrize("group", [SO(2), SO(3), O(3), SO13p(), SL(2), S(4), D(5)], ids=str)
def test_single_precision_elements_are_elements(group):
    """``apply`` casts the elements to the vectors' type."""
    bound = T(2)(group)
    copy, x = by_matrices(bound), torch.ones(3, bound.size)
    for g in group.sample(5, seed=0):
        torch.testing.assert_close(copy.apply(g, x), bound.apply(g, x), rtol=1e-4, atol=1e-4)
        assert copy.rho(g.float()).dtype == torch.float32


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_groups_of_many_components(n):
    group = turning_and_permuting(n)
    copy = by_matrices(Vector(group))
    for g in group.sample(30, seed=0):
        torch.testing.assert_close(copy.rho(g), g, rtol=1e-9, atol=1e-9)


TRUE = {
    "flipped axes": lambda: matrix_rep(SO(3), SO(3).lie_algebra * torch.tensor([1.0, -1, -1]).double()[:, None, None]),
    "degree 2 of SO(2)": lambda: matrix_rep(SO(2), 2 * TURN[None]),
    "degree 3 of O(2)": lambda: matrix_rep(O(2), 3 * TURN[None], FLIP[None]),
    "O(2) with the other reflection": lambda: matrix_rep(O(2), TURN[None], -FLIP[None]),
    "-1 as 1": lambda: matrix_rep(SO13(), SO13().lie_algebra, torch.eye(4)[None]),
    "growth of a scaling": lambda: matrix_rep(Group(generators=[[[2.0]]]), generators=[[[3.0]]]),
    "a logarithm": lambda: matrix_rep(Group(lie_algebra=[[[1.0]]]), [[[0.0, 1.0], [0.0, 0.0]]]),
    "parity of permutations": lambda: matrix_rep(S(3), generators=[[[1.0]], [[-1.0]]]),
    "not orthogonal": lambda: matrix_rep(Z(2), generators=[[[1.0, 5.0], [0.0, -1.0]]]),
    "nothing": lambda: matrix_rep(Trivial(3), generators=torch.zeros(0, 2, 2)),
}


def test_true_representations_are_accepted(subtests):
    for case in TRUE:
        with subtests.test(msg=case):
            rep = TRUE[case]()
            group = rep.bound_group
            g, h = group.sample(2, seed=0)
            torch.testing.assert_close(rep.rho(g @ h), rep.rho(g) @ rep.rho(h), rtol=1e-8, atol=1e-8)


def test_powers_of_a_turn_that_never_closes(subtests):
    """An infinite cyclic group."""
    turn = torch.linalg.matrix_exp(TURN)
    rep = matrix_rep(Group(generators=turn[None]), generators=[[[-1.0]]])
    for power in [1, 2, 3, 4, 12]:
        with subtests.test(msg=str(power)):
            assert float(rep.rho(torch.linalg.matrix_power(turn, power))) == pytest.approx((-1) ** power)


def test_on_a_product_a_factors_matrices_act_on_their_factor():
    group = SO(3) * S(4)
    copy = by_matrices(T(2)(SO(3)))(group) * Vector(S(4))
    whole = T(2)(SO(3))(group) * Vector(S(4))
    g = group.sample(1, seed=0)
    torch.testing.assert_close(copy.rho([p[0] for p in g]), whole.rho([p[0] for p in g]), rtol=1e-10, atol=1e-10)
    assert equivariant_maps(copy, whole).rank == equivariant_maps(whole, whole).rank


def test_spherical_harmonics_given_by_matrices_are_the_irreps():
    for degree in range(4):
        assert largest_error(Irrep(degree)(O(3)), O(3).sample(5, seed=degree)) < 1e-10


def test_equal_matrices_are_equal_representations_whatever_their_names():
    first, second = by_matrices(T(2)(SO(3)), "one"), by_matrices(T(2)(SO(3)), "two")
    assert first == second
    assert hash(first) == hash(second)
    assert first != by_matrices(T(1, 1)(SO(3)) + Scalar, "one")
    assert str(first) == "one"
