"""A function of every draw of a posterior, side by side and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.types import Params

Draws = Params | Tensor | tuple["Draws", ...]


def map_draws(
    function: Callable[..., Tensor],
    draws: Draws,
    *rows: Float[Tensor, "batch *each"],
    at_once: int | None = None,
    dim: int = 0,
) -> Float[Tensor, "draw *values"]:
    """``function(draw, *rows)`` of every draw, by ``torch.func.vmap``; a single draw takes none, since vmap costs time,
    and not every network allows it. The function is pure, and its value a tensor. ``draws`` is a tensor (draw, *shape),
    or a dict or a tuple of such; the rows, examples (batch, ...), are the same for every draw. No more than ``at_once``
    evaluations of a row, for some draws and some rows, are made together (None: all are); it needs ``dim``, along which
    the rows are in the function's value.
    """
    if at_once is None:
        return _together(function, draws, rows)
    count, together = _count(draws), max(1, at_once // max(1, len(rows[0])))
    columns = []
    for some in zip(*(each.split(at_once) for each in rows), strict=True):
        pieces = [
            _together(function, _apply(draws, itemgetter(slice(at, at + together))), some)
            for at in range(0, count, together)
        ]
        columns.append(torch.cat(pieces))
    return torch.cat(columns, dim=dim + 1 if dim >= 0 else dim)


def _together(function: Callable[..., Tensor], draws: Draws, rows: tuple[Tensor, ...]) -> Tensor:
    if _count(draws) == 1:
        return function(_apply(draws, lambda value: value.squeeze(0)), *rows)[None]
    result: Tensor = torch.func.vmap(function, in_dims=(0, *[None] * len(rows)))(draws, *rows)
    return result


def _apply(draws: Draws, function: Callable[[Tensor], Tensor]) -> Any:
    """A function of every tensor of the draws."""
    if isinstance(draws, Mapping):
        return {name: function(value) for name, value in draws.items()}
    return function(draws) if isinstance(draws, Tensor) else tuple(_apply(each, function) for each in draws)


def _count(draws: Draws) -> int:
    if isinstance(draws, Mapping):
        return len(next(iter(draws.values())))
    return len(draws) if isinstance(draws, Tensor) else _count(draws[0])
