"""One function of all draws: by vmap or without, whole or in pieces."""

import itertools

import pytest
import torch

from inference.posterior.map_draws import map_draws


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def outputs(draw, x, y):
    return draw["a"] * x + draw["b"].sum() * y


def calls_of(function, seen):
    def counted(draw, *rows):
        seen.append(tuple(map(len, rows)))
        return function(draw, *rows)

    return counted


def test_pieces_change_nothing_and_are_bounded():
    x, y = numbers(7, 3), numbers(7, 3, seed=1)
    for count, at_once in itertools.product((1, 2, 5), (None, 1, 3, 7, 20, 1000)):
        draws = {"a": numbers(count, seed=2), "b": numbers(count, 4, seed=3)}
        wanted = torch.stack([outputs({n: v[i] for n, v in draws.items()}, x, y) for i in range(count)])
        seen = []
        found = map_draws(calls_of(outputs, seen), draws, x, y, at_once=at_once)
        torch.testing.assert_close(found, wanted, rtol=1e-14, atol=0)
        last = map_draws(lambda *args: outputs(*args).mT, draws, x, y, at_once=at_once, dim=-1)
        torch.testing.assert_close(last, wanted.mT, rtol=1e-14, atol=0)
        rows = 7 if at_once is None else min(7, at_once)
        together = count if at_once is None else min(count, max(1, at_once // 7))
        assert max(lengths[0] for lengths in seen) == rows
        assert len(seen) == -(-7 // rows) * -(-count // together)


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
    draws = {"a": numbers(3), "b": numbers(3, 4)}
    assert map_draws(outputs, draws, numbers(0, 3), numbers(0, 3), at_once=10).shape == (3, 0, 3)
