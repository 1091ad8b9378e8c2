"""Matrices that are no representation of the group are refused, and the message says why."""

import itertools
import math

import pytest
import torch

from bayes_rpp import (
    O13,
    SO,
    Group,
    O,
    S,
    SO2eR3,
    Vector,
    Z,
    matrix_rep,
)
from tests.scenarios.groups import by_matrices, turning_and_permuting

TURN = SO(2).lie_algebra[0]
FLIP = torch.diag(torch.tensor([-1.0, 1.0], dtype=torch.float64))


def planes(*rates):
    """A turn of every plane at its own rate, as a Lie-algebra element."""
    return torch.block_diag(*[rate * TURN for rate in rates])


def screw(angle):
    element = torch.block_diag(torch.linalg.matrix_exp(angle * TURN), -torch.eye(1).double())
    return Group(SO2eR3().lie_algebra, element[None])


HALF_QUATERNIONS = 0.5 * torch.stack(
    [
        torch.tensor([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]]),
        torch.tensor([[0.0, 0, -1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, -1, 0, 0]]),
        torch.tensor([[0.0, 0, 0, -1], [0, 0, -1, 0], [0, 1, 0, 0], [1, 0, 0, 0]]),
    ]
)


def spin_half():
    """The signs with which the brackets are right: only a whole turn tells it from a representation."""
    for signs in itertools.product([1.0, -1.0], repeat=3):
        images = HALF_QUATERNIONS * torch.tensor(signs)[:, None, None]
        algebra = SO(3).lie_algebra
        brackets = [(images[i] @ images[j] - images[j] @ images[i]) for i, j in ((0, 1), (1, 2), (2, 0))]
        wanted = [(algebra[i] @ algebra[j] - algebra[j] @ algebra[i]) for i, j in ((0, 1), (1, 2), (2, 0))]
        mapped = [sum((w * a).sum() / 2 * image for a, image in zip(algebra, images, strict=True)) for w in wanted]
        if all(torch.allclose(b.double(), m.double()) for b, m in zip(brackets, mapped, strict=True)):
            return images
    raise AssertionError("no choice of signs has the brackets of the rotations")


FALSE = {
    "wrong order of the algebra": lambda: matrix_rep(SO(3), SO(3).lie_algebra[[1, 0, 2]]),
    "wrong sign of the algebra": lambda: matrix_rep(SO(3), -SO(3).lie_algebra),
    "wrong order of the generators": lambda: matrix_rep(S(3), generators=[[[-1.0]], [[1.0]]]),
    "a generator of another order": lambda: matrix_rep(Z(4), generators=Vector(Z(3)).rho(Z(3).generators[0])[None]),
    "spin 1/2": lambda: matrix_rep(SO(3), spin_half()),
    "degree 1/2 of SO(2)": lambda: matrix_rep(SO(2), 0.5 * TURN[None]),
    "degree 3/2 of SO(2)": lambda: matrix_rep(SO(2), 1.5 * TURN[None]),
    "growth along a circle": lambda: matrix_rep(SO(2), [[[1.0]]]),
    "a shear along a circle": lambda: matrix_rep(SO(2), [[[0.0, 1.0], [0.0, 0.0]]]),
    "degree 1/2 of a circle through two planes": lambda: matrix_rep(
        Group(planes(2.0, 3.0)[None]), 0.5 * TURN[None]
    ),
    "degree 1/2 of a torus with a slanted basis": lambda: matrix_rep(
        Group(torch.stack([planes(1.0, math.sqrt(2)), planes(1.0, -1.0)])),
        torch.stack([(1 + math.sqrt(2)) / 2 * TURN, 0 * TURN]),
    ),
    "a reflection that keeps the sense": lambda: matrix_rep(O(2), TURN[None], torch.eye(2)[None]),
    "a reflection of order four": lambda: matrix_rep(O(2), 0 * TURN[None], TURN[None]),
    "a generator inside the identity component": lambda: matrix_rep(
        Group(TURN[None], -torch.eye(2)[None]), TURN[None], torch.eye(2)[None]
    ),
    "a generator whose square is in the identity component": lambda: matrix_rep(
        screw(1.0), SO2eR3().lie_algebra, torch.diag(torch.tensor([1.0, 1, -1]))[None]
    ),
    "commuting generators that do not commute": lambda: matrix_rep(
        O13(), torch.zeros(6, 2, 2), torch.stack([FLIP, FLIP.new_tensor([[0, 1], [1, 0]])])
    ),
    "generators of a component group with a relation": lambda: matrix_rep(
        turning_and_permuting(3), torch.zeros(1, 1, 1), [[[-1.0]], [[1.0]]]
    ),
    "singular, finite": lambda: matrix_rep(S(3), generators=torch.zeros(2, 1, 1)),
    "singular, Lie": lambda: matrix_rep(O(3), torch.zeros(3, 2, 2), torch.zeros(1, 2, 2)),
    "singular, without an order": lambda: matrix_rep(Group(generators=[[[2.0]]]), generators=[[[0.0]]]),
}  # fmt: skip


def test_false_representations_are_refused(subtests):
    for case in FALSE:
        with subtests.test(msg=case), pytest.raises(ValueError, match=r"no representation of .*off by|singular"):
            FALSE[case]()


REFUSED = {
    "sizes": (lambda: matrix_rep(O(3), SO(3).lie_algebra, torch.eye(2)[None]), r"one size.*O\(3\), got \[2, 3\]"),
    "too few": (
        lambda: matrix_rep(O(3), SO(3).lie_algebra[:2], torch.eye(3)[None]),
        r"must hold 3 matrices for O\(3\), got 2",
    ),
    "none of a kind": (lambda: matrix_rep(O(3), SO(3).lie_algebra), r"must hold 1 matrices for O\(3\), got 0"),
    "none": (lambda: matrix_rep(O(3)), r"needs a matrix"),
    "NaN": (lambda: matrix_rep(Z(2), generators=[[[math.nan]]]), "generators holds NaN"),
    "one matrix": (lambda: matrix_rep(Z(2), generators=torch.eye(2)), r"\(count, d, d\), got \(2, 2\)"),
    "too large": (lambda: matrix_rep(S(8), generators=S(8).generators), "too many elements"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_words(case):
    build, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        build()


def test_matrices_that_are_no_elements_are_refused():
    with pytest.raises(ValueError, match=r"1 of 1 matrices are no elements of SO\(3\)"):
        by_matrices(Vector(SO(3))).rho(-torch.eye(3).double())
    with pytest.raises(ValueError, match="no elements"):
        by_matrices(Vector(O(3))).rho(2 * torch.eye(3).double())
    with pytest.raises(ValueError, match="differs from every element"):
        by_matrices(Vector(S(3))).rho(-torch.eye(3).double())


def test_matrices_of_a_product_are_refused_in_words_about_products():
    """Or they act; but not a refusal at the first use, for another reason."""
    group, message = SO(3) * S(4), "factor"
    try:
        rep = matrix_rep(group, group.lie_algebra, group.generators)
    except ValueError as error:
        message = str(error)
    else:
        g = [part[0] for part in group.sample(1, seed=0)]
        torch.testing.assert_close(rep.rho(g), group.join(g), rtol=1e-9, atol=1e-9)
    assert "factor" in message
