"""Chains of groups: orthogonal increments, against the dense null spaces of every group."""

import pytest
import torch

from bayes_rpp import (
    O13,
    SL,
    SO,
    SO13,
    Cube,
    D,
    Group,
    Irrep,
    O,
    O2eR3,
    PseudoScalar,
    Regular,
    S,
    Scalar,
    SO2eR3,
    SO13p,
    T,
    Trivial,
    Vector,
    Z,
    chain_basis,
    chain_maps,
    equivariant_maps,
    restrict,
)
from bayes_rpp.bases import block as module
from tests.scenarios.bases import dense_null_space
from tests.scenarios.groups import QUARTER_TURNS

SHEARS = Group(SL(2).lie_algebra[:1], name="shears")
PRODUCT = SO(3) * S(4)
TWICE = SO(3) * SO(3)
ON_PRODUCT = Irrep(2)(SO(3))(PRODUCT) + Vector(S(4)) * Vector(SO(3)) + Scalar
ON_TWICE = Vector.on(TWICE, 0) * Vector.on(TWICE, 1) + Irrep(2).on(TWICE, 1)

CHAINS = {
    "rotations": (Scalar + 2 * Vector + PseudoScalar, T(2) + Vector, [O(3), O2eR3(), SO2eR3(), Trivial(3)]),
    "harmonics": (Irrep(1) + 2 * Irrep(2), PseudoScalar * Irrep(2) + Irrep(2), [O(3), SO(3), SO2eR3()]),
    "repeated pieces": (Vector + Scalar + Vector, Vector + 2 * Vector, [O(3), SO(3), SO2eR3()]),
    "permutations": (2 * Vector + Scalar, T(2) + PseudoScalar, [S(5), Z(5)]),
    "permutations down to nothing": (Vector, Vector + Regular, [S(3), Z(3), Trivial(3)]),
    "quarter turns": (Vector + Regular, T(2) + Irrep(4) + PseudoScalar, [D(4), QUARTER_TURNS]),
    "Lorentz": (Vector + Vector.dual + PseudoScalar, T(1, 1) + Vector, [O13(), SO13(), SO13p()]),
    "shears": (Vector + Vector.dual, T(1, 1) + Scalar, [SL(2), SHEARS]),
    "volume to length": (Vector + Vector.dual, T(2), [SL(3), SO(3), SO2eR3()]),
    "a product": (ON_PRODUCT, Vector(SO(3))(PRODUCT) + Scalar, [PRODUCT, SO2eR3() * Z(4)]),
    "a repeated factor": (ON_TWICE, ON_TWICE, [TWICE, SO(3) * SO2eR3(), SO2eR3() * SO2eR3()]),
    "the same group twice": (2 * Vector, Vector + Scalar, [O(3), O(3)]),
    "one group": (2 * Vector, Vector + Scalar, [O(3)]),
    "nothing at first": (Vector, Scalar, [O(3), O2eR3()]),
}


def dense_chain(case):
    rep_in, rep_out, groups = CHAINS[case]
    return [basis.dense() for basis in chain_maps(rep_in, rep_out, groups)]


def reps_on(case):
    """Input and output representations on every group of a chain."""
    rep_in, rep_out, groups = CHAINS[case]
    bound = [(rep_in(groups[0]), rep_out(groups[0]))]
    for group in groups[1:]:
        bound.append(tuple(restrict(rep, group) for rep in bound[-1]))
    return bound


def test_increments_are_orthogonal_to_each_other(subtests):
    for case in CHAINS:
        with subtests.test(msg=case):
            whole = torch.cat(dense_chain(case), dim=1)
            torch.testing.assert_close(whole.mT @ whole, torch.eye(whole.shape[1]).double(), rtol=0, atol=1e-10)


def test_increments_together_span_the_maps_of_every_group(subtests):
    for case in CHAINS:
        with subtests.test(msg=case):
            increments, spanned = dense_chain(case), torch.zeros(0)
            for level, (rep_in, rep_out) in enumerate(reps_on(case)):
                spanned, expected = torch.cat(increments[: level + 1], dim=1), dense_null_space(rep_in, rep_out)
                torch.testing.assert_close(spanned @ spanned.mT, expected @ expected.mT, rtol=0, atol=1e-9)
                q = equivariant_maps(rep_in, rep_out).dense()
                torch.testing.assert_close(spanned @ spanned.mT, q @ q.mT, rtol=0, atol=1e-9)


def test_the_first_is_the_basis_of_the_first_group_itself(subtests):
    for case in CHAINS:
        with subtests.test(msg=case):
            rep_in, rep_out, groups = CHAINS[case]
            first = chain_maps(rep_in, rep_out, groups)[0]
            assert torch.equal(first.dense(), equivariant_maps(rep_in(groups[0]), rep_out(groups[0])).dense())


