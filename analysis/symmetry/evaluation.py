"""A function at points, under every draw of a posterior, in pieces of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from analysis.symmetry.binding import Function
from bayes_rpp.stateless import StatelessNetwork
from bayes_rpp.types import Params
from inference import Posterior
from inference.memory import Cost
from inference.posterior.map_draws import Piece, in_pieces
from inference.posterior.predictive import input_for, output_cost


class Evaluation:
    """f at points x: of a posterior the network under every draw; a function counts as a single draw. A module is
    evaluated in evaluation mode.

    Attributes
    ----------
    x : the points, in the type that f takes.
    shape : the leading dimensions of f's values, (chain, draw) or none.
    draws : the number of draws.
    """

    def __init__(self, f: Posterior | Function, x: Float[Tensor, "batch size_in"]) -> None:
        self.function: Callable[[Params, Tensor], Tensor]
        if isinstance(f, Posterior):
            model, params = f.bayesian_model, f.flat_samples
            model.check_inputs(x)
            self.function, self._params, self.x = model.output, params, input_for(model, params, x)
            self.shape: tuple[int, ...] = (f.chains, f.draws)
            self._cost = output_cost(model, params, self.x)
        else:
            function = StatelessNetwork(f).module if isinstance(f, nn.Module) else f
            self.function, self._params, self.x = lambda _, points: function(points), {"": torch.empty(1, 0)}, x
            self.shape, self._cost = (), Cost.measured(torch.no_grad()(function), x)
        self.draws = len(next(iter(self._params.values())))

    def pieces(self, what: str, blocks: Sequence[slice] | None = None) -> Iterator[Piece]:
        """The draws and the points, cut so that f's values and their norms fit in memory."""
        yield from in_pieces(self._params, blocks or [slice(0, len(self.x))], self._cost, what)

    @torch.no_grad()
    def values(self, piece: Piece, x: Float[Tensor, "some size_in"]) -> Float[Tensor, "draw some size_out"]:
        """f of some draws at some points, or at their images."""
        return piece.map(self.function, x)

    @torch.no_grad()
    def measured(
        self, piece: Piece, measure: Callable[..., Tensor], *rows: Tensor
    ) -> Float[Tensor, "draw *values some"]:
        """``measure(f, x, *rows)`` of some draws at the points of the piece."""

        def of_draw(params: Params, *some: Tensor) -> Tensor:
            return measure(lambda points: self.function(params, points), *some)

        return piece.map(of_draw, self.x[piece.rows], *rows)

    def by_chain(self, values: Float[Tensor, "draw *values"]) -> Float[Tensor, "*shape *values"]:
        """Values of all draws, by chain and draw for a posterior."""
        return values.reshape((*self.shape, *values.shape[1:]))


class PointSums:
    """Sums over points of what is measured in pieces, in float64, for every draw."""

    def __init__(self, draws: int) -> None:
        self.draws, self.total = draws, torch.zeros(())

    def add(self, draws: slice, sums: Float[Tensor, "*values draw"]) -> None:
        """Take in the sums of some draws over some points."""
        if not self.total.ndim:
            self.total = torch.zeros(*sums.shape[:-1], self.draws, dtype=torch.float64)
        self.total[..., draws] += sums
