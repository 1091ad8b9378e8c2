"""Equivariant bases: orthonormal, equivariant, complete."""

import math

import pytest
import torch

from bayes_rpp import (
    SL,
    SO,
    D,
    Group,
    O,
    O2eR3,
    PseudoScalar,
    S,
    Scalar,
    SO2eR3,
    T,
    Trivial,
    Vector,
    Z,
    equivariant_basis,
    equivariant_maps,
    parse_group,
    parse_rep,
)

GROUPS = [Trivial(3), Z(4), S(4), D(3), D(4), SO(2), SO(3), O(2), O(3), SL(2), SL(3), SO2eR3(), O2eR3()]
PAIRS = [
    (Vector, Vector),
    (Scalar + Vector, T(2)),
    (2 * Vector + Scalar + Vector, T(1, 1)),
    (Vector + T(0, 1), 2 * T(2) + T(0, 1)),
    (PseudoScalar + Vector, PseudoScalar * Vector + 2 * PseudoScalar + Scalar),
    (T(1, 1) + Scalar, T(2, 0) + T(0, 1) + Scalar),
]
CASES = [(group, *pair) for group in GROUPS for pair in PAIRS]
everywhere = pytest.mark.parametrize(
    ("group", "rep_in", "rep_out"), CASES, ids=[f"{g}: {a} -> {b}" for g, a, b in CASES]
)


def haar_quadrature(group):
    """Elements whose mean is exact for the characters met here: one of every class of a compact group."""
    if group.elements is not None:
        return [(g, 1.0) for g in group.elements]
    nodes = []
    for t in torch.arange(64).double() * (2 * math.pi / 64):
        c, s = float(t.cos()), float(t.sin())
        plane = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
        turn = torch.block_diag(plane, torch.eye(group.d - 2).double())
        weight = 1 - c if group in (SO(3), O(3)) else 1.0
        nodes.append((turn, weight))
        if not group.preserves_orientation:
            flip = (
                -torch.eye(3).double() if group == O(3) else torch.diag(torch.tensor([-1.0, 1, 1][: group.d]).double())
            )
            nodes.append((flip @ turn, weight))
    return nodes


def character_count(rep_in, rep_out):
    nodes = haar_quadrature(rep_in.bound_group)
    total = sum(w * rep_out.rho(g).trace() * rep_in.rho(torch.linalg.inv(g)).trace() for g, w in nodes)
    return float(total) / sum(w for _, w in nodes)


@everywhere
def test_the_basis_is_orthonormal(group, rep_in, rep_out):
    q = equivariant_maps(rep_in(group), rep_out(group)).dense()
    torch.testing.assert_close(q.mT @ q, torch.eye(q.shape[1]).double(), rtol=0, atol=1e-10)


@everywhere
def test_every_basis_element_is_equivariant(group, rep_in, rep_out):
    rep_in, rep_out = rep_in(group), rep_out(group)
    maps = equivariant_maps(rep_in, rep_out).dense().mT.reshape(-1, rep_out.size, rep_in.size)
    for g in group.sample(5, seed=0):
        torch.testing.assert_close(rep_out.rho(g) @ maps, maps @ rep_in.rho(g), rtol=0, atol=1e-9)


@everywhere
def test_the_basis_spans_the_null_space_of_the_dense_constraints(group, rep_in, rep_out, dense_null_space):
    rep_in, rep_out = rep_in(group), rep_out(group)
    basis, null_space = equivariant_maps(rep_in, rep_out), dense_null_space(rep_in, rep_out)
    assert basis.rank == null_space.shape[1]
    q = basis.dense()
    torch.testing.assert_close(q @ q.mT, null_space @ null_space.mT, rtol=0, atol=1e-10)


@pytest.mark.parametrize("rep", [Scalar, Vector, T(2), T(1, 1), PseudoScalar * T(3), 2 * Vector + Scalar], ids=str)
@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_invariant_vectors_are_all_that_the_group_leaves_alone(group, rep, dense_null_space):
    rep = rep(group)
    basis, null_space = equivariant_basis(rep), dense_null_space(Scalar(group), rep)
    q = basis.dense()
    assert q.shape == (rep.size, null_space.shape[1]) == (basis.size, basis.rank)
    torch.testing.assert_close(q @ q.mT, null_space @ null_space.mT, rtol=0, atol=1e-10)


COMPACT = [case for case in CASES if case[0].is_orthogonal]


