"""Groups of permutations, of physics and of the cube: what they preserve, how large they are, their flags."""

import math

import pytest
import torch

from bayes_rpp import O13, SL, SO, SO13, Cube, D, DkeR3, Group, Lorentz, O, RubiksCube, S, SO2eR3, SO13p, Sp, Trivial, Z
from tests.scenarios.groups import A4

MATHIEU = Group.from_permutations(
    [[*range(1, 11), 0], [0, 1, 6, 9, 5, 3, 10, 2, 8, 4, 7]],  # (0 1 ... 10), (2 6 10 7)(3 9 4 5)
    name="M11",
)
IRRATIONAL = Group(generators=[[[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]]])
METRIC = torch.diag(torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64))

ORDERS = [
    (Trivial(3), 1),
    (S(1), 1),
    (S(4), 24),
    (S(20), math.factorial(20)),
    (Z(1), 1),
    (Z(7), 7),
    (D(1), 2),
    (D(6), 12),
    (DkeR3(5), 10),
    (O(1), 2),
    (Cube(), 24),
    (RubiksCube(), 43252003274489856000),
    (A4, 12),
    (MATHIEU, 7920),
    (S(5) * Z(3), 360),
    (S(5) * D(4) * Cube(), 120 * 8 * 24),
    (RubiksCube() * D(3), 6 * 43252003274489856000),
    (S(9) * S(9), math.factorial(9) ** 2),
]


def test_finite_groups_know_their_order_and_small_ones_list_as_many_elements(subtests):
    for group, order in ORDERS:
        with subtests.test(msg=str(group)):
            assert group.order == order
            assert group.is_finite is True
            if order <= 10_000:
                assert len(group.elements) == order


@pytest.mark.parametrize(
    ("group", "is_finite"),
    [
        (SO(3), False),
        (O(2), False),
        (SL(2), False),
        (SO(3) * S(3), False),
        (Sp(1), False),
        (SO13p(), False),
        (Group(generators=[[[2.0]]]), False),
        (IRRATIONAL, None),
        (Group(generators=[[[1.0, 1.0], [0.0, 1.0]]]), None),
    ],
    ids=str,
)
def test_other_groups_have_no_order(group, is_finite):
    assert group.order is None
    assert group.is_finite is is_finite


def is_lie_algebra(algebra):
    """Whether brackets stay in the span."""
    brackets = torch.einsum("aij,bjk->abik", algebra, algebra)
    brackets = (brackets - brackets.transpose(0, 1)).flatten(0, 1).flatten(1)
    rank = torch.linalg.matrix_rank(algebra.flatten(1))
    return rank == len(algebra) == torch.linalg.matrix_rank(torch.cat([algebra.flatten(1), brackets]))


ALGEBRAS = [
    (Sp(1), 3),
    (Sp(2), 10),
    (Sp(3), 21),
    (SO13p(), 6),
    (SO13(), 6),
    (O13(), 6),
    (SO(4), 6),
    (SL(3), 8),
    (SO2eR3(), 1),
    (SO(3) * SL(2), 6),
]


def test_algebras_are_closed_and_have_their_dimension(subtests):
    for group, dimension in ALGEBRAS:
        with subtests.test(msg=str(group)):
            assert len(group.lie_algebra) == dimension
            assert is_lie_algebra(group.lie_algebra)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_symplectic_matrices_preserve_the_area_form(m):
    one, zero = torch.eye(m).double(), torch.zeros(m, m).double()
    form = torch.cat([torch.cat([zero, one], 1), torch.cat([-one, zero], 1)])
    g = Sp(m).sample(50, seed=0)
    torch.testing.assert_close(g.mT @ form @ g, form.expand_as(g), rtol=0, atol=1e-9 * float(g.abs().max()) ** 2)
    torch.testing.assert_close(torch.linalg.det(g), torch.ones(50).double(), rtol=0, atol=1e-7)
    assert (g.mT @ g - torch.eye(2 * m).double()).abs().max() > 0.1


@pytest.mark.parametrize("group", [SO13p(), SO13(), O13()], ids=str)
def test_lorentz_transformations_preserve_the_metric(group):
    g = group.sample(200, seed=0)
    torch.testing.assert_close(g.mT @ METRIC @ g, METRIC.expand_as(g), rtol=0, atol=1e-9 * float(g.abs().max()) ** 2)


