"""Channels spread over tensor ranks."""

import math

import pytest

from bayes_rpp import SL, SO, D, Group, O, O2eR3, PseudoScalar, S, Scalar, T, Trivial, Vector, Z, parse_rep, uniform_rep
from bayes_rpp.representations.factors import DUAL, SIGN, VECTOR

GROUPS = [Trivial(3), Z(4), S(4), D(4), SO(2), SO(3), O(3), SL(2), SL(3), O2eR3(), O(1)]


ALLOCATIONS = [
    (O(3), 384, "102*Scalar + 34*Vector + 11*T(2) + 3*T(3)"),
    (SO(3), 64, "25*Scalar + 7*Vector + 2*T(2)"),
    (D(4), 64, "16*Scalar + 8*T(1) + 4*T(2) + 2*T(3)"),
    (S(5), 384, "134*Scalar + 25*T(1) + 5*T(2)"),
    (S(5), 128, "53*Scalar + 10*T(1) + T(2)"),
    (O2eR3(), 128, "38*Scalar + 12*T(1) + 3*T(2) + T(3)"),
    (SL(3), 64, "25*Scalar + 4*T(1) + 3*T(0,1) + T(2) + T(1,1)"),
    (O(1), 7, "7*Scalar"),
    (SO(3), 1, "Scalar"),
]


def test_known_allocations(subtests):
    for group, channels, expected in ALLOCATIONS:
        with subtests.test(msg=f"{channels} channels of {group}"):
            assert uniform_rep(channels, group) == parse_rep(expected)(group)


def test_the_size_is_the_number_of_channels(subtests):
    for group in GROUPS:
        with subtests.test(msg=str(group)):
            for channels in [*range(1, 130), 384]:
                rep = uniform_rep(channels, group)
                assert rep.size == channels
                assert rep.group == group


def counts_by_rank(rep):
    counts = {}
    for count, piece in rep:
        counts[len(piece)] = counts.get(len(piece), 0) + count
    return counts


def test_ranks_are_filled_greedily_with_equal_channels_for_every_rank(subtests):
    """A literal run of the rule, one block of ranks at a time."""
    for channels in [10, 64, 129, 384]:
        for d in [2, 3]:
            with subtests.test(msg=f"{channels} channels in R^{d}"):
                expected, left = {}, channels
                while left > 0:
                    top = max(r for r in range(10) if (r + 1) * d**r <= left)
                    for rank in range(top + 1):
                        expected[rank] = expected.get(rank, 0) + d ** (top - rank)
                        left -= d**top
                for group in (SO(d), SL(d)):
                    assert counts_by_rank(uniform_rep(channels, group)) == expected


@pytest.mark.parametrize("channels", [64, 129, 384])
def test_types_of_one_rank_share_by_binomial_coefficients(channels):
    rep = uniform_rep(channels, SL(3))
    totals = counts_by_rank(rep)
    for count, piece in rep:
        rank, duals = len(piece), piece.count(DUAL)
        assert piece == (VECTOR,) * (rank - duals) + (DUAL,) * duals
        assert abs(count - totals[rank] * math.comb(rank, duals) / 2**rank) < 1


def test_the_allocation_is_always_the_same_and_starts_with_low_ranks():
    first = uniform_rep(384, SL(3))
    assert uniform_rep(384, Group(SL(3).lie_algebra, name="mine")) == first
    ranks = [len(piece) for _, piece in first]
    assert ranks == sorted(ranks)
    assert first(SL(3)).terms[:3] == (102 * Scalar + 17 * Vector + 17 * T(0, 1)).terms


def test_pseudoscalars_are_never_chosen():
    assert all(SIGN not in piece for _, piece in uniform_rep(384, O(3)))
    assert PseudoScalar(O(3)) != uniform_rep(1, O(3))


@pytest.mark.parametrize("channels", [0, -3, 2.5, "64"])
def test_other_numbers_of_channels_are_refused(channels):
    with pytest.raises(ValueError, match="channels must be a positive integer"):
        uniform_rep(channels, SO(3))
