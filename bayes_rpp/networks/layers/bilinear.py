"""The equivariant bilinear layer, contracted piece by piece."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.networks.descriptions import mapping_text, parameters_text
from bayes_rpp.networks.layers.bilinear_terms import Term, bilinear_terms
from bayes_rpp.networks.layers.roles import ParameterRole
from bayes_rpp.representations.rep import Rep, Run

_INIT_STD = 0.1
# With one piece the test error on Inertia is ten times larger, with two EMLP's doubles; more than three only cost time.
_MOST_MIDDLE_PIECES = 3


@dataclass(frozen=True)
class _FirstCopies:
    """A term of which only the first ``count`` copies of the middle piece are used."""

    term: Term
    count: int

    @property
    def rows(self) -> Run:
        return self.term.rows

    @property
    def columns(self) -> Run:
        return self.term.columns

    @property
    def contracts_first(self) -> bool:
        """Whether contracting the pieces before mixing them by the weights takes fewer multiplications than after."""
        n_out, d_out = self.rows.multiplicity, self.rows.piece_size
        n_in, d_in = self.columns.multiplicity, self.columns.piece_size
        return n_in * d_out * (n_out + d_in) < n_out * d_in * (n_in + d_out)

    def maps(self, first_pieces: dict[Run, Tensor]) -> Tensor:
        """The first middle pieces as maps (d_out, count, d_in, batch)."""
        stacks, missing = [], self.count
        for middle in self.term.middle:
            stack = first_pieces[middle.run]
            stacks.append(middle.maps(stack if len(stack) <= missing else stack[:missing], self.rows, self.columns))
            missing -= len(stacks[-1])
            if not missing:
                break
        return (stacks[0] if len(stacks) == 1 else torch.cat(stacks)).transpose(0, 1)


class EquivariantBilinear(nn.Module):
    r"""A quadratic equivariant map of a representation into itself.

    For an output piece b of type P and an input piece a of type R, the map a -> b must be a tensor of type P (x) R*.
    Input pieces of that type serve as such tensors:

        y_b[i] = \sum_{R} \sum_{a of type R} \sum_{k <= K(P,R)} w_{bak} \sum_j x_k[i, j] x_a[j]

    where x_k is the k-th input piece of type P (x) R*, i runs over the axes of P and j over those of R. K is
    min(multiplicity of that type, 3): the first copies, a fixed rule. Types of rank 0 take no part as x_k (Finzi,
    Welling & Wilson, 2021, section 6.2, who draw min(multiplicity, dimension) copies at random). No weight matrix is
    built for an example: the pieces are contracted directly, in whichever order is cheaper.

    Parameters
    ----------
    rep : a bound representation of size n.
    scale : a fixed factor of every weight.

    Attributes
    ----------
    weight : (count,) all the w, drawn from N(0, 0.01).

    Examples
    --------
    >>> layer = EquivariantBilinear((3 * Scalar + 2 * Vector)(SO(3)))
    >>> layer(torch.randn(7, 9)).shape
    torch.Size([7, 9])
    """

    def __init__(self, rep: Rep, scale: float = 1.0) -> None:
        super().__init__()
        self.rep, self.scale, self._runs, self._size = rep, scale, rep.runs, rep.size
        self.rep_in = self.rep_out = rep
        terms = [_FirstCopies(term, min(term.copies, _MOST_MIDDLE_PIECES)) for term in bilinear_terms(rep)]
        # The terms that contract first meet the weights once for each output type, the others once for each input type.
        self._contracting = _group_by([t for t in terms if t.contracts_first], lambda t: t.rows)
        self._mixing = _group_by([t for t in terms if not t.contracts_first], lambda t: t.columns)
        self._shapes = [
            (run.multiplicity, sum(t.count * t.columns.multiplicity for t in same))
            for run, same in self._contracting.items()
        ] + [(sum(t.count * t.rows.multiplicity for t in same), run.multiplicity) for run, same in self._mixing.items()]
        self.weight = nn.Parameter(torch.empty(sum(math.prod(shape) for shape in self._shapes)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw a new initial state from torch's global generator."""
        nn.init.normal_(self.weight, std=_INIT_STD)

    def extra_repr(self) -> str:
        """The representation and the number of weights."""
        return f"{mapping_text(self.rep_in, self.rep_out)}; {parameters_text(self)}"

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """Apply the layer to vectors of ``rep``."""
        # Features first, batch last: copies, axes and weights are then rows, and every operation runs along the batch.
        parts = x.reshape(-1, self._size).mT.split([run.size for run in self._runs])
        pieces = {
            run: part.unflatten(0, (run.multiplicity, run.piece_size))
            for run, part in zip(self._runs, parts, strict=True)
        }
        weights = (self.scale * self.weight).split([math.prod(shape) for shape in self._shapes])
        matrices = [weight.reshape(shape) for weight, shape in zip(weights, self._shapes, strict=True)]
        # Cut once for all terms, for every cut costs a padding on the way back.
        first = {run: piece.split(_MOST_MIDDLE_PIECES)[0] for run, piece in pieces.items()}
        sums = self._contract_then_mix(pieces, first, matrices[: len(self._contracting)])
        for run, value in self._mix_then_contract(pieces, first, matrices[len(self._contracting) :]):
            sums[run] = sums[run] + value if run in sums else value
        rows = [
            sums[run].transpose(0, 1).flatten(0, 1) if run in sums else torch.zeros_like(part)
            for run, part in zip(self._runs, parts, strict=True)
        ]
        return torch.cat(rows).mT.reshape(x.shape)

    # Products below are broadcast along one axis at each side and summed along one: what runs fast, there and back.

    def _contract_then_mix(
        self, pieces: dict[Run, Tensor], first: dict[Run, Tensor], matrices: list[Tensor]
    ) -> dict[Run, Tensor]:
        """(d_out, multiplicity_out, batch) for each output type."""
        sums = {}
        for (rows, same), matrix in zip(self._contracting.items(), matrices, strict=True):
            products = []
            for term in same:
                maps = term.maps(first).flatten(0, 1)[:, None]
                product = (maps * pieces[term.columns]).sum(2)
                products.append(product.unflatten(0, (rows.piece_size, term.count)).flatten(1, 2))
            sums[rows] = torch.bmm(matrix.expand(rows.piece_size, -1, -1), torch.cat(products, dim=1))
        return sums

    def _mix_then_contract(
        self, pieces: dict[Run, Tensor], first: dict[Run, Tensor], matrices: list[Tensor]
    ) -> Iterator[tuple[Run, Tensor]]:
        """Terms for (d_out, multiplicity_out, batch) of an output type."""
        for (columns, same), matrix in zip(self._mixing.items(), matrices, strict=True):
            batch = pieces[columns].shape[-1]
            mixed = matrix @ pieces[columns].flatten(1)
            for term, part in zip(same, mixed.split([t.count * t.rows.multiplicity for t in same]), strict=True):
                maps = term.maps(first).flatten(1, 2)[:, None]
                part = part.reshape(term.rows.multiplicity, term.count * columns.piece_size, batch)
                yield term.rows, (maps * part).sum(2)

    def roles(self) -> dict[str, ParameterRole]:
        """See PathwayLayer."""
        pieces = sum(run.multiplicity for run in self.rep.runs)
        of_layer = max(1.0, len(self.weight) / max(pieces, 1))
        return {"weight": ParameterRole("equivariant", self._fan_ins(), of_layer)}

    def _fan_ins(self) -> Float[Tensor, " count"]:
        """For every weight the number of products that all weights add to a coordinate of its output piece."""
        products: dict[Run, int] = {}
        for term in itertools.chain(*self._contracting.values(), *self._mixing.values()):
            products[term.rows] = products.get(term.rows, 0) + term.count * term.columns.size
        pairs = zip(self._contracting, self._shapes, strict=False)
        parts = [torch.full(shape, products[rows]) for rows, shape in pairs]
        for columns, same in self._mixing.items():
            per_row = [torch.full((term.count * term.rows.multiplicity,), products[term.rows]) for term in same]
            parts.append(torch.cat(per_row)[:, None].expand(-1, columns.multiplicity))
        return torch.cat([part.flatten() for part in parts]).double()


def _group_by(terms: list[_FirstCopies], key: Callable[[_FirstCopies], Run]) -> dict[Run, list[_FirstCopies]]:
    groups: dict[Run, list[_FirstCopies]] = {}
    for term in terms:
        groups.setdefault(key(term), []).append(term)
    return groups
