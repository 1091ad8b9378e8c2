"""A function of every draw of a posterior: side by side, or in pieces of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.types import Params
from inference.memory import Cost
from inference.progress import QUIET_SECONDS, ProgressBar

Draws = Params | Tensor | tuple["Draws", ...]


def map_draws(
    function: Callable[..., Tensor], draws: Draws, *rows: Float[Tensor, "batch *each"]
) -> Float[Tensor, "draw *values"]:
    """``function(draw, *rows)`` of every draw, by ``torch.func.vmap``; a single draw takes none, since vmap costs time,
    and not every network allows it. The function is pure, and its value a tensor. ``draws`` is a tensor (draw, *shape),
    or a dict or a tuple of such; the rows, examples (batch, ...), are the same for every draw.
    """
    if count_draws(draws) == 1:
        return function(_apply(draws, lambda value: value.squeeze(0)), *rows)[None]
    result: Tensor = torch.func.vmap(function, in_dims=(0, *[None] * len(rows)))(draws, *rows)
    return result


@dataclass(frozen=True)
class Piece:
    """Some of the draws, and some of the rows: which they are, and the draws themselves."""

    draws: slice
    rows: slice
    params: Any

    def map(self, function: Callable[..., Tensor], *rows: Tensor) -> Float[Tensor, "draw *values"]:
        """The function of these draws, at rows that are given."""
        return map_draws(function, self.params, *rows)


def in_pieces(draws: Draws, blocks: Sequence[slice], cost: Cost, what: str) -> Iterator[Piece]:
    """Draws and rows, cut so that what costs so much fits in memory. A piece has rows of one of the ``blocks``. There
    is a bar of ``what`` where it takes long.
    """
    count, rows = count_draws(draws), sum(block.stop - block.start for block in blocks)
    with ProgressBar(total=count * rows, desc=what, unit="row", unit_scale=True, delay=QUIET_SECONDS) as bar:
        for some, of_rows in chain.from_iterable(cost.pieces(count, block) for block in blocks):
            yield Piece(some, of_rows, _apply(draws, itemgetter(some)))
            bar.update((some.stop - some.start) * (of_rows.stop - of_rows.start))


def assembled(
    values: Iterable[tuple[Piece, Float[Tensor, "some_draws some_rows *each"]]], draws: int, rows: int
) -> Float[Tensor, "draw batch *each"]:
    """The values of all pieces as one tensor, which is allocated once; a single piece is taken as it is."""
    result: Tensor | None = None
    for piece, value in values:
        if result is None:
            if value.shape[:2] == (draws, rows):
                return value
            result = value.new_empty((draws, rows, *value.shape[2:]))
        result[piece.draws, piece.rows] = value
    assert result is not None
    return result


def stacked(values: Iterable[Float[Tensor, "*each"]], count: int) -> Float[Tensor, "draw *each"]:
    """As many values, one after another, as one tensor, which is allocated once."""
    result: Tensor | None = None
    for index, value in enumerate(values):
        result = value.new_empty((count, *value.shape)) if result is None else result
        result[index] = value
    assert result is not None
    return result


def map_draws_in_pieces(function: Callable[..., Tensor], draws: Draws, what: str) -> Float[Tensor, "draw *values"]:
    """``map_draws`` of a function of the draws alone, as many of them together as fit in memory."""
    cost = Cost.measured(lambda: function(_apply(draws, itemgetter(0))))
    pieces = ((piece, piece.map(function)[:, None]) for piece in in_pieces(draws, [slice(0, 1)], cost, what))
    return assembled(pieces, count_draws(draws), 1).squeeze(1)


def count_draws(draws: Draws) -> int:
    """How many draws there are."""
    if isinstance(draws, Mapping):
        return len(next(iter(draws.values())))
    return len(draws) if isinstance(draws, Tensor) else count_draws(draws[0])


def _apply(draws: Draws, function: Callable[[Tensor], Tensor]) -> Any:
    """A function of every tensor of the draws."""
    if isinstance(draws, Mapping):
        return {name: function(value) for name, value in draws.items()}
    return function(draws) if isinstance(draws, Tensor) else tuple(_apply(each, function) for each in draws)