def test_the_lorentz_groups_differ_by_components():
    def components(group):
        g = group.sample(400, seed=1)
        return {(int(det.sign()), int(time.sign())) for det, time in zip(torch.linalg.det(g), g[:, 0, 0], strict=True)}

    assert components(SO13p()) == {(1, 1)}
    assert components(SO13()) == {(1, 1), (1, -1)}
    assert components(O13()) >= {(1, 1), (-1, 1), (-1, -1)}
    assert Lorentz is O13


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_the_dihedral_group_about_z_is_that_of_the_plane(k):
    group, plane = DkeR3(k), D(k)
    torch.testing.assert_close(group.generators[:, :2, :2], plane.generators, rtol=0, atol=0)
    elements = group.elements
    axis = torch.tensor([0.0, 0.0, 1.0]).double()
    torch.testing.assert_close(elements @ axis, axis.expand(2 * k, 3), rtol=0, atol=0)
    assert int((torch.linalg.det(elements) < 0).sum()) == k


def test_opposite_faces_of_a_cube_stay_opposite():
    opposite = torch.eye(6).double()[[3, 4, 5, 0, 1, 2]]
    for g in Cube().elements:
        assert torch.equal(g @ opposite, opposite @ g)


def test_quarter_turns_of_rubiks_cube_have_order_four_and_commute_only_if_opposite():
    moves = RubiksCube().generators
    assert moves.shape == (6, 48, 48)
    for a, first in enumerate(moves):
        assert torch.equal(torch.linalg.matrix_power(first, 4), torch.eye(48).double())
        assert int((first - torch.eye(48).double()).abs().sum()) == 40
        for b, second in enumerate(moves):
            assert torch.equal(first @ second, second @ first) == (a == b or abs(a - b) == 3)


@pytest.mark.parametrize("length", [63, 105, 1260])
def test_rubiks_cube_has_the_known_orders_of_elements(length):
    """Of R U^-1, R U, and R U^2 D^-1 B D^-1, whose order is the largest of all."""
    x, y, _, _, minus_y, minus_z = RubiksCube().generators
    word = {63: x @ y.mT, 105: x @ y, 1260: x @ y @ y @ minus_y.mT @ minus_z @ minus_y.mT}[length]
    powers = [torch.equal(torch.linalg.matrix_power(word, n), torch.eye(48).double()) for n in range(1, length + 1)]
    assert powers.index(True) + 1 == length


FLAGS = [
    (Sp(2), False, False, True),
    (SO13p(), False, False, True),
    (SO13(), False, False, True),
    (O13(), False, False, False),
    (DkeR3(3), True, False, False),
    (Cube(), True, True, False),
    (RubiksCube(), True, True, False),
    (A4, True, True, True),
    (S(3) * Z(4), True, True, False),
    (SO(3) * S(3), True, False, False),
    (SO(3) * Z(3), True, False, True),
    (SL(2) * Z(3), False, False, True),
]


def test_flags(subtests):
    for group, orthogonal, permutation, orientation in FLAGS:
        with subtests.test(msg=str(group)):
            assert group.is_orthogonal is orthogonal
            assert group.is_permutation is permutation
            assert group.preserves_orientation is orientation


def test_permutations_move_each_coordinate_to_its_image():
    group = Group.from_permutations([[2, 0, 1]])
    x = torch.tensor([10.0, 20.0, 30.0]).double()
    assert (group.generators[0] @ x).tolist() == [20.0, 30.0, 10.0]


@pytest.mark.parametrize(
    ("permutations", "message"),
    [
        ([], "at least one permutation"),
        ([[]], "at least one permutation"),
        ([[0, 0]], r"permutation 0 = \[0, 0\] is no rearrangement of 0, ..., 1"),
        ([[0, 1], [1, 2]], r"permutation 1 = \[1, 2\]"),
        ([[0, 1], [0, 1, 2]], r"permutation 1 = \[0, 1, 2\]"),
    ],
)
def test_what_is_no_permutation_is_refused(permutations, message):
    with pytest.raises(ValueError, match=message):
        Group.from_permutations(permutations)


@pytest.mark.parametrize(("build", "n"), [(Sp, 0), (DkeR3, 0), (Sp, 1.5)])
def test_sizes_that_no_group_has_are_refused(build, n):
    with pytest.raises(ValueError, match=rf"{build.__name__}\(n\) needs an integer n >= 1, got {n}"):
        build(n)
