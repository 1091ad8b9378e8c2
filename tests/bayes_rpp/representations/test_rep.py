"""The algebra of representations, against dense matrices."""

import pytest
import torch

from bayes_rpp import (
    SL,
    SO,
    D,
    Group,
    Irrep,
    O,
    PseudoScalar,
    Regular,
    Rep,
    S,
    Scalar,
    T,
    Vector,
    Z,
    matrix_rep,
    restrict,
)
from bayes_rpp.representations.factors import DUAL, VECTOR
from tests.scenarios.numbers import numbers

GROUPS = [O(3), SO(3), SL(2), SL(3), D(4), S(3), Z(4)]
REPS = [
    Scalar,
    PseudoScalar,
    Vector,
    T(0, 1),
    T(2),
    T(2, 1),
    Vector.dual * Vector,
    PseudoScalar * T(1, 1),
    2 * Vector + Scalar + Vector,
    3 * PseudoScalar + 2 * T(1, 1) + T(0, 2),
]
PAIRS = [(rep, group) for group in GROUPS for rep in REPS]


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def test_rho_is_a_homomorphism(subtests):
    for rep, group in PAIRS:
        with subtests.test(msg=f"{rep} of {group}"):
            bound = rep(group)
            for g, h in zip(group.sample(4, seed=0), group.sample(4, seed=1), strict=True):
                close(bound.rho(g @ h), bound.rho(g) @ bound.rho(h))
            close(bound.rho(torch.eye(group.d).double()), torch.eye(bound.size).double())


def test_drho_is_the_derivative_of_rho_at_the_identity(subtests):
    for rep in REPS:
        for group in [O(3), SO(3), SL(2), SL(3)]:
            with subtests.test(msg=f"{rep} of {group}"):
                bound = rep(group)
                for a in group.lie_algebra:

                    def curve(t, a=a, bound=bound):
                        return bound.rho(torch.linalg.matrix_exp(t * a))

                    zero, one = torch.tensor([0.0, 1.0]).double()
                    _, derivative = torch.autograd.functional.jvp(curve, zero, one)
                    close(bound.drho(a), derivative, 1e-13)


def test_drho_keeps_the_lie_bracket(subtests):
    for rep in REPS:
        with subtests.test(msg=str(rep)):
            bound, (a, b) = rep(SL(3)), numbers(2, 3, 3)
            da, db = bound.drho(a), bound.drho(b)
            close(bound.drho(a @ b - b @ a), da @ db - db @ da)


def test_apply_is_the_dense_matrix_times_the_vector(subtests):
    for rep, group in PAIRS:
        with subtests.test(msg=f"{rep} of {group}"):
            bound, g = rep(group), group.sample(1, seed=2)[0]
            x = numbers(2, 5, bound.size)
            close(bound.apply(g, x), x @ bound.rho(g).mT)
            close(bound.apply(g, x[0, 0]), bound.rho(g) @ x[0, 0])


def test_apply_takes_one_element_for_each_vector(subtests):
    for rep, group in PAIRS:
        with subtests.test(msg=f"{rep} of {group}"):
            bound, g = rep(group), group.sample(6, seed=3)
            x = numbers(6, bound.size)
            close(bound.apply(g, x), torch.stack([bound.rho(h) @ v for h, v in zip(g, x, strict=True)]))
            y = numbers(6, 4, bound.size)
            close(bound.apply(g[:, None], y), torch.stack([v @ bound.rho(h).mT for h, v in zip(g, y, strict=True)]))


def every_kind():
    """A bound representation of each kind of action, alone and among others."""
    doubled = matrix_rep(D(4), generators=torch.stack([torch.block_diag(g, g) for g in D(4).generators]))
    yield from (rep(O(3)) for rep in (Vector, Scalar + Vector, PseudoScalar + T(2), Irrep(2), Irrep(1) * Vector))
    yield from (rep(group) for group in (S(3), Z(4), D(4)) for rep in (Regular, Regular * Vector, 2 * Regular + Scalar))
    yield from ((Irrep(1) + Regular.dual)(S(3)), Vector.dual(SL(2)), doubled + Vector(D(4)))
    yield Vector(SO(3)) * Regular(S(3)) + Scalar(SO(3)) * Vector(S(3))
    yield restrict((T(2) + Vector)(O(3)), SO(3))


