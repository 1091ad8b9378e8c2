"""Representations looked at on subgroups, against solving for the subgroup directly."""

import pytest
import torch

from bayes_rpp import (
    O13,
    SL,
    SO,
    Cube,
    D,
    Group,
    Irrep,
    O,
    O2eR3,
    PseudoScalar,
    Regular,
    RubiksCube,
    S,
    Scalar,
    SO2eR3,
    SO13p,
    T,
    Trivial,
    Vector,
    Z,
    equivariant_basis,
    equivariant_maps,
    irreps,
    restrict,
)
from tests.scenarios.bases import dense_null_space
from tests.scenarios.groups import QUARTER_TURNS, by_matrices, elements

THIRD = SO2eR3().sample(1, seed=0)[0] * 0 + torch.linalg.matrix_exp(2 * torch.pi / 3 * SO2eR3().lie_algebra[0])
FLIP = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
MIRROR = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
QUARTER = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
CYCLE = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)
D3 = Group(generators=torch.stack([THIRD, FLIP]), name="D3")
C3V = Group(generators=torch.stack([THIRD, MIRROR]), name="C3v")
OCTAHEDRON = Group(generators=torch.stack([QUARTER, CYCLE]), name="Octahedron")
PRODUCT, SMALLER = SO(3) * S(4), SO2eR3() * Z(4)
TWICE = SO(3) * SO(3)


CASES = {
    "harmonics about an axis": (Irrep(2)(SO(3)), Irrep(2)(SO(3)), SO2eR3()),
    "harmonics on D3": (Irrep(2)(SO(3)), (Irrep(2) + Irrep(3))(SO(3)), D3),
    "harmonics on the octahedron": (Irrep(2)(SO(3)), (Irrep(2) + Irrep(4))(SO(3)), OCTAHEDRON),
    "reflections": ((Irrep(2) + PseudoScalar)(O(3)), (PseudoScalar * Irrep(2) + Vector)(O(3)), C3V),
    "nothing left": (T(2)(O(3)), (Vector + PseudoScalar)(O(3)), Trivial(3)),
    "duals of a larger group": ((Vector + Vector.dual)(SL(3)), T(1, 1)(SL(3)), SO(3)),
    "Lorentz": ((Vector + Vector.dual)(O13()), T(1, 1)(O13()), SO13p()),
    "functions on a group": (Regular(S(4)), Regular(S(4)) + Vector(S(4)), Z(4)),
    "irreps of S5": (irreps(S(5))[2] + irreps(S(5))[6], irreps(S(5))[4], Z(5)),
    "irreps of D4": (sum(irreps(D(4))[1:], irreps(D(4))[0]), Vector(D(4)), QUARTER_TURNS),
    "permutations as rotations": (Vector(O(5)), T(2)(O(5)), S(5)),
    "matrices": (by_matrices(T(2)(SO(3))), Vector(SO(3)), SO2eR3()),
    "a product": (Irrep(2)(SO(3))(PRODUCT) + Vector(S(4)) * Vector(SO(3)), Vector(SO(3))(PRODUCT) + Scalar, SMALLER),
    "a repeated factor": (
        Vector.on(TWICE, 0) * Vector.on(TWICE, 1) + Irrep(2).on(TWICE, 1),
        Irrep(2).on(TWICE, 1) + Vector.on(TWICE, 0),
        SO(3) * SO2eR3(),
    ),
}


def test_maps_are_those_of_the_subgroups_generators(subtests):
    for case in CASES:
        with subtests.test(msg=case):
            rep_in, rep_out, subgroup = CASES[case]
            narrow_in, narrow_out = restrict(rep_in, subgroup), restrict(rep_out, subgroup)
            q, expected = equivariant_maps(narrow_in, narrow_out).dense(), dense_null_space(narrow_in, narrow_out)
            torch.testing.assert_close(q @ q.mT, expected @ expected.mT, rtol=1e-9, atol=1e-9)


def test_elements_act_as_they_do_in_the_larger_group(subtests):
    """The twin that knows nothing of restriction: maps that commute with rho of the larger group."""
    for case in CASES:
        with subtests.test(msg=case):
            rep_in, _, subgroup = CASES[case]
            narrow = restrict(rep_in, subgroup)
            assert narrow.bound_group == subgroup
            assert narrow.size == rep_in.size
            sample = elements(subgroup, 5, seed=0)
            for g in sample:
                torch.testing.assert_close(narrow.rho(g), rep_in.rho(g), rtol=1e-10, atol=1e-10)
            x = torch.ones(2, narrow.size).double()
            torch.testing.assert_close(narrow.apply(sample[0], x), x @ rep_in.rho(sample[0]).mT, rtol=1e-9, atol=1e-9)


def test_a_restricted_rep_keeps_single_precision(subtests):
    for case in CASES:
        with subtests.test(msg=case):
            rep_in, _, subgroup = CASES[case]
            narrow, g = restrict(rep_in, subgroup), elements(subgroup, 1, seed=0)[0]
            single = [part.float() for part in g] if isinstance(g, tuple) else g.float()
            assert narrow.rho(single).dtype == torch.float32
            torch.testing.assert_close(narrow.rho(single).double(), rep_in.rho(g), rtol=1e-5, atol=1e-5)


