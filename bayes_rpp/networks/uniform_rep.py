"""Allocating hidden channels over tensor ranks."""

from __future__ import annotations

import math
import operator
from functools import reduce

from bayes_rpp.groups.group import Group
from bayes_rpp.positive_integer import positive_integer
from bayes_rpp.representations.rep import Rep, Scalar, T, Vector


def uniform_rep(channels: int, group: Group) -> Rep:
    """Spread channels over tensor ranks so that each rank gets about the same number, low ranks first.

    As long as channels are left, take the largest rank R with (R + 1) d^R <= channels left and add d^(R-r) tensors of
    every rank r <= R (Finzi, Welling & Wilson, 2021, section 6.3). Where vectors and duals differ, the tensors of
    rank r are shared among T(p, r - p) in proportion to the binomial coefficients; a remainder goes to the types in
    the order of the largest unmet share, so that the result is always the same.

    For a direct product, up to a quarter of the channels go to products of one vector of each factor, up to a quarter
    to such products with one of the vectors twice; the rest is shared equally among the factors, each with pieces of
    its own by the rule above.

    Parameters
    ----------
    channels : the size of the result.
    group : the group to bind it to.

    Raises
    ------
    ValueError
        If channels is not a positive integer.

    Examples
    --------
    >>> uniform_rep(384, SO(3))
    102*Scalar + 34*Vector + 11*T(2) + 3*T(3)
    """
    channels = positive_integer(channels, "channels")
    if len(group.factors) > 1:
        return _product_rep(channels, group)
    if group.d == 1:
        return channels * Scalar(group)
    counts: dict[int, int] = {}
    left = channels
    while left:
        top = 0
        while (top + 2) * group.d ** (top + 1) <= left:
            top += 1
        for rank in range(top + 1):
            counts[rank] = counts.get(rank, 0) + group.d ** (top - rank)
        left -= (top + 1) * group.d**top
    share = _binomial_share if not group.is_orthogonal else lambda count, rank: count * T(rank)
    return sum((share(count, rank) for rank, count in sorted(counts.items())), 0 * Scalar)(group)


def _product_rep(channels: int, group: Group) -> Rep:
    """Without products in which one vector occurs twice, bilinear layers could not multiply vectors of two factors."""
    slots = range(len(group.factors))
    vectors = [Vector.on(group, slot) for slot in slots]
    once = reduce(operator.mul, vectors)
    result = (channels // 4 // once.size) * once
    for slot in slots:
        twice = once * vectors[slot]
        result = result + (channels // 4 // len(slots) // twice.size) * twice
    own = (channels - result.size) // len(slots)
    alone = [Rep(uniform_rep(own, part).given_terms).on(group, k) for k, part in enumerate(group.factors) if own]
    result = reduce(operator.add, [*alone, result])
    return (channels - result.size) * Scalar(group) + result


def _binomial_share(count: int, rank: int) -> Rep:
    """Share ``count`` tensors among T(rank - q, q), q = 0..rank, by largest remainders."""
    exact = [count * math.comb(rank, q) / 2**rank for q in range(rank + 1)]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(rank + 1), key=lambda q: (shares[q] - exact[q], q))
    for q in by_remainder[: count - sum(shares)]:
        shares[q] += 1
    return sum((share * T(rank - q, q) for q, share in enumerate(shares)), 0 * Scalar)
