"""Residual pathway layers with collapsed weights, several in a stack."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.bases.equivariant import equivariant_basis, equivariant_maps
from bayes_rpp.networks.layers.linear import initial_beta
from bayes_rpp.representations.rep import Rep

# From half the mean square of the inputs in every output to a third, as PyTorch initialises linear layers.
_GAIN = math.sqrt(2 / 3)


class StackedRPPLinear(nn.Module):
    """Several layers y = W x + b side by side; W and b are sums of an equivariant and a dense part.

    The collapsed weights cost as much as those of plain linear layers. They start in the equivariant subspace, with
    entries as large as PyTorch's.

    Parameters
    ----------
    rep_in, rep_out : bound representations of sizes n and m.
    members : how many layers.
    scale : of the initial weights.
    """

    def __init__(self, rep_in: Rep, rep_out: Rep, members: int = 1, scale: float = 1.0) -> None:
        super().__init__()
        self.basis, self.bias_basis = equivariant_maps(rep_in, rep_out), equivariant_basis(rep_out)
        m, n = rep_out.size, rep_in.size
        betas = [initial_beta(self.basis, rep_in, rep_out) for _ in range(members)]
        weights = torch.stack([self.basis.expand(beta) for beta in betas]).unflatten(-1, (m, n))
        biases = self.bias_basis.expand(torch.randn(members, self.bias_basis.rank))
        deviation = 1 / math.sqrt(3 * n)
        self.weight = nn.Parameter(scale * _GAIN * weights)
        self.bias = nn.Parameter(scale * deviation * biases)

    def extra_repr(self) -> str:
        """How many layers, and of what sizes."""
        members, m, n = self.weight.shape
        return f"{members} of {n} -> {m}, rank {self.basis.rank:,} of {self.basis.size:,}"

    def forward(self, x: Float[Tensor, "*member batch n"]) -> Float[Tensor, "member batch m"]:
        """Apply each layer to its own inputs, or all to the same."""
        members = len(self.weight)
        if members == 1 and x.ndim == 2:
            return nn.functional.linear(x, self.weight[0], self.bias[0])[None]
        return torch.baddbmm(self.bias[:, None], x.expand(members, *x.shape[-2:]), self.weight.mT)

    @torch.no_grad()
    def shrink_dense(self, share: float) -> None:
        """Take a share of the dense part away: W <- W - share (W - P W), with P the projection on equivariant maps."""
        for parameter, basis in ((self.weight, self.basis), (self.bias, self.bias_basis)):
            flat = parameter.reshape(len(parameter), -1)
            parameter.lerp_(basis.project(flat).reshape(parameter.shape), share)
