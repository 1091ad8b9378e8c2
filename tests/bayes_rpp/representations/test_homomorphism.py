"""Representations given by matrices: true ones act as they should everywhere, false ones are refused."""

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

TURN = SO(2).lie_algebra[0]
FLIP = torch.diag(torch.tensor([-1.0, 1.0], dtype=torch.float64))
FINITE = [Z(1), Z(5), D(3), D(4), S(4), Cube(), DkeR3(5)]
LIE = [SO(2), O(2), SO(3), O(3), SO(4), O(4), SO2eR3(), O2eR3(), SO13p(), SO13(), O13(), SL(2), SL(3), Sp(1), Sp(2)]
groups = pytest.mark.parametrize("group", FINITE + LIE, ids=str)


def by_matrices(rep, name="given"):
    """The same representation, known by its values on the generators alone."""
    group = rep.bound_group
    algebra = torch.stack([rep.drho(a) for a in group.lie_algebra]) if len(group.lie_algebra) else None
    generators = torch.stack([rep.rho(h) for h in group.generators]) if len(group.generators) else None
    return matrix_rep(group, algebra, generators, name)


def miss(rep, g):
    """How far the copy is off at one element, relative to the size of the matrix."""
    expected = rep.rho(g)
    return float((by_matrices(rep).rho(g) - expected).abs().max() / expected.abs().max().clamp(min=1.0))


@pytest.mark.parametrize("rep", [T(2), Vector.dual * Vector + Scalar, PseudoScalar * Vector], ids=str)
@groups
def test_a_copy_of_a_tensor_acts_as_the_tensor(group, rep):
    bound = rep(group)
    copy, elements = by_matrices(bound), group.sample(60, seed=0)
    for g in elements:
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
    for g in half_turns(group.d):
        assert miss(T(2)(group), g) < 1e-10


@pytest.mark.parametrize("group", [O(2), O(3), O(4)], ids=str)
def test_reflections_and_inversions(group):
    reflection = torch.eye(group.d).double()
    reflection[0, 0] = -1
    for g in half_turns(group.d):
        for element in (g, reflection @ g, g @ reflection):
            assert miss((PseudoScalar * T(2))(group), element) < 1e-10


def test_swaps_of_axes_are_half_turns_or_reflections():
    swap = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]).double()
    assert miss(T(2)(O(3)), swap) < 1e-10
    assert miss(T(2)(SO(3)), -swap) < 1e-10


@pytest.mark.parametrize("distance", [0.0, 1e-15, 1e-12, 1e-9, 1e-7, 1e-5])
@pytest.mark.parametrize("angle", [0.0, math.pi])
def test_images_are_continuous_at_one_and_at_half_turns(angle, distance):
    for q in half_turns(3)[:4]:
        for a in SO(3).lie_algebra:
            g = q @ torch.linalg.matrix_exp((angle - distance) * a) @ q.mT
            assert miss(T(2)(SO(3)), g) < 1e-9


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


@pytest.mark.parametrize("g", WITHOUT_LOGARITHM.values(), ids=WITHOUT_LOGARITHM)
@pytest.mark.parametrize("group", [SL(2), Sp(1)], ids=str)
def test_elements_without_a_real_logarithm(group, g):
    assert miss(T(2)(group), torch.tensor(g).double()) < 1e-8


@pytest.mark.parametrize("g", [[[1.0, 1.0], [0.0, 1.0]], [[64.0, 0.0], [0.0, 1 / 64]], [[0.0, 1.0], [-1.0, 0.0]]])
def test_elements_with_a_logarithm_of_sl2(g):
    assert miss(T(2)(SL(2)), torch.tensor(g).double()) < 1e-10


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
    assert miss(T(2)(group), torch.linalg.matrix_exp(a)) < 1e-9


@pytest.mark.parametrize("group", [SO(2), SO(3), O(3), SO13p(), SL(2), S(4), D(5)], ids=str)
def test_single_precision_elements_are_elements(group):
    """``apply`` casts the elements to the vectors' type."""
    bound = T(2)(group)
    copy, x = by_matrices(bound), torch.ones(3, bound.size)
    for g in group.sample(5, seed=0):
        torch.testing.assert_close(copy.apply(g, x), bound.apply(g, x), rtol=1e-4, atol=1e-4)
        assert copy.rho(g.float()).dtype == torch.float32


