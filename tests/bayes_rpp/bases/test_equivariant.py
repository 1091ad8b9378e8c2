"""Equivariant bases: orthonormal, equivariant, complete."""

import math

import pytest
import torch

from bayes_rpp import (
    SL,
    SO,
    Group,
    O,
    PseudoScalar,
    Scalar,
    T,
    Vector,
    equivariant_basis,
    equivariant_maps,
)
from tests.scenarios.bases import dense_null_space
from tests.scenarios.groups import GROUPS

PAIRS = [
    (Vector, Vector),
    (Scalar + Vector, T(2)),
    (2 * Vector + Scalar + Vector, T(1, 1)),
    (Vector + T(0, 1), 2 * T(2) + T(0, 1)),
    (PseudoScalar + Vector, PseudoScalar * Vector + 2 * PseudoScalar + Scalar),
    (T(1, 1) + Scalar, T(2, 0) + T(0, 1) + Scalar),
]
CASES = [(group, *pair) for group in GROUPS for pair in PAIRS]


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


def test_every_basis_element_is_equivariant(subtests):
    for group, rep_in, rep_out in CASES:
        with subtests.test(msg=f"{group}: {rep_in} -> {rep_out}"):
            rep_in, rep_out = rep_in(group), rep_out(group)
            maps = equivariant_maps(rep_in, rep_out).dense().mT.reshape(-1, rep_out.size, rep_in.size)
            for g in group.sample(5, seed=0):
                torch.testing.assert_close(rep_out.rho(g) @ maps, maps @ rep_in.rho(g), rtol=0, atol=1e-9)


def test_the_basis_is_orthonormal_and_spans_the_null_space_of_the_dense_constraints(subtests):
    for group, rep_in, rep_out in CASES:
        with subtests.test(msg=f"{group}: {rep_in} -> {rep_out}"):
            rep_in, rep_out = rep_in(group), rep_out(group)
            basis, null_space = equivariant_maps(rep_in, rep_out), dense_null_space(rep_in, rep_out)
            assert basis.rank == null_space.shape[1]
            q = basis.dense()
            torch.testing.assert_close(q.mT @ q, torch.eye(q.shape[1]).double(), rtol=0, atol=1e-10)
            torch.testing.assert_close(q @ q.mT, null_space @ null_space.mT, rtol=0, atol=1e-10)


def test_invariant_vectors_are_all_that_the_group_leaves_alone(subtests):
    for group in GROUPS:
        for rep in [Scalar, Vector, T(2), T(1, 1), PseudoScalar * T(3), 2 * Vector + Scalar]:
            with subtests.test(msg=f"{rep} of {group}"):
                bound = rep(group)
                basis, null_space = equivariant_basis(bound), dense_null_space(Scalar(group), bound)
                q = basis.dense()
                assert q.shape == (bound.size, null_space.shape[1]) == (basis.size, basis.rank)
                torch.testing.assert_close(q @ q.mT, null_space @ null_space.mT, rtol=0, atol=1e-10)


COMPACT = [case for case in CASES if case[0].is_orthogonal]


def test_the_rank_is_the_mean_of_the_characters_product(subtests):
    for group, rep_in, rep_out in COMPACT:
        with subtests.test(msg=f"{group}: {rep_in} -> {rep_out}"):
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


def test_ranks_for_sl_are_those_of_su(subtests):
    for types in [(1, 0, 1, 0), (1, 0, 0, 1), (1, 1, 1, 1), (2, 0, 0, 1), (2, 1, 1, 0), (2, 0, 1, 1)]:
        for n in [2, 3]:
            with subtests.test(msg=f"SL({n}), {types}"):
                p_in, q_in, p_out, q_out = types
                rank = equivariant_maps(T(p_in, q_in)(SL(n)), T(p_out, q_out)(SL(n))).rank
                assert unitarian_count(n, *types) == pytest.approx(rank, abs=1e-9)


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
