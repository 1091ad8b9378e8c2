"""Gated nonlinearities, and the representation with the gates that they need."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.networks.pathways import ParameterRole
from bayes_rpp.representations import Rep, Run, Scalar

_SWISH_INIT = 1e-3


def gated(rep: Rep) -> Rep:
    """The representation that a gated nonlinearity into ``rep`` takes: a gate scalar for each piece that cannot gate
    itself, first.

    Examples
    --------
    >>> gated((4 * Scalar + 2 * Vector)(SO(3)))
    6*Scalar + 2*Vector
    """
    return _gate_count(rep) * Scalar(rep.bound_group) + rep


class GatedNonlinearity(nn.Module):
    """Gate every piece by a sigmoid, and add a residual Swish on every coordinate.

    y_i = sigmoid(g_i) v_i + w_i v_i sigmoid(v_i), where the gate g_i is v_i itself for scalars (and for every
    coordinate of a permutation representation), and the piece's own gate scalar otherwise (Finzi, Benton & Wilson,
    2021, appendix). The first term is equivariant; the second is not, unless the group acts by permutations and w is
    invariant.

    Parameters
    ----------
    rep : the bound representation of the output, of size n; the input is ``gated(rep)``.
    residual : whether the layer has the Swish term, with parameter ``swish`` (n,).

    Examples
    --------
    >>> rep = (4 * Scalar + 2 * Vector)(SO(3))
    >>> GatedNonlinearity(rep)(torch.randn(7, gated(rep).size)).shape
    torch.Size([7, 10])
    """

    def __init__(self, rep: Rep, residual: bool = True) -> None:
        super().__init__()
        self.rep, self.gates = rep, _gate_count(rep)
        self.swish = nn.Parameter(torch.empty(rep.size)) if residual else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset the residual weights to 1e-3."""
        if self.swish is not None:
            nn.init.constant_(self.swish, _SWISH_INIT)

    def forward(self, x: Float[Tensor, "*batch gated"]) -> Float[Tensor, "*batch n"]:
        """Apply the nonlinearity to vectors of ``gated(rep)``."""
        gates, values = x.reshape(-1, self.gates + self.rep.size).mT.split([self.gates, self.rep.size])
        squashed = torch.sigmoid(values)
        factor = self._gate_rows(torch.sigmoid(gates), squashed) if self.gates else squashed
        if self.swish is not None:
            factor = torch.addcmul(factor, self.swish[:, None], squashed)
        return (values * factor).mT.reshape(*x.shape[:-1], self.rep.size)

    def _gate_rows(self, gates: Tensor, squashed: Tensor) -> Tensor:
        """The gate of every coordinate, (n, batch): its own or its piece's."""
        rows, first = [], 0
        for run in self.rep.runs:
            if _gates_itself(run, self.rep):
                rows.append(squashed[run.start : run.stop])
            else:
                gate = gates[first : first + run.multiplicity, None]
                rows.append(gate.expand(-1, run.piece_size, -1).flatten(0, 1))
                first += run.multiplicity
        return torch.cat(rows)

    def roles(self) -> dict[str, ParameterRole]:
        """See PathwayLayer."""
        return {} if self.swish is None else {"swish": ParameterRole("dense", 1)}


def _gates_itself(run: Run, rep: Rep) -> bool:
    return run.piece == () or (rep.bound_group.is_permutation and "sign" not in run.piece)


def _gate_count(rep: Rep) -> int:
    return sum(run.multiplicity for run in rep.runs if not _gates_itself(run, rep))