def joined(blocks, size):
    result = torch.eye(size).double()
    start = 0
    for block in blocks:
        result[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    return result


def turning_and_permuting(n):
    """SO(2) x S(n) as one group of matrices, with n! components."""
    algebra = torch.zeros(1, 2 + n, 2 + n).double()
    algebra[0, :2, :2] = TURN
    one = torch.eye(2).double()
    return Group(algebra, torch.stack([joined([one, h], 2 + n) for h in S(n).generators]), name=f"SO(2) x S({n})")


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


@pytest.mark.parametrize("case", TRUE)
def test_true_representations_are_accepted(case):
    rep = TRUE[case]()
    group = rep.bound_group
    g, h = group.sample(2, seed=0)
    torch.testing.assert_close(rep.rho(g @ h), rep.rho(g) @ rep.rho(h), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("power", [1, 2, 3, 4, 12])
def test_powers_of_a_turn_that_never_closes(power):
    """An infinite cyclic group."""
    turn = torch.linalg.matrix_exp(TURN)
    rep = matrix_rep(Group(generators=turn[None]), generators=[[[-1.0]]])
    assert float(rep.rho(torch.linalg.matrix_power(turn, power))) == pytest.approx((-1) ** power)


def planes(*rates):
    """A turn of every plane at its own rate, as a Lie-algebra element."""
    return torch.block_diag(*[rate * TURN for rate in rates])


def screw(angle):
    return Group(SO2eR3().lie_algebra, joined([Vector(SO(2)).rho(torch.linalg.matrix_exp(angle * TURN)),
                                               -torch.eye(1).double()], 3)[None])  # fmt: skip


HALF_QUATERNIONS = 0.5 * torch.stack(
    [
        torch.tensor([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]]),
        torch.tensor([[0.0, 0, -1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, -1, 0, 0]]),
        torch.tensor([[0.0, 0, 0, -1], [0, 0, -1, 0], [0, 1, 0, 0], [1, 0, 0, 0]]),
    ]
)


def spin_half():
    """The signs with which the brackets are right: only a whole turn tells it from a representation."""
    for signs in itertools.product([1.0, -1.0], repeat=3):
        images = HALF_QUATERNIONS * torch.tensor(signs)[:, None, None]
        algebra = SO(3).lie_algebra
        brackets = [(images[i] @ images[j] - images[j] @ images[i]) for i, j in ((0, 1), (1, 2), (2, 0))]
        wanted = [(algebra[i] @ algebra[j] - algebra[j] @ algebra[i]) for i, j in ((0, 1), (1, 2), (2, 0))]
        mapped = [sum((w * a).sum() / 2 * image for a, image in zip(algebra, images, strict=True)) for w in wanted]
        if all(torch.allclose(b.double(), m.double()) for b, m in zip(brackets, mapped, strict=True)):
            return images
    raise AssertionError("no choice of signs has the brackets of the rotations")


FALSE = {
    "wrong order of the algebra": lambda: matrix_rep(SO(3), SO(3).lie_algebra[[1, 0, 2]]),
    "wrong sign of the algebra": lambda: matrix_rep(SO(3), -SO(3).lie_algebra),
    "wrong order of the generators": lambda: matrix_rep(S(3), generators=[[[-1.0]], [[1.0]]]),
    "a generator of another order": lambda: matrix_rep(Z(4), generators=Vector(Z(3)).rho(Z(3).generators[0])[None]),
    "spin 1/2": lambda: matrix_rep(SO(3), spin_half()),
    "degree 1/2 of SO(2)": lambda: matrix_rep(SO(2), 0.5 * TURN[None]),
    "degree 3/2 of SO(2)": lambda: matrix_rep(SO(2), 1.5 * TURN[None]),
    "growth along a circle": lambda: matrix_rep(SO(2), [[[1.0]]]),
    "a shear along a circle": lambda: matrix_rep(SO(2), [[[0.0, 1.0], [0.0, 0.0]]]),
    "degree 1/2 of a circle through two planes": lambda: matrix_rep(
        Group(planes(2.0, 3.0)[None]), 0.5 * TURN[None]
    ),
    "degree 1/2 of a torus with a slanted basis": lambda: matrix_rep(
        Group(torch.stack([planes(1.0, math.sqrt(2)), planes(1.0, -1.0)])),
        torch.stack([(1 + math.sqrt(2)) / 2 * TURN, 0 * TURN]),
    ),
    "a reflection that keeps the sense": lambda: matrix_rep(O(2), TURN[None], torch.eye(2)[None]),
    "a reflection of order four": lambda: matrix_rep(O(2), 0 * TURN[None], TURN[None]),
    "a generator inside the identity component": lambda: matrix_rep(
        Group(TURN[None], -torch.eye(2)[None]), TURN[None], torch.eye(2)[None]
    ),
    "a generator whose square is in the identity component": lambda: matrix_rep(
        screw(1.0), SO2eR3().lie_algebra, torch.diag(torch.tensor([1.0, 1, -1]))[None]
    ),
    "commuting generators that do not commute": lambda: matrix_rep(
        O13(), torch.zeros(6, 2, 2), torch.stack([FLIP, FLIP.new_tensor([[0, 1], [1, 0]])])
    ),
    "generators of a component group with a relation": lambda: matrix_rep(
        turning_and_permuting(3), torch.zeros(1, 1, 1), [[[-1.0]], [[1.0]]]
    ),
    "singular, finite": lambda: matrix_rep(S(3), generators=torch.zeros(2, 1, 1)),
    "singular, Lie": lambda: matrix_rep(O(3), torch.zeros(3, 2, 2), torch.zeros(1, 2, 2)),
    "singular, without an order": lambda: matrix_rep(Group(generators=[[[2.0]]]), generators=[[[0.0]]]),
}  # fmt: skip


@pytest.mark.parametrize("case", FALSE)
def test_false_representations_are_refused(case):
    with pytest.raises(ValueError, match=r"no representation of .*off by|singular"):
        FALSE[case]()


REFUSED = {
    "sizes": (lambda: matrix_rep(O(3), SO(3).lie_algebra, torch.eye(2)[None]), r"one size.*O\(3\), got \[2, 3\]"),
    "too few": (
        lambda: matrix_rep(O(3), SO(3).lie_algebra[:2], torch.eye(3)[None]),
        r"must hold 3 matrices for O\(3\), got 2",
    ),
    "none of a kind": (lambda: matrix_rep(O(3), SO(3).lie_algebra), r"must hold 1 matrices for O\(3\), got 0"),
    "none": (lambda: matrix_rep(O(3)), r"needs a matrix"),
    "NaN": (lambda: matrix_rep(Z(2), generators=[[[math.nan]]]), "generators holds NaN"),
    "one matrix": (lambda: matrix_rep(Z(2), generators=torch.eye(2)), r"\(count, d, d\), got \(2, 2\)"),
    "too large": (lambda: matrix_rep(S(8), generators=S(8).generators), "too many elements"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_words(case):
    build, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        build()


def test_matrices_that_are_no_elements_are_refused():
    with pytest.raises(ValueError, match=r"1 of 1 matrices are no elements of SO\(3\)"):
        by_matrices(Vector(SO(3))).rho(-torch.eye(3).double())
    with pytest.raises(ValueError, match="no elements"):
        by_matrices(Vector(O(3))).rho(2 * torch.eye(3).double())
    with pytest.raises(ValueError, match="differs from every element"):
        by_matrices(Vector(S(3))).rho(-torch.eye(3).double())


def test_on_a_product_a_factors_matrices_act_on_their_factor():
    group = SO(3) * S(4)
    copy = by_matrices(T(2)(SO(3)))(group) * Vector(S(4))
    whole = T(2)(SO(3))(group) * Vector(S(4))
    g = group.sample(1, seed=0)
    torch.testing.assert_close(copy.rho([p[0] for p in g]), whole.rho([p[0] for p in g]), rtol=1e-10, atol=1e-10)
    assert equivariant_maps(copy, whole).rank == equivariant_maps(whole, whole).rank


def test_matrices_of_a_product_are_refused_in_words_about_products():
    """Or they act; but not a refusal at the first use, for another reason."""
    group, message = SO(3) * S(4), "factor"
    try:
        rep = matrix_rep(group, group.lie_algebra, group.generators)
    except ValueError as error:
        message = str(error)
    else:
        g = [part[0] for part in group.sample(1, seed=0)]
        torch.testing.assert_close(rep.rho(g), group.join(g), rtol=1e-9, atol=1e-9)
    assert "factor" in message


def test_spherical_harmonics_given_by_matrices_are_the_irreps():
    for degree in range(4):
        rep = Irrep(degree)(O(3))
        for g in O(3).sample(5, seed=degree):
            assert miss(rep, g) < 1e-10


def test_equal_matrices_are_equal_representations_whatever_their_names():
    first, second = by_matrices(T(2)(SO(3)), "one"), by_matrices(T(2)(SO(3)), "two")
    assert first == second
    assert hash(first) == hash(second)
    assert first != by_matrices(T(1, 1)(SO(3)) + Scalar, "one")
    assert str(first) == "one"
