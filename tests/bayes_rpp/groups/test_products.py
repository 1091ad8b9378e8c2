"""Direct products: elements, representations on factors, invariants, and the text that names them."""

import pytest
import torch

from bayes_rpp import (
    SL,
    SO,
    D,
    Group,
    O,
    PseudoScalar,
    S,
    Scalar,
    SO13p,
    Sp,
    T,
    Vector,
    Z,
    equivariant_basis,
    equivariant_maps,
    parse_group,
    parse_rep,
)
from tests.scenarios.bases import dense_null_space
from tests.scenarios.groups import elements
from tests.scenarios.numbers import numbers

MINE = Group(SO(2).lie_algebra, name="mine")
PAIR = SO(2) * SO(2)
TEXTS = [
    "Vector(SO(3)) * Vector(S(3)) -> Vector(SO(3)) * Vector(S(3)) + Scalar",
    "Vector(S(3)) + Vector(SO(3)) * Vector(S(3)) -> T(2)(SO(3))",
    "Vector(S(3)) * Vector(SO(3)) + 2*Vector(SO(3)) -> 2*Vector(SO(3)) * Vector(S(3))",
    "T(1,1)(SL(2)) * Vector(Z(3)) -> T(1,1)(SL(2)) + T(2)(Z(3)) + T(0,1)(SL(2)) * T(1)(SL(2))",
    "PseudoScalar(O(2)) * Vector(S(3)) -> T(2)(O(2)) * PseudoScalar(S(3)) * Vector(S(3)) + T(2)(O(2)) * Vector(S(3))",
    "PseudoScalar(D(4)) * PseudoScalar(S(3)) + Vector(D(4)) -> T(2)(D(4)) * T(2)(S(3)) + PseudoScalar(S(3))",
    "Vector(SO(2)) * Vector(D(3)) * Vector(Sp(1)) -> Vector(Sp(1)) * Vector(SO(2)) * Vector(D(3)) + Vector(D(3))",
    "Vector(SO13p) * Vector(Z(2)) -> T(0,1)(SO13p) * Vector(Z(2)) + Scalar",
    "Vector(S(3)) * Vector(Z(4)) -> T(2)(S(3)) + Scalar",
]


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def bound(text):
    """Both sides of an arrow, bound to the product of all groups that are named."""
    rep_in, rep_out = (parse_rep(part) for part in text.split("->"))
    group = (rep_in + rep_out).group
    return rep_in(group), rep_out(group)


CASES = [(text, *bound(text)) for text in TEXTS]


def literal_rho(rep, parts, of_factor):
    """The matrix by its definition: blocks of Kronecker products, each factor by its own group's matrix."""
    blocks = []
    for run in rep.runs:
        block = torch.ones(1, 1).double()
        for factor in run.piece:
            block = torch.kron(block, of_factor(factor, parts[factor.slot]))
        blocks += [block] * run.multiplicity
    return torch.block_diag(*blocks)


def matrix_of(factor, g):
    if factor.is_sign:
        return torch.linalg.det(g).sign().reshape(1, 1)
    return torch.linalg.inv(g).mT if factor.is_dual else g


def test_bases_span_the_null_space_of_the_dense_constraints(subtests):
    for text, rep_in, rep_out in CASES:
        with subtests.test(msg=text):
            basis, expected = equivariant_maps(rep_in, rep_out), dense_null_space(rep_in, rep_out)
            q = basis.dense()
            assert basis.rank == expected.shape[1]
            close(q.mT @ q, torch.eye(basis.rank).double())
            close(q @ q.mT, expected @ expected.mT, 1e-9)


def test_elements_are_tuples_and_act_by_kronecker_products(subtests):
    for text, rep_in, rep_out in CASES:
        with subtests.test(msg=text):
            group = rep_in.bound_group
            for g in elements(group, 4, seed=0):
                for rep in (rep_in, rep_out):
                    close(rep.rho(g), literal_rho(rep, g, matrix_of))
                    close(rep.rho(group.join(g)), rep.rho(g))


def test_maps_commute_with_sampled_elements(subtests):
    for text, rep_in, rep_out in CASES:
        with subtests.test(msg=text):
            maps = equivariant_maps(rep_in, rep_out).dense().mT.reshape(-1, rep_out.size, rep_in.size)
            for g in elements(rep_in.bound_group, 4, seed=1):
                rho = rep_out.rho(g)
                close(rho @ maps, maps @ rep_in.rho(g), 1e-9 * max(1.0, float(rho.abs().max()) ** 2))