def test_elements_broadcast_against_vectors_whatever_the_kind(subtests):
    for rep in every_kind():
        with subtests.test(msg=f"{rep} of {rep.group}"):
            g = rep.group.join(rep.group.sample(6, seed=4))
            rho = torch.stack([rep.rho(h) for h in g])
            for of_elements in ((), (6,), (6, 1), (2, 1, 3)):
                for of_vectors in ((), (6,), (4, 1), (5, 3, 3) if of_elements == (2, 1, 3) else (3, 1, 6)):
                    try:
                        torch.broadcast_shapes(of_elements, of_vectors)
                    except RuntimeError:
                        continue
                    x = numbers(*of_vectors, rep.size)
                    elements = (g[0], rho[0]) if of_elements == () else (v.unflatten(0, of_elements) for v in (g, rho))
                    some, matrices = elements
                    close(rep.apply(some, x), (matrices @ x[..., None])[..., 0])


def test_apply_keeps_the_vectors_type():
    assert (Scalar + T(1, 1))(SL(2)).apply(SL(2).sample(1, seed=0)[0], torch.ones(3, 5)).dtype == torch.float32


def test_the_dual_is_the_inverse_transpose(subtests):
    for rep, group in PAIRS:
        with subtests.test(msg=f"{rep} of {group}"):
            bound, dual = rep(group), rep.dual(group)
            for g in group.sample(3, seed=5):
                close(dual.rho(g), torch.linalg.inv(bound.rho(g)).mT)
            assert rep.dual.dual == rep


def test_a_product_of_pieces_is_the_kronecker_product(subtests):
    for left, right in [(Vector, T(1, 1)), (T(0, 1), Vector), (PseudoScalar, T(2)), (Scalar, Vector)]:
        for group in GROUPS:
            with subtests.test(msg=f"{left} * {right} of {group}"):
                for g in group.sample(3, seed=6):
                    expected = torch.kron(left(group).rho(g), right(group).rho(g))
                    close((left * right)(group).rho(g), expected)
                    close((left(group) * right(group)).rho(g), expected)


def test_two_pseudoscalars_make_a_scalar():
    assert PseudoScalar * PseudoScalar == Scalar
    assert PseudoScalar**3 == PseudoScalar


def test_a_sum_is_block_diagonal_in_its_order():
    g = SO(3).sample(1, seed=7)[0]
    one = torch.ones(1, 1).double()
    close((Scalar + Vector)(SO(3)).rho(g), torch.block_diag(one, g), 0)
    close((Vector + 2 * Scalar)(SO(3)).rho(g), torch.block_diag(g, one, one), 0)
    assert Scalar + Vector != Vector + Scalar


def test_a_multiple_of_a_sum_repeats_the_sum():
    assert 2 * (Scalar + Vector) == Scalar + Vector + Scalar + Vector
    assert (Scalar + Vector) * 2 == 2 * (Scalar + Vector)


def test_a_product_of_sums_is_the_sum_of_products_left_piece_first():
    product = (Scalar + 2 * Vector) * (Vector + T(0, 1))
    assert product == Vector + T(0, 1) + 2 * T(2) + 2 * T(1, 1)


def test_neighbouring_equal_pieces_merge_into_one_run():
    assert Vector + Vector + 3 * Vector == 5 * Vector
    runs = (2 * Vector + Scalar + Vector)(SO(3)).runs
    assert [(run.start, run.stop, run.multiplicity) for run in runs] == [(0, 6, 2), (6, 7, 1), (7, 10, 1)]


def test_powers_are_repeated_products():
    assert Vector**0 == Scalar
    assert Vector**3 == T(3)
    assert (Scalar + Vector) ** 2 == Scalar + 2 * Vector + T(2)
    assert ((Scalar + Vector) ** 2)(SO(3)).size == 16
    assert T(1, 1) ** 2 == Vector * T(0, 1) * Vector * T(0, 1)


def test_nothing_of_a_piece_is_empty_and_adds_nothing():
    nothing = (0 * Vector)(O(3))
    g = O(3).sample(1, seed=8)[0]
    assert nothing.size == 0
    assert nothing.rho(g).shape == (0, 0)
    assert nothing.drho(g).shape == (0, 0)
    assert 0 * Vector + Scalar == Scalar
    assert 0 * Vector == 0 * Scalar


