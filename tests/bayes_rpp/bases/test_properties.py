"""What holds for the bases of all representations: random sums and products over several groups."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_rpp import (
    O13,
    SL,
    SO,
    SO13,
    D,
    DkeR3,
    Group,
    O,
    O2eR3,
    PseudoScalar,
    S,
    Scalar,
    SO2eR3,
    SO13p,
    Sp,
    T,
    Trivial,
    Vector,
    Z,
    equivariant_basis,
    equivariant_maps,
)
from tests.scenarios.groups import A4, QUARTER_TURNS
from tests.scenarios.numbers import numbers

PAIR = SO(2) * SO(2)
GROUPS = [SO(3), O(3), SO(2), SL(2), Sp(1), SO13(), D(3), D(4), S(3), Z(4), O2eR3(), DkeR3(3), Trivial(2)]
GROUPS += [SO(2) * S(3), O(2) * Z(2), SL(2) * D(4), PAIR]
# Each group has the next one as a subgroup, on the same coordinates.
CHAINS = [
    [SL(3), SO(3), SO2eR3(), Trivial(3)],
    [O(3), O2eR3(), DkeR3(4), DkeR3(2), Trivial(3)],
    [O(3), SO(3), SO2eR3()],
    [S(4), A4, Trivial(4)],
    [S(4), Z(4), Trivial(4)],
    [O13(), SO13(), SO13p(), Trivial(4)],
    [SL(4), Sp(2), Trivial(4)],
    [O(2), D(4), QUARTER_TURNS, Trivial(2)],
    [O(2), D(6), D(3)],
]
reproducible = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def atoms(group):
    """Small tensors on every factor of the group, bound to the whole group."""
    kinds = [Vector, T(2), T(1, 1), T(0, 1), PseudoScalar, PseudoScalar * Vector]
    found = [Scalar(group), *(kind.on(group, slot) for slot in range(len(group.factors)) for kind in kinds)]
    if len(group.factors) > 1:
        found.append(Vector.on(group, 0) * Vector.on(group, 1))
    return found


@st.composite
def pairs_of_sums(draw):
    """Two representations of one group, as lists of summands."""
    group = draw(st.sampled_from(GROUPS))
    summands = st.tuples(st.integers(1, 2), st.sampled_from(atoms(group)))
    return draw(st.lists(summands, min_size=1, max_size=3)), draw(st.lists(summands, min_size=1, max_size=3))


def direct_sum(summands):
    return sum((count * rep for count, rep in summands[1:]), start=summands[0][0] * summands[0][1])


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def projector(basis):
    q = basis.dense()
    return q @ q.mT


@reproducible
@given(pairs_of_sums())
def test_every_expansion_is_equivariant(summands):
    rep_in, rep_out = map(direct_sum, summands)
    basis, group = equivariant_maps(rep_in, rep_out), rep_in.bound_group
    weight = basis.expand(numbers(basis.rank)).reshape(rep_out.size, rep_in.size)
    for g in group.join(group.sample(3, seed=0)):
        tolerance = 1e-10 * max(1.0, float(g.abs().max())) ** 4
        close(rep_out.rho(g) @ weight, weight @ rep_in.rho(g), tolerance)


@reproducible
@given(pairs_of_sums())
def test_projections_are_orthogonal_and_leave_equivariant_maps_alone(summands):
    basis = equivariant_maps(*map(direct_sum, summands))
    v, w = numbers(2, basis.size)
    projected = basis.project(v)
    close(basis.project(projected), projected)
    close(w @ projected, basis.project(w) @ v)
    close((v - projected) @ projected, torch.zeros(()).double(), 1e-9)
    beta = numbers(basis.rank)
    close(basis.project(basis.expand(beta)), basis.expand(beta))
    close(basis.expand(beta).norm(), beta.norm())


@reproducible
@given(pairs_of_sums(), st.randoms(use_true_random=False))
def test_summands_may_come_in_any_order(summands, random):
    places, shuffled = [], []
    for side in summands:
        sizes = [count * rep.size for count, rep in side]
        starts = np.cumsum([0, *sizes])
        order = list(range(len(side)))
        random.shuffle(order)
        places.append(np.concatenate([np.arange(starts[k], starts[k + 1]) for k in order]))
        shuffled.append([side[k] for k in order])
    (columns, rows), width = places, direct_sum(summands[0]).size
    expected = projector(equivariant_maps(*map(direct_sum, summands)))
    index = torch.from_numpy((rows[:, None] * width + columns).reshape(-1))
    close(projector(equivariant_maps(*map(direct_sum, shuffled))), expected[index][:, index])


@reproducible
@given(pairs_of_sums())
def test_transposed_maps_are_maps_of_the_duals(summands):
    rep_in, rep_out = map(direct_sum, summands)
    forward, backward = equivariant_maps(rep_in, rep_out), equivariant_maps(rep_out.dual, rep_in.dual)
    transposed = forward.dense().reshape(rep_out.size, rep_in.size, -1).transpose(0, 1).reshape(forward.size, -1)
    close(projector(backward), transposed @ transposed.mT)


@reproducible
@given(pairs_of_sums())
def test_maps_are_the_invariants_of_the_tensor_product(summands):
    rep_in, rep_out = map(direct_sum, summands)
    assert equivariant_maps(rep_in, rep_out).rank == equivariant_basis(rep_out * rep_in.dual).rank


@st.composite
def pairs_of_one_type(draw):
    """Two unbound representations and a chain of groups on one space."""
    chain = draw(st.sampled_from(CHAINS))
    kinds = [Scalar, Vector, PseudoScalar, T(0, 1), T(2), T(1, 1), PseudoScalar * Vector]
    sides = [draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=2)) for _ in range(2)]
    rep_in, rep_out = (sum(side[1:], start=side[0]) for side in sides)
    return chain, rep_in, rep_out


@reproducible
@given(pairs_of_one_type())
def test_a_subgroup_has_the_maps_of_the_group_and_more(case):
    chain, rep_in, rep_out = case
    bases = [equivariant_maps(rep_in(group), rep_out(group)) for group in chain]
    for larger, smaller in pairwise(bases):
        assert larger.rank <= smaller.rank
        q = larger.dense()
        close(smaller.project(q.mT), q.mT, 1e-9)


def test_chains_are_strict_somewhere():
    """The negative control: there are more maps for the smaller group, and they are no maps of the larger one."""
    for chain in CHAINS:
        reps = [(Vector + T(2))(group) for group in chain]
        ranks = [equivariant_maps(rep, rep).rank for rep in reps]
        assert ranks[0] < ranks[-1]
    plane = equivariant_maps(Vector(SO2eR3()), Vector(SO2eR3())).dense().mT
    whole = equivariant_maps(Vector(SO(3)), Vector(SO(3)))
    assert (whole.project(plane) - plane).abs().max() > 0.1


@reproducible
@given(st.sampled_from([SO(3), O(3), SL(2), SO13(), D(4), S(4), DkeR3(3)]), st.randoms(use_true_random=False))
def test_neither_the_order_of_generators_nor_their_number_nor_the_name_matters(group, random):
    algebra, generators = list(group.lie_algebra), list(group.generators)
    if len(algebra) > 1:
        algebra.append(random.uniform(0.5, 2.0) * algebra[0] - algebra[1])
    if generators:
        generators.append(generators[0] @ generators[-1])
        generators.append(torch.linalg.inv(generators[-1]))
    random.shuffle(algebra)
    random.shuffle(generators)
    other = Group(algebra or None, generators or None, name="another")
    for rep_in, rep_out in [(Vector + Scalar, T(2)), (T(1, 1), PseudoScalar * T(2) + Scalar)]:
        expected = projector(equivariant_maps(rep_in(group), rep_out(group)))
        close(projector(equivariant_maps(rep_in(other), rep_out(other))), expected, 1e-9)


@pytest.mark.parametrize("group", [SO(3), O(3), SL(2), D(4), S(3), SO13()], ids=str)
def test_groups_that_differ_by_name_alone_share_their_bases_and_others_do_not(group):
    renamed = Group(group.lie_algebra, group.generators, name="SO(3) * S(5)")
    assert equivariant_basis(T(2)(renamed)) is equivariant_basis(T(2)(group))
    impostor = Group(generators=-torch.eye(group.d)[None], name=group.name)
    assert equivariant_maps(Vector(impostor), Vector(impostor)).rank == group.d**2


@pytest.mark.parametrize("power", range(1, 5))
def test_ranks_of_powers_follow_from_those_of_the_factors(power):
    group = SO(3) * S(4)
    vectors = [Vector.on(group, slot) for slot in (0, 1)]
    ranks = [[equivariant_basis(T(k)(part)).rank for k in range(power + 1)] for part in group.factors]
    assert equivariant_basis((vectors[0] * vectors[1]) ** power).rank == ranks[0][power] * ranks[1][power]
    expected = sum(math.comb(power, k) * ranks[0][k] * ranks[1][power - k] for k in range(power + 1))
    assert equivariant_basis((vectors[0] + vectors[1]) ** power).rank == expected
