"""Groups: their generators, flags, identity and errors."""

import itertools
import math

import pytest
import torch

from bayes_rpp import SL, SO, D, Group, O, O2eR3, S, SO2eR3, Trivial, Z

ORTHOGONAL = [Trivial(3), Z(4), S(4), D(3), D(4), SO(2), SO(3), SO(4), O(1), O(2), O(3), SO2eR3(), O2eR3()]
LINEAR = [SL(2), SL(3)]
FINITE_ORDERS = [(Trivial(3), 1), (Z(1), 1), (Z(5), 5), (S(1), 1), (S(4), 24), (D(1), 2), (D(3), 6), (D(4), 8)]
QUARTER_TURN = [[0.0, -1.0], [1.0, 0.0]]


def test_rotation_algebras_are_all_antisymmetric_matrices(subtests):
    for build in [SO, O]:
        for n in [2, 3, 4, 5]:
            with subtests.test(msg=f"{build.__name__}({n})"):
                algebra = build(n).lie_algebra
                assert torch.equal(algebra.mT, -algebra)
                assert torch.linalg.matrix_rank(algebra.flatten(1)) == len(algebra) == n * (n - 1) // 2


@pytest.mark.parametrize("n", [2, 3, 4])
def test_sl_algebra_is_all_traceless_matrices(n):
    algebra = SL(n).lie_algebra
    assert torch.equal(algebra.diagonal(dim1=1, dim2=2).sum(1), torch.zeros(n * n - 1).double())
    assert torch.linalg.matrix_rank(algebra.flatten(1)) == len(algebra) == n * n - 1


def test_finite_groups_have_their_order_and_are_closed(subtests):
    for group, order in FINITE_ORDERS:
        with subtests.test(msg=str(group)):
            elements = group.elements
            assert len(elements) == order
            products = (elements[:, None] @ elements[None]).reshape(-1, 1, group.d, group.d)
            distance_to_nearest = (products - elements[None]).abs().amax((-2, -1)).amin(1)
            assert distance_to_nearest.max() < 1e-12


def test_s4_is_every_permutation_matrix():
    expected = {tuple(p) for p in itertools.permutations(range(4))}
    assert {tuple(e.argmax(0).tolist()) for e in S(4).elements} == expected


def test_z_shifts_by_one_and_has_its_order():
    shift = Z(5).generators[0]
    assert torch.equal(shift @ torch.arange(5).double(), torch.tensor([4.0, 0, 1, 2, 3]).double())
    assert torch.equal(torch.linalg.matrix_power(shift, 5), torch.eye(5).double())


def test_dihedral_generators_satisfy_the_presentation():
    rotation, reflection = D(7).generators
    one = torch.eye(2).double()
    torch.testing.assert_close(torch.linalg.matrix_power(rotation, 7), one, rtol=0, atol=1e-14)
    torch.testing.assert_close(reflection @ reflection, one, rtol=0, atol=0)
    torch.testing.assert_close(reflection @ rotation @ reflection, rotation.mT, rtol=0, atol=1e-14)


@pytest.mark.parametrize("group", [SO(3), O(2), SL(2), SO2eR3()], ids=str)
def test_continuous_groups_have_no_list_of_elements(group):
    assert group.elements is None


@pytest.mark.parametrize(
    "matrix",
    [
        [[2.0]],
        [[0.5]],
        [[2.0, 0.0], [0.0, 0.5]],
        [[1.0, 1.0], [0.0, 1.0]],
        [[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]],
    ],
    ids=["dilation", "contraction", "squeeze", "shear", "irrational rotation"],
)
def test_infinite_discrete_groups_have_no_list_of_elements(matrix):
    assert Group(generators=[matrix]).elements is None


def test_orthogonal_groups_are_told_from_linear_ones(subtests):
    for group in ORTHOGONAL:
        with subtests.test(msg=str(group)):
            assert group.is_orthogonal