def test_an_empty_representation_acts_on_empty_numbers():
    assert (0 * Vector)(O(3)).apply(torch.eye(3), torch.zeros(4, 0)).shape == (4, 0)


def test_pseudoscalars_change_sign_under_reflections():
    bound = (PseudoScalar * Vector)(O(3))
    for g in O(3).sample(10, seed=9):
        close(PseudoScalar(O(3)).rho(g), torch.linalg.det(g).reshape(1, 1))
        close(bound.rho(g), torch.linalg.det(g) * g)


def test_pseudoscalars_of_rotations_are_scalars():
    assert PseudoScalar(SO(3)) == Scalar(SO(3))
    assert (Scalar + PseudoScalar * Vector)(SL(2)) == (Scalar + Vector)(SL(2))
    assert PseudoScalar(O(3)) != Scalar(O(3))


def test_duals_of_orthogonal_groups_are_numbers():
    assert T(1, 2)(D(4)) == T(3)(D(4))
    assert T(0, 1)(SL(2)) != Vector(SL(2))


def test_representations_are_equal_by_layout_and_group():
    same = Group(SO(3).lie_algebra, name="mine")
    assert Vector(SO(3)) == Vector(same)
    assert hash(Vector(SO(3))) == hash(Vector(same))
    assert Vector(SO(3)) != Vector(O(3))
    assert Vector(SO(3)) != Vector


def test_binding_twice_to_one_group_changes_nothing():
    rep = (Scalar + Vector)(SO(3))
    assert rep(SO(3)) == rep
    assert Scalar + Vector(SO(3)) == rep


def test_binding_to_another_group_is_refused():
    with pytest.raises(ValueError, match=r"Vector is bound to SO\(3\) already and cannot be bound to O\(3\)"):
        Vector(SO(3))(O(3))


@pytest.mark.parametrize(
    ("combine", "of_matrices"), [(lambda a, b: a + b, torch.block_diag), (lambda a, b: a * b, torch.kron)]
)
def test_representations_of_two_groups_combine_into_one_of_their_product(combine, of_matrices):
    left, right, group = PseudoScalar(O(3)) * Vector(O(3)), T(1, 1)(SL(2)), O(3) * SL(2)
    combined = combine(left, right)
    assert combined.group == group
    for g, h in zip(*group.sample(5, seed=9), strict=True):
        close(combined.rho((g, h)), of_matrices(left.rho(g), right.rho(h)))


@pytest.mark.parametrize("ask", [lambda: Vector.size, lambda: Vector.runs, lambda: Vector.bound_group])
def test_unbound_representations_have_no_size(ask):
    with pytest.raises(ValueError, match="Vector is not bound to a group yet"):
        ask()


def test_vectors_and_elements_of_another_size_are_refused():
    rep = (Scalar + Vector)(SO(3))
    with pytest.raises(ValueError, match=r"x has shape \(2, 3\), but Scalar \+ Vector of SO\(3\) has size 4"):
        rep.apply(torch.eye(3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"g must hold 3 x 3 matrices of SO\(3\), got shape \(2, 2\)"):
        rep.apply(torch.eye(2), torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: -1 * Vector, "multiplicity must not be negative, got -1"),
        (lambda: Vector**-1, "power must be a non-negative integer, got -1"),
        (lambda: Vector**0.5, "power must be a non-negative integer, got 0.5"),
        (lambda: T(-1), r"T\(p, q\) needs non-negative integers, got T\(-1, 0\)"),
        (lambda: T(1, 0.5), r"got T\(1, 0.5\)"),
    ],
)
def test_impossible_counts_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("other", [1.5, "Vector", None])
def test_only_representations_and_integers_combine(other):
    with pytest.raises(TypeError):
        Vector * other
    with pytest.raises(TypeError):
        Vector + other


def test_a_representation_iterates_over_its_terms():
    assert list(2 * Vector + Scalar) == [(2, (VECTOR,)), (1, ())]
    assert isinstance(Rep([(1, (DUAL,))]), Rep)


def test_representations_can_be_summed():
    assert sum([Vector, 2 * Scalar]) == Vector + 2 * Scalar