def test_branching_rules():
    for degree in range(4):
        rep = Irrep(degree)(SO(3))
        assert equivariant_basis(restrict(rep, SO2eR3())).rank == 1
        assert equivariant_maps(restrict(rep, SO2eR3()), restrict(rep, SO2eR3())).rank == 2 * degree + 1
    # Degree 2 falls into E + T2 under the octahedron, degree 3 into A2 + T1 + T2, and 4 holds the cubic invariant.
    ranks = [equivariant_maps(*[restrict(Irrep(k)(SO(3)), OCTAHEDRON)] * 2).rank for k in range(5)]
    assert ranks == [1, 1, 2, 3, 4]
    invariants = [equivariant_basis(restrict(Irrep(k)(SO(3)), OCTAHEDRON)).rank for k in range(5)]
    assert invariants == [1, 0, 0, 0, 1]


def test_restriction_to_tensors_is_binding_to_the_subgroup():
    rep = 2 * Scalar + Vector + T(2)
    assert restrict(rep(O(3)), SO2eR3()) == rep(SO2eR3())
    assert restrict((PseudoScalar * Vector)(O(3)), O2eR3()) == (PseudoScalar * Vector)(O2eR3())
    assert restrict((PseudoScalar * Vector)(O(3)), SO(3)) == Vector(SO(3))


def test_restriction_goes_step_by_step():
    rep = (Irrep(2) + Vector + PseudoScalar)(O(3))
    twice, once = restrict(restrict(rep, O2eR3()), SO2eR3()), restrict(rep, SO2eR3())
    q, p = (equivariant_maps(r, r).dense() for r in (twice, once))
    torch.testing.assert_close(q @ q.mT, p @ p.mT, rtol=1e-10, atol=1e-10)


def test_to_the_group_itself_nothing_changes():
    rep = (Irrep(2) + Vector)(O(3))
    q, p = (equivariant_maps(r, r).dense() for r in (rep, restrict(rep, O(3))))
    torch.testing.assert_close(q @ q.mT, p @ p.mT, rtol=1e-10, atol=1e-10)


def test_large_permutation_groups():
    rep = T(2)(S(10))
    assert equivariant_basis(rep).rank == 2
    assert equivariant_basis(restrict(rep, Z(10))).rank == 10
    corner = Group(generators=RubiksCube().generators[:2], name="two faces")
    assert restrict(Vector(RubiksCube()), corner).size == 48


@pytest.mark.parametrize(
    "g",
    [[[-1.0, 0], [0, -1.0]], [[-2.0, 0], [0, -0.5]], [[-1.0, 1.0], [0, -1.0]]],
    ids=["-1", "diagonal", "minus a shear"],
)
def test_subgroups_whose_generators_have_no_logarithm(g):
    assert restrict(Vector(SL(2)), Group(generators=[g])).size == 2


def test_subgroups_of_a_group_that_has_many_components():
    """S(4) times a scaling: its elements are long words in the generators."""
    group = Group(torch.eye(4)[None], S(4).generators, name="scaled S(4)")
    for subgroup in (Z(4), S(4), Group.from_permutations([[3, 2, 1, 0]]), Group.from_permutations([[0, 2, 3, 1]])):
        assert restrict(Vector(group), subgroup).size == 4


NO_SUBGROUPS = {
    "larger": (Vector(SO(3)), O(3), r"O\(3\) is no subgroup of SO\(3\): not all"),
    "reflections": (Irrep(2)(SO(3)), C3V, r"C3v is no subgroup of SO\(3\)"),
    "not compact": (Vector(O(3)), SL(3), r"SL\(3\) is no subgroup of O\(3\)"),
    "all permutations": (Vector(Z(10)), S(10), r"S\(10\) is no subgroup of Z\(10\)"),
    "odd permutations": (Vector(Group.from_permutations([[1, 2, 0, 3], [1, 0, 3, 2]])), Z(4), r"Z\(4\) is no subgroup"),
    "Lie in finite": (Vector(Cube()), SO(6), r"SO\(6\) is no subgroup of Cube"),
    "another space": (Vector(O(3)), Trivial(2), r"it acts on R\^2, not on R\^3"),
    "another rotation": (Vector(D(4)), D(3), r"D\(3\) is no subgroup of D\(4\)"),
    "fewer factors": (Vector(SO(3))(PRODUCT), SO2eR3(), "different numbers of factors"),
    "factors in another order": (Vector(SO(3))(PRODUCT), Z(4) * SO2eR3(), "no subgroup of"),
    "one factor": (Vector(SO(3))(PRODUCT), O(3) * Z(4), r"O\(3\) is no subgroup of SO\(3\)"),
}


def test_what_is_no_subgroup_is_refused(subtests):
    for case in NO_SUBGROUPS:
        with subtests.test(msg=case):
            rep, subgroup, message = NO_SUBGROUPS[case]
            with pytest.raises(ValueError, match=message):
                restrict(rep, subgroup)


def test_unbound_representations_are_refused():
    with pytest.raises(ValueError, match="not bound to a group"):
        restrict(Vector, Trivial(3))
