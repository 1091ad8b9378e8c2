"""Gated nonlinearities against their formula, coordinate by coordinate."""

import pytest
import torch

from bayes_rpp import SL, SO, D, O, PseudoScalar, S, Scalar, T, Trivial, Vector, Z
from bayes_rpp.networks import GatedNonlinearity, gated
from bayes_rpp.representations.factors import SIGN
from tests.scenarios.numbers import numbers

REPS = [
    (3 * Scalar + 2 * Vector + T(2))(SO(3)),
    (Vector + Scalar + 2 * PseudoScalar + Vector)(O(3)),
    (Scalar + Vector + T(1, 1) + T(0, 2))(SL(2)),
    (2 * Vector + Scalar)(D(4)),
    (Scalar + Vector + T(2))(S(3)),
    (PseudoScalar + 2 * Vector + PseudoScalar * Vector)(S(3)),
    (Vector + T(2))(Z(4)),
    (2 * Vector)(Trivial(3)),
]


def gates_itself(rep, piece):
    return piece == () or (rep.group.is_permutation and SIGN not in piece)


def literal(rep, x, swish):
    gates = iter(x[:, : x.shape[1] - rep.size].unbind(1))
    values, result = x[:, x.shape[1] - rep.size :], []
    for run in rep.runs:
        for copy in range(run.multiplicity):
            own = values[:, run.start + copy * run.piece_size :][:, : run.piece_size]
            gate = own if gates_itself(rep, run.piece) else next(gates)[:, None]
            result.append(torch.sigmoid(gate) * own)
    assert next(gates, None) is None
    return torch.cat(result, 1) + swish * values * torch.sigmoid(values)


def test_the_layer_is_its_formula(subtests):
    for rep in REPS:
        with subtests.test(msg=f"{rep} of {rep.group}"):
            layer, x = GatedNonlinearity(rep).double(), numbers(4, gated(rep).size)
            start = torch.full((rep.size,), 1e-3).double()
            torch.testing.assert_close(layer(x), literal(rep, x, start), rtol=1e-7, atol=1e-9)
            layer.swish.data = numbers(rep.size)
            torch.testing.assert_close(layer(x), literal(rep, x, numbers(rep.size)), rtol=1e-12, atol=1e-12)
            exact = GatedNonlinearity(rep, residual=False)
            torch.testing.assert_close(exact(x), literal(rep, x, 0.0), rtol=1e-12, atol=1e-12)


def test_the_gate_is_equivariant(subtests):
    for rep in REPS:
        with subtests.test(msg=f"{rep} of {rep.group}"):
            layer, x = GatedNonlinearity(rep, residual=False), numbers(5, gated(rep).size)
            for g in rep.group.sample(5, seed=0):
                actual, expected = layer(gated(rep).apply(g, x)), rep.apply(g, layer(x))
                torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)


def test_the_residual_swish_is_not(subtests):
    for rep in REPS[:-1]:
        with subtests.test(msg=f"{rep} of {rep.group}"):
            layer, x = GatedNonlinearity(rep).double(), numbers(5, gated(rep).size)
            layer.swish.data = numbers(rep.size)
            errors = [layer(gated(rep).apply(g, x)) - rep.apply(g, layer(x)) for g in rep.group.sample(5, seed=0)]
            assert max(float(error.detach().abs().max()) for error in errors) > 1e-2


@pytest.mark.parametrize(
    ("rep", "expected"),
    [
        ((4 * Scalar + 2 * Vector)(SO(3)), 6 * Scalar + 2 * Vector),
        ((Vector + 2 * Scalar + T(2))(O(3)), 2 * Scalar + Vector + 2 * Scalar + T(2)),
        (PseudoScalar(O(3)), Scalar + PseudoScalar),
        ((5 * Scalar + Vector + T(2))(S(3)), 5 * Scalar + Vector + T(2)),
        ((PseudoScalar + Vector)(S(3)), Scalar + PseudoScalar + Vector),
    ],
    ids=str,
)
def test_every_piece_that_cannot_gate_itself_has_a_gate_first(rep, expected):
    assert gated(rep) == expected(rep.group)


def test_any_batch_dimensions(subtests):
    for rep in REPS:
        with subtests.test(msg=f"{rep} of {rep.group}"):
            layer, x = GatedNonlinearity(rep).double(), numbers(2, 3, gated(rep).size)
            assert layer(x).shape == (2, 3, rep.size)
            torch.testing.assert_close(layer(x)[1, 2], layer(x[1, 2]), rtol=1e-13, atol=1e-13)