def test_apply_takes_tuples_for_one_or_for_every_vector(subtests):
    for text, rep_in, rep_out in CASES:
        with subtests.test(msg=text):
            for rep in (rep_in, rep_out):
                g = rep.bound_group.sample(5, seed=2)
                x = numbers(5, rep.size)
                dense = [rep.rho(one) for one in zip(*g, strict=True)]
                close(rep.apply(g, x), torch.stack([rho @ v for rho, v in zip(dense, x, strict=True)]))
                close(rep.apply([part[0] for part in g], x), x @ dense[0].mT)
                assert rep.apply(g, x.float()).dtype == torch.float32


def test_drho_is_the_derivative_of_rho(subtests):
    for text, rep_in, rep_out in CASES:
        with subtests.test(msg=text):
            group = rep_in.bound_group
            for a in group.lie_algebra:
                step = 1e-6
                for rep in (rep_in, rep_out):
                    forward, backward = (rep.rho(torch.linalg.matrix_exp(t * a)) for t in (step, -step))
                    close(rep.drho(a), (forward - backward) / (2 * step), 1e-8)


def test_text_reads_back(subtests):
    for text, rep_in, rep_out in CASES:
        with subtests.test(msg=text):
            for rep in (rep_in, rep_out):
                assert parse_rep(str(rep))(rep.bound_group) == rep
            group = rep_in.bound_group
            assert parse_group(str(group)) == group
            assert str(group) == " * ".join(str(part) for part in group.factors)


def test_samples_are_one_stack_for_each_factor():
    rotations, permutations, boosts = (SO(3) * S(4) * SO13p()).sample(6, seed=0)
    assert (rotations.shape, permutations.shape, boosts.shape) == ((6, 3, 3), (6, 4, 4), (6, 4, 4))
    close(rotations @ rotations.mT, torch.eye(3).double().expand(6, 3, 3))
    assert set(permutations.unique().tolist()) == {0.0, 1.0}
    assert rotations.dtype == torch.float64


def test_products_are_flat_and_keep_their_order():
    group = (SO(3) * S(4)) * (Z(2) * O(2))
    assert group.factors == (SO(3), S(4), Z(2), O(2))
    assert group.d == 3 + 4 + 2 + 2
    assert group == SO(3) * S(4) * Z(2) * O(2)
    assert group != S(4) * SO(3) * Z(2) * O(2)
    assert SO(3) * Group(S(4).lie_algebra, S(4).generators, name="mine") == SO(3) * S(4)
    assert hash(SO(3) * S(4)) == hash(SO(3) * S(4))


def test_a_product_is_not_the_group_of_its_block_diagonal_matrices():
    product = SO(3) * S(3)
    assert Group(product.lie_algebra, product.generators) != product


def test_sums_over_different_factors_live_on_the_product():
    rep = Vector(S(5)) + Vector(SO(3)) * Vector(S(5)) + 0 * Vector(SO(3)) + 2 * Scalar
    assert rep.size == 5 + 15 + 2
    assert set(rep.bound_group.factors) == {S(5), SO(3)}
    assert equivariant_maps(rep, T(2)(SO(3))).rank == 1 + 1 + 2


def test_a_representation_of_one_factor_is_lifted():
    group = SO(3) * S(5)
    assert T(2)(SO(3))(group) == parse_rep("T(2)(SO(3))")(group)
    assert Scalar(group) == (0 * Vector)(group) + Scalar
    assert equivariant_maps(Vector(SO(3)), (Vector(SO(3)) * Vector(S(5)))).rank == 1
    assert equivariant_basis((Vector(S(5)) + 3 * Vector(SO(3)))(group)).rank == 1
    assert Vector(S(5)).dual(group) == Vector(S(5))(group)


@pytest.mark.parametrize("order", ["Vector(SO(3)) + Vector(S(5))", "Vector(S(5)) + Vector(SO(3))"])
def test_one_order_of_factors_is_lifted_to_the_other(order):
    rep = parse_rep(order)
    for group in (SO(3) * S(5), S(5) * SO(3)):
        g = group.sample(1, seed=0)
        parts = {part.d: g[slot][0] for slot, part in enumerate(group.factors)}
        sizes = [run.piece_size for run in rep.runs]
        close(rep(group).rho([part[0] for part in g]), torch.block_diag(*[parts[size] for size in sizes]))


def test_nothing_of_a_product_is_empty():
    nothing = 0 * Vector(SO(3)) * Vector(S(5))
    assert nothing.size == 0
    assert equivariant_maps(nothing, Vector(SO(3))).rank == 0
    assert nothing.apply(nothing.bound_group.sample(3, seed=0), torch.zeros(3, 0)).shape == (3, 0)


