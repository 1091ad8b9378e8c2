"""Standardising that commutes with the group."""

import copy
import math

import pytest
import torch

from bayes_rpp import (
    EMLP,
    MLP,
    RPPEMLP,
    SL,
    SO,
    D,
    NormalizedNetwork,
    O,
    O2eR3,
    PseudoScalar,
    S,
    Scalar,
    Standardizer,
    T,
    Vector,
    Z,
)
from tests.scenarios.numbers import numbers

GROUPS = [Z(4), S(4), D(4), SO(2), SO(3), O(3), SL(2), SL(3), O2eR3()]
REP = 2 * Scalar + Vector + PseudoScalar + 2 * T(1, 1)


def data(size, count=60, seed=0):
    """Coordinates with means and scales that differ by orders of magnitude."""
    scales = torch.logspace(-3, 3, size, dtype=torch.float64)
    return scales * (numbers(count, size, seed=seed) + 2.0)


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def test_standardising_commutes_with_the_group(subtests):
    for group in GROUPS:
        with subtests.test(msg=str(group)):
            rep = REP(group)
            standardize, x = Standardizer.fit(data(rep.size), rep), data(rep.size, 5, seed=1)
            for g in group.sample(5, seed=0):
                for function in (standardize, standardize.inverse):
                    left, right = function(rep.apply(g, x)), rep.apply(g, function(x))
                    assert (left - right).norm() < 1e-10 * right.norm()


def test_scaling_coordinate_by_coordinate_does_not():
    rep, x = Vector(SO(3)), data(3)
    g = SO(3).sample(1, seed=0)[0]
    scaled = x / x.std(0)
    assert (rep.apply(g, x) / x.std(0) - rep.apply(g, scaled)).norm() > 0.1 * scaled.norm()


def test_every_copy_gets_one_scale_and_comes_out_with_mean_square_one(subtests):
    for group in GROUPS:
        with subtests.test(msg=str(group)):
            rep = REP(group)
            standardize = Standardizer.fit(data(rep.size), rep)
            squares = standardize(data(rep.size)).square().mean(0)
            for run in rep.runs:
                scales = standardize.scale[run.start : run.stop].reshape(run.multiplicity, -1)
                assert torch.equal(scales, scales[:, :1].expand_as(scales))
                means = squares[run.start : run.stop].reshape(run.multiplicity, -1).mean(1)
                close(means, torch.ones(run.multiplicity).double())


def test_the_mean_is_invariant_and_leaves_no_invariant_mean_behind(subtests):
    for group in GROUPS:
        with subtests.test(msg=str(group)):
            rep = REP(group)
            standardize, x = Standardizer.fit(data(rep.size), rep), data(rep.size)
            for g in group.sample(5, seed=0):
                assert (rep.apply(g, standardize.mean) - standardize.mean).norm() < 1e-10 * standardize.mean.norm()
            close(standardize(x)[:, :2].mean(0), torch.zeros(2).double())


def test_vectors_of_rotations_keep_their_mean():
    assert torch.equal(Standardizer.fit(data(3), Vector(SO(3))).mean, torch.zeros(3).double())


