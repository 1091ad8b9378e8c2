"""Inner products as inputs: invariant, complete, and counted by the invariant theory of each group."""

import pytest
import torch

from bayes_rpp import (
    EMLP,
    SL,
    SO,
    InvariantLift,
    LiftedNetwork,
    O,
    O2eR3,
    PseudoScalar,
    Scalar,
    SO13p,
    Sp,
    T,
    Vector,
)
from tests.scenarios.numbers import numbers

# Symmetric invariant forms: of n vectors n(n+1)/2 under O(d), twice as many under O(2) about an axis, pairs alone where
# the form is antisymmetric, n m of n vectors with m dual ones.
COUNTS = {
    "O(3)": (O(3), 4 * Vector, 10),
    "SO(3)": (SO(3), 3 * Vector + 2 * Scalar, 6),
    "O2eR3": (O2eR3(), 4 * Vector, 20),
    "Lorentz": (SO13p(), 2 * Vector, 3),
    "Sp(2)": (Sp(2), 3 * Vector, 3),
    "SL(3)": (SL(3), 2 * Vector + 3 * T(0, 1), 6),
    "signs": (O(3), Vector + 2 * PseudoScalar * Vector, 1 + 3),
    "pseudoscalars": (O(3), 2 * Vector + 2 * PseudoScalar, 3 + 3),
    "tensors": (O(3), T(2), 3),
    "scalars": (O(3), 3 * Scalar, 0),
}


def test_the_forms_are_invariant_independent_and_as_many_as_the_theory_says(subtests):
    for name, (group, rep, count) in COUNTS.items():
        with subtests.test(msg=name):
            lift = InvariantLift(rep, group).double()
            assert lift.rep_out.size == lift.rep_in.size + count
            assert torch.linalg.matrix_rank(lift.forms.flatten(1)) == count if count else len(lift.forms) == 0
            x = numbers(7, lift.rep_in.size)
            y = lift(x)
            assert torch.equal(y[:, : lift.rep_in.size], x)
            for g in group.sample(3, seed=0):
                moved = lift(lift.rep_in.apply(g, x))
                torch.testing.assert_close(moved, lift.rep_out.apply(g, y), rtol=1e-8, atol=1e-8)


def test_inner_products_of_vectors_are_the_forms_of_rotations():
    lift, x = InvariantLift(2 * Vector, SO(3)).double(), numbers(5, 6)
    a, b = x.chunk(2, dim=1)
    expected = torch.stack([(a * a).sum(1), (a * b).sum(1), (b * b).sum(1)], dim=1) / 3**0.5
    torch.testing.assert_close(lift(x)[:, 6:].abs(), expected.abs(), rtol=1e-12, atol=1e-12)
    assert lift(x.reshape(5, 1, 6)).shape == (5, 1, 9)


def test_a_lifted_network_takes_what_the_lift_gives():
    lift = InvariantLift(2 * Vector, O(3))
    net = LiftedNetwork(EMLP(lift.rep_out, Vector, O(3), channels=20), lift).double()
    x = numbers(4, 6)
    for g in O(3).sample(3, seed=0):
        torch.testing.assert_close(net(net.rep_in.apply(g, x)), net.rep_out.apply(g, net(x)), rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="the lift gives"):
        LiftedNetwork(EMLP(2 * Vector, Scalar, O(3), channels=4), lift)