@pytest.mark.parametrize("group", [*LINEAR, Group(generators=[[[1.0, 1.0], [0.0, 1.0]]])], ids=str)
def test_linear_groups_are_not_orthogonal(group):
    assert not group.is_orthogonal


def test_only_trivial_cyclic_and_symmetric_groups_permute_coordinates(subtests):
    for group in [*ORTHOGONAL, *LINEAR]:
        with subtests.test(msg=str(group)):
            assert group.is_permutation == isinstance(group, Trivial | Z | S)


def test_a_zero_one_matrix_that_is_no_permutation_is_not_taken_for_one():
    assert not Group(generators=[[[1.0, 1.0], [0.0, 1.0]]]).is_permutation


ORIENTATIONS = [
    (Trivial(2), True),
    (Z(3), True),
    (Z(4), False),
    (S(3), False),
    (D(4), False),
    (SO(3), True),
    (O(3), False),
    (SL(3), True),
    (SO2eR3(), True),
    (O2eR3(), False),
    (Group(generators=[QUARTER_TURN]), True),
]


def test_orientation_is_preserved_where_every_determinant_is_positive(subtests):
    for group, expected in ORIENTATIONS:
        with subtests.test(msg=str(group)):
            assert group.preserves_orientation == expected


def test_groups_are_equal_by_content_not_by_name():
    same = Group(lie_algebra=SO(2).lie_algebra, name="mine")
    assert same == SO(2)
    assert hash(same) == hash(SO(2))
    assert len({same, SO(2)}) == 1
    assert Group(SO2eR3().lie_algebra, name="G") != Group(SO(3).lie_algebra[1:2], name="G")


def test_an_algebra_element_is_not_a_generator():
    matrices = torch.tensor([QUARTER_TURN])
    assert Group(lie_algebra=matrices) != Group(generators=matrices)


def test_signed_zeros_do_not_tell_groups_apart():
    assert Group(generators=[[[1.0, -0.0], [0.0, 1.0]]]) == Group(generators=[[[1.0, 0.0], [0.0, 1.0]]])


def test_a_group_does_not_change_with_the_tensor_it_was_made_from():
    matrices = torch.eye(2, dtype=torch.float64)[None]
    group = Group(generators=matrices)
    matrices.zero_()
    assert torch.equal(group.generators[0], torch.eye(2).double())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs `lie_algebra`, `generators` or both"),
        ({"generators": torch.zeros(2, 3)}, r"generators must have shape \(count, d, d\), got \(2, 3\)"),
        ({"generators": torch.zeros(1, 2, 3)}, r"got \(1, 2, 3\)"),
        ({"lie_algebra": torch.full((1, 2, 2), math.nan)}, "lie_algebra holds NaN or infinite"),
        ({"generators": torch.full((1, 2, 2), math.inf)}, "generators holds NaN or infinite"),
        ({"generators": torch.stack([torch.eye(2), torch.ones(2, 2)])}, "generator 1 is singular"),
        ({"lie_algebra": torch.zeros(1, 3, 3), "generators": torch.eye(2)[None]}, r"R\^3 but .* R\^2"),
        ({"generators": [torch.eye(2), torch.eye(3)]}, "generators"),
        ({"generators": []}, "generators"),
    ],
    ids=["none", "no matrices", "not square", "NaN", "infinite", "singular", "two spaces", "mixed sizes", "empty"],
)
def test_what_is_no_group_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Group(**arguments)


IMPOSSIBLE_SIZES = [(Trivial, 0), (Z, 0), (S, -1), (D, 0), (SO, 1), (O, 0), (SL, 1), (S, "3")]


def test_sizes_that_no_group_has_are_refused(subtests):
    for build, n in IMPOSSIBLE_SIZES:
        message = rf"{build.__name__}\(n\) needs an integer n >= \d, got {n!r}"
        with subtests.test(msg=f"{build.__name__}({n})"), pytest.raises(ValueError, match=message):
            build(n)