def test_slots_tell_equal_factors_apart():
    first, second = Vector.on(PAIR, 0), Vector.on(PAIR, 1)
    assert first != second
    assert equivariant_maps(first, first).rank == 2
    assert equivariant_maps(first, second).rank == 0
    assert equivariant_maps(first * second, second * first).rank == 4
    rep = first * second + second * first + (Vector + T(2)).on(PAIR, 1)
    expected = dense_null_space(rep, rep)
    q = equivariant_maps(rep, rep).dense()
    close(q @ q.mT, expected @ expected.mT)
    g, h = (part[0] for part in PAIR.sample(1, seed=3))
    close(rep.rho((g, h)), torch.block_diag(torch.kron(g, h), torch.kron(h, g), h, torch.kron(h, h)))


def test_products_with_a_slot_take_further_factors():
    rep = Vector.on(PAIR, 1) * Vector(S(3))
    assert rep.bound_group == SO(2) * SO(2) * S(3)
    assert rep.size == 6


MESSAGES = [
    (lambda: Vector(SO(3) * S(5)), r"Vector does not say on which factor of SO\(3\) \* S\(5\) it lives: write"),
    (lambda: (Scalar + Vector)(SO(3) * S(5)), r"\(Scalar \+ Vector\)\(SO\(3\)\) or \(Scalar \+ Vector\)\(S\(5\)\)"),
    (lambda: Vector(SO(3))(O(3) * S(5)), r"Vector is bound to SO\(3\) already and cannot be bound to O\(3\) \* S"),
    (lambda: Vector(SO(2))(PAIR), r"SO\(2\) \* SO\(2\) has the factor SO\(2\) more than once: .* rep\.on\(group,"),
    (lambda: Vector.on(PAIR, 2), r"SO\(2\) \* SO\(2\) has 2 factors, so there is no slot 2"),
    (lambda: Vector.on(PAIR, -1), r"there is no slot -1"),
    (lambda: Vector(SO(3)).on(PAIR, 0), r"Vector is bound to SO\(3\) already and cannot be bound to SO\(2\)"),
    (lambda: equivariant_maps(Vector(SO(3)), Vector(SO(2))(SO(2) * S(3))), r"must share a group"),
    (lambda: equivariant_maps(Vector(Z(3))(Z(3) * S(2)), Vector(SO(2))(SO(2) * S(3))), r"must share a group"),
    (lambda: (SO(3) * S(5)).join([torch.eye(3)]), r"an element of SO\(3\) \* S\(5\) is one matrix for each factor"),
    (lambda: (SO(3) * S(5)).join([torch.eye(5), torch.eye(3)]), r"got shapes \[\(5, 5\), \(3, 3\)\]"),
    (lambda: Vector(SO(3)).rho([torch.eye(3), torch.eye(3)]), r"g must hold 3 x 3 matrices of SO\(3\)"),
    (lambda: Vector(SO(3))(SO(3) * S(5)).rho(torch.eye(3)), r"must hold 8 x 8 matrices of SO\(3\) \* S\(5\)"),
    (lambda: parse_rep("Vector(SO(3) * S(5))"), r"does not say on which factor"),
    (lambda: parse_group("SO(3) * Q(5)"), r"unknown group 'Q'"),
    (lambda: parse_group("SO(3) *"), r"expected a name here"),
    (lambda: (SO(3) * S(5)).sample(0, seed=0), r"count must be at least 1"),
]


def test_messages_say_what_would_be_right(subtests):
    for build, message in MESSAGES:
        with subtests.test(msg=message), pytest.raises(ValueError, match=message):
            build()


@pytest.mark.parametrize("other", [3, "S(5)", None])
def test_only_groups_multiply(other):
    with pytest.raises(TypeError):
        SO(3) * other


def test_pseudoscalars_of_two_factors_are_two():
    group = O(2) * D(3)
    one, two = PseudoScalar(O(2))(group), PseudoScalar(D(3))(group)
    assert one != two
    assert one * two != Scalar(group)
    assert (one * two) * (two * one) == Scalar(group)
    assert equivariant_maps(one, two).rank == 0
    assert equivariant_maps(one * two, two * one).rank == 1


def test_a_users_group_is_a_factor_like_any_other():
    rep = Vector(MINE) * Vector(S(3))
    assert rep.size == 6
    assert equivariant_maps(rep, rep).rank == 2 * 2
    assert str(rep.group) == "mine * S(3)"
    assert Sp(1) * SL(2) != SL(2) * Sp(1)
