"""Gated nonlinearities, and the representation with the gates that they need."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.networks.descriptions import mapping_text
from bayes_rpp.networks.layers.roles import ParameterRole
from bayes_rpp.representations.rep import Rep, Run, Scalar

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
        self.rep_in, self.rep_out = gated(rep), rep
        self._gates_of_runs = [0 if gates_itself(run, rep) else run.multiplicity for run in rep.runs]
        self.swish = nn.Parameter(torch.empty(rep.size)) if residual else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset the residual weights to 1e-3."""
        if self.swish is not None:
            nn.init.constant_(self.swish, _SWISH_INIT)

    def extra_repr(self) -> str:
        """The representations, the first with its gates."""
        residual = "" if self.swish is None else "; residual Swish"
        return f"{mapping_text(self.rep_in, self.rep_out)}{residual}"

    def forward(self, x: Float[Tensor, "*batch gated"]) -> Float[Tensor, "*batch n"]:
        """Apply the nonlinearity to vectors of ``gated(rep)``."""
        columns = x.reshape(-1, self.gates + self.rep.size).mT
        if not self.gates:
            return self._gated_by_itself(columns, self.swish).mT.reshape(x.shape)
        sizes = [run.size for run in self.rep.runs]
        squashed, *values = columns.split([self.gates, *sizes])
        weights = [None] * len(sizes) if self.swish is None else self.swish.split(sizes)
        gates = torch.sigmoid(squashed).split(self._gates_of_runs)
        rows = [
            self._gated_by_itself(value, weight) if len(gate) == 0 else self._gated(value, gate, weight)
            for value, gate, weight in zip(values, gates, weights, strict=True)
        ]
        return torch.cat(rows).mT.reshape(*x.shape[:-1], self.rep.size)

    @staticmethod
    def _gated_by_itself(value: Tensor, weight: Tensor | None) -> Tensor:
        swish = nn.functional.silu(value)
        return swish if weight is None else swish * (1 + weight)[:, None]

    @staticmethod
    def _gated(value: Tensor, gate: Tensor, weight: Tensor | None) -> Tensor:
        product = (value.unflatten(0, (len(gate), -1)) * gate[:, None]).flatten(0, 1)
        return product if weight is None else torch.addcmul(product, weight[:, None], nn.functional.silu(value))

    def roles(self) -> dict[str, ParameterRole]:
        """See PathwayLayer."""
        return {} if self.swish is None else {"swish": ParameterRole("dense", 1, 1)}


def gates_itself(run: Run, rep: Rep) -> bool:
    """Whether a pointwise nonlinearity of these copies is equivariant: scalars, and what the group permutes."""
    return all(factor.is_permutation(rep.bound_group) for factor in run.piece)


def _gate_count(rep: Rep) -> int:
    return sum(run.multiplicity for run in rep.runs if not gates_itself(run, rep))
