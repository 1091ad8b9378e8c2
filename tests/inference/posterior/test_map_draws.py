"""One function of all draws: by vmap or without, whole or in pieces."""

import itertools

import pytest
import torch

from inference import memory
from inference.memory import Cost
from inference.posterior.map_draws import assembled, in_pieces, map_draws


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def outputs(draw, x, y):
    return draw["a"] * x + draw["b"].sum() * y


@pytest.mark.parametrize("blocks", [[slice(0, 7)], [slice(0, 3), slice(3, 7)]])
def test_pieces_are_bounded_and_change_nothing(monkeypatch, blocks):
    """Whatever the budget: every draw and row once, rows before draws, and no piece above it that could be smaller."""
    x, y = numbers(7, 3), numbers(7, 3, seed=1)
    for count, cost, budget in itertools.product((1, 2, 5), (Cost(0, 1), Cost(10, 3)), (1, 3, 13, 31, 70, 1000)):
        monkeypatch.setattr(memory, "AT_ONCE", budget)
        draws = {"a": numbers(count, seed=2), "b": numbers(count, 4, seed=3)}
        wanted = torch.stack([outputs({n: v[i] for n, v in draws.items()}, x, y) for i in range(count)])
        pieces = list(in_pieces(draws, blocks, cost, "pieces"))
        values = ((piece, piece.map(outputs, x[piece.rows], y[piece.rows])) for piece in pieces)
        torch.testing.assert_close(assembled(values, count, 7), wanted, rtol=1e-14, atol=0)
        sizes = [(p.draws.stop - p.draws.start, p.rows.stop - p.rows.start) for p in pieces]
        assert sum(some * rows for some, rows in sizes) == 7 * count
        assert all(some * (cost.draw + rows * cost.row) <= budget or (some, rows) == (1, 1) for some, rows in sizes)
        assert all(any(b.start <= p.rows.start and p.rows.stop <= b.stop for b in blocks) for p in pieces)
        if cost.draw + 7 * cost.row <= budget:
            assert {p.rows.start for p in pieces} == {b.start for b in blocks}


def test_the_cost_counts_what_is_made_and_no_views():
    """One matrix product of float64: (rows, 5), and what is made of it; its weights are expanded once a draw."""
    weight, x = numbers(3, 5), numbers(10, 3)

    def function(rows):
        return (rows @ (2 * weight)).unflatten(1, (5, 1)).squeeze(2).mT.mT

    row = 5 * 8
    assert Cost.measured(function, x) == Cost(weight.nbytes, row * (1 + memory._COPIES))
    assert Cost.measured(function, x[:0]) == Cost(0)
    assert Cost.measured(lambda: 2 * weight) == Cost(weight.nbytes * (1 + memory._COPIES))
    made = []

    def makes_something_once(rows):
        made.append(numbers(1000) if not made else None)
        return function(rows)

    assert Cost.measured(makes_something_once, x) == Cost.measured(function, x)
    in_place = Cost.measured(lambda rows: function(rows).add_(1).mul_(2), x)
    assert in_place == Cost.measured(function, x)


def test_the_cost_is_the_same_whatever_the_memory_looked_like_before():
    def function(rows):
        for _ in range(50):
            rows = (rows @ numbers(3, 3)).tanh() + rows.exp().clamp(max=1.0)
        return rows

    found, junk = set(), []
    for turn in range(8):
        junk.append([torch.empty(17 * turn + size) for size in range(50)][turn::2])
        found.add(Cost.measured(function, numbers(10, 3)))
    assert len(found) == 1


def test_one_draw_takes_no_vmap_and_several_have_their_own_rows():
    def refuses_vmap(draw):
        return draw[0] * float(draw[1].sum())  # a number is no tensor that vmap could follow

    draws = numbers(1, 3), numbers(1, 2, seed=1)
    torch.testing.assert_close(map_draws(refuses_vmap, draws), draws[0] * draws[1].sum())
    with pytest.raises(RuntimeError, match="vmap"):
        map_draws(refuses_vmap, (numbers(2, 3), numbers(2, 2)))
    several = numbers(4, 3), numbers(4, 2, seed=1)
    wanted = several[0] * several[1].sum(1, keepdim=True)
    torch.testing.assert_close(map_draws(lambda draw: draw[0] * draw[1].sum(), several), wanted)


def test_no_rows_give_no_values():
    draws, x = {"a": numbers(3), "b": numbers(3, 4)}, numbers(0, 3)
    pieces = in_pieces(draws, [slice(0, 0)], Cost(0), "nothing")
    assert assembled(((piece, piece.map(outputs, x, x)) for piece in pieces), 3, 0).shape == (3, 0, 3)