@pytest.mark.parametrize("case", ["rotations", "quarter turns", "Lorentz", "a product"])
def test_increments_that_are_stored_block_by_block(case, monkeypatch):
    expected = dense_chain(case)
    monkeypatch.setattr(module, "SMALL_MATRIX", -1)
    stored = chain_maps(*CHAINS[case][:2], CHAINS[case][2])
    assert {type(basis).__name__ for basis in stored[1:]} == {"BlockBasis"}
    for basis, q in zip(stored, expected, strict=True):
        torch.testing.assert_close(basis.dense(), q, rtol=0, atol=1e-13)
        vector = torch.randn(2, basis.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        torch.testing.assert_close(basis.project(vector), vector @ q @ q.mT, rtol=0, atol=1e-11)


RANKS = [
    (Vector, Vector, [O(3), SO2eR3(), Trivial(3)], [1, 2, 6]),
    (Vector, Vector, [O(3), O2eR3(), SO2eR3()], [1, 1, 1]),
    (Vector, Vector, [S(5), Z(5), Trivial(5)], [2, 3, 20]),
    (Vector, Vector, [O13(), SO13p()], [1, 0]),
    (Scalar, PseudoScalar, [O(3), SO(3)], [0, 1]),
    (Vector, Vector, [SL(2), Trivial(2)], [1, 3]),
    (Irrep(2), Irrep(2), [SO(3), SO2eR3()], [1, 4]),
]


@pytest.mark.parametrize(("rep_in", "rep_out", "groups", "ranks"), RANKS, ids=[str(g) for _, _, g, _ in RANKS])
def test_ranks_known_by_hand(rep_in, rep_out, groups, ranks):
    assert [basis.rank for basis in chain_maps(rep_in, rep_out, groups)] == ranks


def test_increments_are_the_same_on_the_next_day():
    """Saved coordinates keep their meaning: a canonical basis, solved afresh."""
    from bayes_rpp.bases.solver import _solve

    for case in ("rotations", "harmonics", "a product"):
        first = dense_chain(case)
        _solve.cache_clear()
        for before, after in zip(first, dense_chain(case), strict=True):
            torch.testing.assert_close(before, after, rtol=0, atol=1e-10)


def test_vectors_along_a_chain():
    groups = [O(3), O2eR3(), Trivial(3)]
    q = [basis.dense() for basis in chain_basis(Vector + T(2), groups)]
    assert [matrix.shape for matrix in q] == [(12, 1), (12, 2), (12, 9)]
    whole = torch.cat(q, dim=1)
    torch.testing.assert_close(whole.mT @ whole, torch.eye(12).double(), rtol=0, atol=1e-12)
    axis = torch.zeros(12).double()
    axis[2] = 1
    torch.testing.assert_close(q[1] @ (q[1].mT @ axis), axis)


REFUSED = {
    "upwards": (lambda: chain_maps(Vector, Vector, [SO(3), O(3)]), r"O\(3\) is no subgroup of SO\(3\)"),
    "sideways": (lambda: chain_maps(Vector, Vector, [O(3), SO(3), O2eR3()]), r"O2eR3 is no subgroup of SO\(3\)"),
    "another space": (lambda: chain_maps(Vector, Vector, [O(3), O(2)]), r"acts on R\^2, not on R\^3"),
    "no group": (lambda: chain_maps(Vector, Vector, []), "at least one group"),
    "bound to another": (lambda: chain_maps(Vector(SO(3)), Vector, [O(3), SO(3)]), r"bound to SO\(3\) already"),
    "in a finite group": (lambda: chain_maps(Vector, Vector, [Cube(), S(6)]), r"S\(6\) is no subgroup of Cube"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_chain_is_refused(case):
    build, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        build()


def test_orbits_that_vanish_under_the_group_or_under_both():
    """The sign of a permutation is invariant under the 3-cycles alone, and under a swap not even then."""
    swap, cycle = (Group(generators=S(3).generators[k : k + 1]) for k in (1, 0))
    assert [basis.rank for basis in chain_maps(PseudoScalar, Scalar, [S(3), cycle])] == [0, 1]
    assert [basis.rank for basis in chain_maps(PseudoScalar, Scalar, [S(3), swap])] == [0, 0]
    signed = chain_maps(PseudoScalar * Vector, Vector + PseudoScalar, [S(3), swap, Trivial(3)])
    together = torch.cat([basis.dense() for basis in signed], dim=1)
    torch.testing.assert_close(together.mT @ together, torch.eye(12).double(), rtol=0, atol=1e-12)