@pytest.mark.parametrize(("group", "rep_in", "rep_out"), COMPACT, ids=[f"{g}: {a} -> {b}" for g, a, b in COMPACT])
def test_the_rank_is_the_mean_of_the_characters_product(group, rep_in, rep_out):
    rep_in, rep_out = rep_in(group), rep_out(group)
    assert character_count(rep_in, rep_out) == pytest.approx(equivariant_maps(rep_in, rep_out).rank, abs=1e-8)


def unitarian_count(n, p_in, q_in, p_out, q_out):
    """Weyl's integral over the torus of SU(n): SL(n) has the same invariants."""
    angles = torch.arange(32).double() * (2 * math.pi / 32)
    free = torch.cartesian_prod(*[angles] * (n - 1)).reshape(-1, n - 1)
    phases = torch.exp(1j * torch.cat([free, -free.sum(1, keepdim=True)], 1))
    pairs = torch.combinations(torch.arange(n))
    density = (phases[:, pairs[:, 0]] - phases[:, pairs[:, 1]]).abs().square().prod(1)
    trace = phases.sum(1)
    character = trace ** (p_out + q_in) * trace.conj() ** (q_out + p_in)
    return float((density * character.real).mean() / math.factorial(n))


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("types", [(1, 0, 1, 0), (1, 0, 0, 1), (1, 1, 1, 1), (2, 0, 0, 1), (2, 1, 1, 0), (2, 0, 1, 1)])
def test_ranks_for_sl_are_those_of_su(n, types):
    p_in, q_in, p_out, q_out = types
    rank = equivariant_maps(T(p_in, q_in)(SL(n)), T(p_out, q_out)(SL(n))).rank
    assert unitarian_count(n, *types) == pytest.approx(rank, abs=1e-9)


HIDDEN, GATED = "102*Scalar + 34*T(1) + 11*T(2) + 3*T(3)", "150*Scalar + 34*T(1) + 11*T(2) + 3*T(3)"


@pytest.mark.parametrize(
    ("group", "rep_in", "rep_out", "rank"),
    [
        ("SO(3)", "T(2)", "T(2)", 3),
        ("SO(3)", "T(3)", "T(3)", 15),
        ("O(3)", HIDDEN, "T(2)", 135),
        ("SO(3)", HIDDEN, GATED, 22238),
        ("O2eR3", HIDDEN, GATED, 43345),
        ("SO2eR3", "T(3)", "T(3)", 141),
        ("O(3)", "4*T(1)", "Scalar", 0),
        ("SL(3)", "T(3)", "T(0,3)", 5),
        ("SL(3)", "25*Scalar + 4*T(1) + 3*T(0,1) + 2*T(1,1)", "25*Scalar + 4*T(1) + 3*T(0,1) + 2*T(1,1)", 758),
        ("D(4)", "16*Scalar + 8*T(1) + 4*T(2) + 2*T(3)", "16*Scalar + 8*T(1) + 4*T(2) + 2*T(3)", 704),
        ("S(5)", "134*Scalar + 25*T(1) + 5*T(2)", "134*Scalar + 25*T(1) + 5*T(2)", 30211),
        ("S(5)", "2*Scalar + 3*T(1) + T(2)", "T(1) + T(2)", 47),
        ("Z(5)", "T(2)", "T(2)", 125),
        ("Trivial(3)", "2*Scalar + T(1)", "T(2)", 45),
    ],
)
def test_known_ranks_are_found(group, rep_in, rep_out, rank):
    group = parse_group(group)
    assert equivariant_maps(parse_rep(rep_in)(group), parse_rep(rep_out)(group)).rank == rank


def test_the_basis_goes_by_the_groups_content_and_not_by_its_name():
    first, second = torch.zeros(2, 1, 3, 3).double()
    first[0, 1, 0], first[0, 0, 1] = 1.0, -1.0
    second[0, 2, 1], second[0, 1, 2] = 1.0, -1.0
    bases = [equivariant_basis(Vector(Group(lie_algebra=a, name="G"))) for a in (first, second)]
    assert bases[0] is not bases[1]
    expected = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]).double()
    for basis, axis in zip(bases, expected, strict=True):
        torch.testing.assert_close(basis.dense()[:, 0].abs(), axis, rtol=0, atol=1e-12)


def test_a_second_layer_shares_the_basis_of_the_first():
    mine = Group(O(3).lie_algebra, O(3).generators, name="mine")
    assert equivariant_maps(Vector(O(3)), T(2)(O(3))) is equivariant_maps(Vector(mine), T(0, 2)(mine))