def test_permutations_share_the_mean_of_all_coordinates():
    x = data(4)
    close(Standardizer.fit(x, Vector(S(4))).mean, x.mean().expand(4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_inverse_restores_the_data(dtype):
    rep = REP(SO(3))
    x = data(rep.size).to(dtype)
    standardize = Standardizer.fit(x, rep)
    assert standardize(x).dtype == standardize.mean.dtype == dtype
    rounding = 4 * torch.finfo(dtype).eps * (x.abs() + standardize.mean.abs())
    assert ((standardize.inverse(standardize(x)) - x).abs() <= rounding).all()


def test_constant_copies_keep_scale_one():
    x = numbers(50, 6)
    x[:, 0], x[:, 3:] = 1e6, 0.0
    standardize = Standardizer.fit(x, (3 * Scalar + Vector)(SO(3)))
    assert standardize.scale[0] == 1
    assert torch.equal(standardize.scale[3:], torch.ones(3).double())
    close(standardize(x)[:, 0], torch.zeros(50).double())
    assert standardize.scale[1] == pytest.approx(float(x[:, 1].std(correction=0)))


def test_a_single_precision_constant_is_a_constant():
    x = torch.full((1000, 1), 0.1)
    assert Standardizer.fit(x, Scalar(SO(3))).scale == 1


@pytest.mark.parametrize("shape", [(5, 3), (4,), (2, 5, 4)])
def test_data_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"does not fit Scalar \+ Vector, which has size 4"):
        Standardizer.fit(torch.zeros(shape), (Scalar + Vector)(SO(3)))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("rep", [Scalar, Vector], ids=str)
def test_data_that_are_not_finite_are_refused(bad, rep):
    x = numbers(5, rep(SO(3)).size)
    x[3, 0] = bad
    with pytest.raises(ValueError, match=r"(?i)nan|finite"):
        Standardizer.fit(x, rep(SO(3)))


REP_OUT = 2 * Scalar + T(1, 1)


def normalized(kind, group):
    torch.manual_seed(0)
    network = kind(REP, REP_OUT, group, channels=30, layers=1).double()
    return NormalizedNetwork.fit(network, data(network.rep_in.size), data(network.rep_out.size, seed=1))


def test_a_normalized_emlp_is_equivariant_in_the_datas_units(subtests):
    for group in GROUPS:
        with subtests.test(msg=str(group)):
            network = normalized(EMLP, group)
            x = data(network.rep_in.size, 8, seed=2)
            for g in group.sample(5, seed=3):
                left, right = network.rep_out.apply(g, network(x)), network(network.rep_in.apply(g, x))
                assert (left - right).norm() < 1e-10 * left.norm()


@pytest.mark.parametrize("kind", [RPPEMLP, EMLP, MLP])
def test_a_normalized_network_is_the_network_between_its_standardisers(kind):
    network = normalized(kind, SO(3))
    x = data(network.rep_in.size, 8, seed=2)
    inner = network.network((x - network.inputs.mean) / network.inputs.scale)
    close(network(x), inner * network.outputs.scale + network.outputs.mean)
    assert (network.rep_in, network.rep_out, network.group) == (REP(SO(3)), REP_OUT(SO(3)), SO(3))


def test_standardisers_are_part_of_the_state_but_not_parameters():
    network = normalized(MLP, SO(3))
    assert {"inputs.mean", "inputs.scale", "outputs.mean", "outputs.scale"} <= set(network.state_dict())
    assert all(name.startswith("network.") for name, _ in network.named_parameters())
    twin = copy.deepcopy(network)
    x = data(network.rep_in.size, 3)
    assert torch.equal(twin(x), network(x))


def test_every_copy_is_measured_against_its_own_size():
    """Whatever the units of the others: one copy near 1e9, one of size 1e-27 and one that never varies."""
    rep, x = (3 * Scalar)(SO(3)), torch.randn(400, 3, dtype=torch.float64)
    x = torch.stack([1.7e9 + 1e5 * x[:, 0], 1e-27 * x[:, 1], torch.full((400,), 5.0, dtype=torch.float64)], dim=1)
    standard = Standardizer.fit(x, rep)(x)
    torch.testing.assert_close(standard.std(0, correction=0)[:2], torch.ones(2, dtype=torch.float64))
    assert (standard[:, 2] == 0).all()


def test_outputs_that_are_in_no_unit_of_y_stay_as_they_are():
    x, rates = 1e3 * torch.randn(20, 3), RPPEMLP(Vector, Scalar, SO(3), channels=8, layers=1)
    network = NormalizedNetwork.fit(rates, x)
    assert torch.equal(network(x), rates(network.inputs(x)))
    assert network(x).dtype == torch.float32
    with pytest.raises(TypeError, match=r"y must be floating-point.*torch.int64.*log rates.*fit\(network, x\)"):
        NormalizedNetwork.fit(rates, x, torch.ones(20, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"y of shape \(20, 2\) does not fit Scalar.*logits.*fit\(network, x\)"):
        NormalizedNetwork.fit(rates, x, torch.ones(20, 2))
