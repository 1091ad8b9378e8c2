"""A bilinear layer of low rank: few combinations of the copies of each piece are multiplied."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.networks.descriptions import mapping_text, parameters_text
from bayes_rpp.networks.layers.bilinear_terms import Term, bilinear_terms
from bayes_rpp.networks.layers.roles import ParameterRole
from bayes_rpp.representations.rep import Rep, Run

# On Inertia 4 have the test error of 8 on exact data and a larger one on modified data; 16 take half as long again.
# Fewer where there are few copies have no larger errors there, and narrow networks would spend most time on eight.
_FEWEST_PRODUCTS, _MOST_PRODUCTS = 2, 8


class _Product(NamedTuple):
    """The products of one term."""

    term: Term
    number: int


class _Use(NamedTuple):
    """Combinations of the copies of one run that one term takes."""

    products: int
    copies: int  # that are added up, in all runs of the type


class LowRankBilinear(nn.Module):
    r"""A quadratic equivariant map of a representation into itself, of low rank.

    For an output piece b of type P and input pieces of type R, pieces of type P (x) R* are maps from R to P. Of both,
    each of at most eight products takes a learned combination of all copies:

        y_b[i] = s \sum_R \sum_{l <= L(P,R)} u_{bl} \sum_j (\sum_k p_{lk} x_k[i, j]) (\sum_a q_{la} x_a[j])

    where k runs over the copies of type P (x) R*, a over those of type R, i over the axes of P and j over those of R. L
    is half the number of copies of P or R, whichever are fewer, within 2 and 8, and at most the number of pairs (k, a).
    Pieces of rank 0 take no part as x_k. So copies are combined,
    the combinations contracted, and the products combined, as in equivariant interatomic potentials (Batatia et al.,
    MACE, NeurIPS 2022); ``EquivariantBilinear`` has a weight for every b, a and k instead.

    Only u, whose prior is that of the equivariant pathway, carries the scale; p and q have the variance of one over
    their fan-in, so that the combinations have the scale of the pieces.

    Parameters
    ----------
    rep : a bound representation of size n.
    scale : s, a fixed factor.

    Attributes
    ----------
    combinations : all p and q, (count,).
    weight : all u, (count,).

    Examples
    --------
    >>> layer = LowRankBilinear((3 * Scalar + 2 * Vector)(SO(3)))
    >>> layer(torch.randn(7, 9)).shape
    torch.Size([7, 9])
    """

    def __init__(self, rep: Rep, scale: float = 1.0) -> None:
        super().__init__()
        self.rep, self.scale, self._runs, self._size = rep, scale, rep.runs, rep.size
        self.rep_in = self.rep_out = rep
        self._products = [_Product(term, _number_of_products(term)) for term in bilinear_terms(rep)]
        made = {run: sum(product.number for product in self._products if product.term.rows == run) for run in rep.runs}
        self._uses = {run: list(self._uses_of(run)) for run in rep.runs}
        self._combined = [
            (run, (sum(use.products for use in uses), run.multiplicity)) for run, uses in self._uses.items() if uses
        ]
        self._made = [(run, (run.multiplicity, count)) for run, count in made.items() if count]
        self.combinations = nn.Parameter(torch.empty(sum(math.prod(shape) for _, shape in self._combined)))
        self.weight = nn.Parameter(torch.empty(sum(math.prod(shape) for _, shape in self._made)))
        self.reset_parameters()

    def _uses_of(self, run: Run) -> Iterator[_Use]:
        """In the order of the products: as maps, then as what maps are applied to."""
        for term, count in self._products:
            for middle in term.middle:
                if middle.run == run:
                    yield _Use(count, term.copies)
            if term.columns == run:
                yield _Use(count, run.multiplicity)

    def reset_parameters(self) -> None:
        """Draw a new initial state from torch's global generator."""
        for parameter, fan_ins in ((self.combinations, self._copies()), (self.weight, self._fan_ins())):
            with torch.no_grad():
                parameter.copy_(torch.randn_like(parameter) / fan_ins.to(parameter).sqrt())

    def extra_repr(self) -> str:
        """The representation and the number of weights."""
        return f"{mapping_text(self.rep_in, self.rep_out)}; {parameters_text(self)}"

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """Apply the layer to vectors of ``rep``."""
        # Features first, batch last: every operation then runs along the batch.
        parts = x.reshape(-1, self._size).mT.split([run.size for run in self._runs])
        combined = self._combine(dict(zip(self._runs, parts, strict=True)))
        made: dict[Run, list[Tensor]] = {}
        for term, _ in self._products:
            maps = [middle.maps(next(combined[middle.run]), term.rows, term.columns) for middle in term.middle]
            applied = next(combined[term.columns])[:, None]
            product = (maps[0] if len(maps) == 1 else torch.stack(maps).sum(0)) * applied
            made.setdefault(term.rows, []).append(product.sum(2))
        rows = dict(zip(self._runs, map(torch.zeros_like, parts), strict=True))
        weights = (self.scale * self.weight).split([math.prod(shape) for _, shape in self._made])
        for (run, shape), weight in zip(self._made, weights, strict=True):
            products = torch.cat(made[run]).flatten(1)
            rows[run] = (weight.reshape(shape) @ products).reshape(run.size, -1)
        return torch.cat(list(rows.values())).mT.reshape(x.shape)

    def _combine(self, pieces: dict[Run, Tensor]) -> dict[Run, Iterator[Tensor]]:
        """The combinations (count, piece size, batch) of every run's copies, in the order of their uses."""
        matrices = self.combinations.split([math.prod(shape) for _, shape in self._combined])
        combined = {}
        for (run, shape), matrix in zip(self._combined, matrices, strict=True):
            copies = pieces[run].reshape(run.multiplicity, -1)
            values = (matrix.reshape(shape) @ copies).unflatten(1, (run.piece_size, -1))
            combined[run] = iter(values.split([use.products for use in self._uses[run]]))
        return combined

    def roles(self) -> dict[str, ParameterRole]:
        """See PathwayLayer."""
        pieces = sum(run.multiplicity for run in self.rep.runs)
        of_layer = max(1.0, len(self.weight) / max(pieces, 1))
        return {
            "combinations": ParameterRole("unit", self._copies(), 1.0),
            "weight": ParameterRole("equivariant", self._fan_ins(), of_layer),
        }

    def _copies(self) -> Float[Tensor, " count"]:
        """For every p and q how many copies its combination adds up."""
        return _joined(
            [
                torch.full((use.products, run.multiplicity), use.copies)
                for run, _ in self._combined
                for use in self._uses[run]
            ]
        )

    def _fan_ins(self) -> Float[Tensor, " count"]:
        """For every u the mean square of a coordinate of its output piece if all u are 1 and x is standard normal."""
        squares = dict.fromkeys(self._runs, 0.0)
        for term, number in self._products:
            squares[term.rows] += number * _mean_square(term)
        return _joined([torch.full(shape, squares[run]) for run, shape in self._made])


def _number_of_products(term: Term) -> int:
    half = math.ceil(min(term.rows.multiplicity, term.columns.multiplicity) / 2)
    return min(max(half, _FEWEST_PRODUCTS), _MOST_PRODUCTS, term.copies * term.columns.multiplicity)


def _mean_square(term: Term) -> float:
    """Of a coordinate of a product of two combinations, of uncorrelated pieces of standard normal coordinates: d_in.
    Scalar products x_k^T P x_k of n pieces with themselves, where P orders their axes, have means, tr P, and variances,
    d_in + tr P^2: they add (tr(P)^2 + tr P^2) / n.
    """
    d, added = term.columns.piece_size, 0.0
    for middle in term.middle if term.rows.piece_size == 1 else ():
        if middle.run == term.columns:
            places = torch.arange(d)
            order = places.reshape(middle.sizes).permute(middle.axes).flatten()
            added += (int((order == places).sum()) ** 2 + int((order[order] == places).sum())) / term.copies
    return d + added


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.flatten().double() for part in (torch.empty(0), *parts)])
