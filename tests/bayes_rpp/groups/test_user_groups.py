"""Groups that a user gives in odd ways: badly scaled, redundant, rounded, turned by little."""

import math

import numpy as np
import pytest
import torch

from bayes_rpp import SL, SO, D, Group, Irrep, O, Regular, S, SO2eR3, T, Vector, equivariant_maps, matrix_rep, restrict
from tests.error_rate import z_limit
from tests.seeds import shifted

ROTATIONS = SO(3).lie_algebra
QUARTER = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)


def turn(angle):
    return torch.linalg.matrix_exp(angle * QUARTER)


@pytest.mark.parametrize("scale", [1e-13, 1e-3, 1.0, 1e5])
def test_the_scale_of_a_lie_algebra_makes_no_difference(scale):
    group = Group(lie_algebra=scale * ROTATIONS)
    assert group.is_orthogonal
    assert torch.equal(group.sample(5, seed=0).round(decimals=9), Group(ROTATIONS).sample(5, seed=0).round(decimals=9))
    assert equivariant_maps(T(2)(group), T(2)(group)).rank == 3
    special = Group(lie_algebra=scale * SL(2).lie_algebra)
    assert not special.is_orthogonal
    basis = equivariant_maps(Vector(special), Vector(special)).dense()
    torch.testing.assert_close(basis[:, 0], torch.eye(2).double().flatten() * math.sqrt(0.5), rtol=0, atol=1e-12)


def test_redundant_and_nearly_parallel_bases_span_the_same_group():
    redundant = torch.cat([ROTATIONS, ROTATIONS.sum(0, keepdim=True), torch.zeros(1, 3, 3).double()])
    parallel = torch.stack([ROTATIONS[0], ROTATIONS[0] + 1e-6 * ROTATIONS[1]])
    for algebra in (redundant, parallel):
        group = Group(lie_algebra=algebra)
        assert equivariant_maps(T(2)(group), T(2)(group)).rank == 3
    assert len(Group(lie_algebra=redundant).orthonormal_algebra) == 3


@pytest.mark.statistical
def test_the_sample_of_a_slow_turn_is_spread_over_the_circle():
    angle = Group(generators=turn(0.01)[None]).sample(4000, seed=shifted())[:, 1, 0].asin()
    traces = Group(generators=turn(0.01)[None]).sample(4000, seed=shifted()).diagonal(dim1=1, dim2=2).sum(1)
    assert abs(float(traces.mean())) < z_limit(2) * math.sqrt(2 / 4000)
    assert abs(float(angle.mean())) < z_limit(2) * math.pi / math.sqrt(12 * 4000)


def test_a_tiny_turn_is_not_taken_for_the_identity():
    group = Group(generators=turn(1e-7)[None])
    assert (group.order, group.is_finite) == (None, None)


def test_generators_that_were_rounded_are_refused():
    rounded = turn(2 * math.pi / 5).float()
    with pytest.raises(ValueError, match=r"generators\[0\] is orthogonal only to .*float64"):
        Group(generators=rounded[None])
    skew = SO(3).lie_algebra[:1].clone()
    skew[0, 0, 1] += 1e-8
    with pytest.raises(ValueError, match=r"lie_algebra\[0\] is antisymmetric only to .*float64"):
        Group(lie_algebra=skew)


def test_a_small_but_invertible_generator_is_a_generator():
    assert Group(generators=1e-5 * torch.eye(3)[None]).is_finite is False
    with pytest.raises(ValueError, match="singular"):
        Group(generators=torch.zeros(1, 2, 2))


def test_half_a_charge_is_refused_at_any_scale():
    for scale in (1.0, 1e-2, 1e3):
        with pytest.raises(ValueError, match="no representation"):
            matrix_rep(Group(lie_algebra=scale * QUARTER[None]), lie_algebra=scale / 2 * QUARTER[None])
        assert matrix_rep(Group(lie_algebra=scale * QUARTER[None]), lie_algebra=2 * scale * QUARTER[None]).size == 2


def test_a_small_scale_does_not_make_a_subgroup():
    with pytest.raises(ValueError, match="no subgroup"):
        restrict(Vector(SO2eR3()), Group(lie_algebra=1e-9 * ROTATIONS))


def test_whole_numbers_are_turned_as_numbers():
    g = SO(3).sample(1, seed=0)[0]
    torch.testing.assert_close(Vector(SO(3)).apply(g, torch.arange(3)), g @ torch.arange(3.0).double())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rep", [Irrep(2), Regular, Vector], ids=str)
def test_low_precision_vectors_are_moved_by_exact_elements(rep, dtype):
    group = D(5)
    rep, g = rep(group), group.sample(1, seed=3)[0]
    x = torch.randn(rep.size, generator=torch.Generator().manual_seed(0)).to(dtype)
    moved = rep.apply(g, x)
    assert moved.dtype == dtype
    torch.testing.assert_close(moved.double(), rep.rho(g) @ x.double(), rtol=0.02, atol=0.02)


def test_orders_of_large_symmetric_groups_are_at_hand():
    assert S(300).order == math.factorial(300)


@pytest.mark.parametrize(("group", "rep"), [(O(3), T(9)), (SO(2), T(14))], ids=str)
def test_what_is_too_large_is_refused_at_once(group, rep):
    with pytest.raises(ValueError, match=r"[\d,]+ bytes"):
        equivariant_maps(rep(group), rep(group))


def test_a_basis_given_away_can_be_changed_without_harm():
    from bayes_rpp.bases.solver import invariant_vectors

    piece = T(2)(SO(3)).terms[0][1]
    invariant_vectors(SO(3), piece).zero_()
    assert np.isclose(float(invariant_vectors(SO(3), piece).norm()), 1.0)
