"""The equivariant linear layer, and what it shares with the residual one."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.bases.equivariant import EquivariantBasis, equivariant_basis, equivariant_maps
from bayes_rpp.networks.descriptions import mapping_text
from bayes_rpp.networks.layers.fan_in import coordinate_fan_ins, layer_fan_in
from bayes_rpp.networks.layers.pathway_sums import LinearMap, PathwaySum
from bayes_rpp.networks.layers.roles import ParameterRole
from bayes_rpp.representations.rep import Rep

_INIT_GAIN = math.sqrt(0.5)


class EquivariantLinear(nn.Module):
    """y = A x + a with vec(A) = Q beta and a = Q_bias bias_beta: exactly equivariant (Finzi, Welling & Wilson, 2021).

    Parameters
    ----------
    rep_in, rep_out : bound representations of sizes n and m.
    bias : whether to add an invariant vector of ``rep_out``.
    activated : whether the inputs come from a gated nonlinearity, for the prior; see ``input_mean_squares``.

    Attributes
    ----------
    beta : (rank,) coordinates in the orthonormal basis; drawn so that outputs have half the inputs' mean square.
    bias_beta : (bias rank,), starts at zero.

    Examples
    --------
    >>> layer = EquivariantLinear((2 * Vector)(SO(3)), Vector(SO(3)))
    >>> layer(torch.randn(7, 6)).shape
    torch.Size([7, 3])
    """

    zero_weight: Tensor

    def __init__(self, rep_in: Rep, rep_out: Rep, bias: bool = True, activated: bool = False) -> None:
        super().__init__()
        self.rep_in, self.rep_out, self.activated = rep_in, rep_out, activated
        self.basis = equivariant_maps(rep_in, rep_out)
        self.bias_basis = equivariant_basis(rep_out)
        self.beta = coordinates_parameter(self.basis)
        self.bias_beta = coordinates_parameter(self.bias_basis) if bias else None
        if self.beta is None:
            self.register_buffer("zero_weight", torch.zeros(rep_out.size, rep_in.size), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw a new initial state from torch's global generator."""
        if self.beta is not None:
            with torch.no_grad():
                self.beta.copy_(initial_beta(self.basis, self.rep_in, self.rep_out))
        if self.bias_beta is not None:
            nn.init.zeros_(self.bias_beta)

    def effective_weight(self) -> Float[Tensor, "m n"]:
        """The matrix that the layer applies."""
        shape = self.rep_out.size, self.rep_in.size
        return self.zero_weight if self.beta is None else self.basis.expand(self.beta).reshape(shape)

    def effective_bias(self) -> Float[Tensor, " m"] | None:
        """The vector that the layer adds."""
        return None if self.bias_beta is None else self.bias_basis.expand(self.bias_beta)

    def extra_repr(self) -> str:
        """The representations and the number of equivariant maps."""
        return f"{mapping_text(self.rep_in, self.rep_out)}; rank {self.basis.rank:,} of {self.basis.size:,}"

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch m"]:
        """Apply the layer to vectors of ``rep_in``."""
        return apply_linear(x, self.effective_weight(), self.effective_bias())

    def linear_map(self) -> LinearMap:
        """See networks/layers/pathway_sums.py."""
        sums = [PathwaySum("", "", {"beta": self.basis})]
        if self.bias_beta is not None:
            sums.append(PathwaySum("", "", {"bias_beta": self.bias_basis}))
        return LinearMap(self.rep_out.size, sums, self.rep_in, self.rep_out, has_equivariant_pathways=True)

    def roles(self) -> dict[str, ParameterRole]:
        """See PathwayLayer."""
        each = coordinate_fan_ins(self.basis, self.rep_in, self.rep_out, self.activated)
        roles = {
            "beta": ParameterRole("equivariant", each, layer_fan_in(self.basis, self.rep_out)),
            "bias_beta": ParameterRole("equivariant", 1.0, 1.0),
        }
        return {name: roles[name] for name, _ in self.named_parameters()}


def coordinates_parameter(basis: EquivariantBasis) -> nn.Parameter | None:
    """A parameter for a basis, or None if its rank is 0: samplers cannot take a parameter without coordinates."""
    return nn.Parameter(torch.empty(basis.rank)) if basis.rank else None


def apply_linear(
    x: Float[Tensor, "*batch n"], weight: Float[Tensor, "m n"], bias: Float[Tensor, " m"] | None
) -> Float[Tensor, "*batch m"]:
    """W x + b for every vector x. The result lies in memory features first, as the bilinear and gated layers want."""
    columns = x.reshape(-1, x.shape[-1]).mT
    product = weight @ columns if bias is None else torch.addmm(bias[:, None], weight, columns)
    return product.mT.reshape(*x.shape[:-1], weight.shape[0])


def initial_beta(basis: EquivariantBasis, rep_in: Rep, rep_out: Rep) -> Float[Tensor, " rank"]:
    """Coordinates for which every output piece has, on average over its axes, half the mean square of the inputs.

    A piece of size d into which there are r maps gets variance r v / d on each axis from coordinates of variance
    v, so v is proportional to d / r. With one v for all, pieces of high rank fade from layer to layer.
    """
    maps = basis.expand(torch.randn(basis.rank)).reshape(rep_out.size, rep_in.size)
    for run in rep_out.runs:
        rank = equivariant_maps(rep_in, Rep([(1, run.piece)], rep_out.group)).rank
        maps[run.start : run.stop] *= _INIT_GAIN * math.sqrt(run.piece_size / max(rank, 1))
    return basis.coordinates(maps.reshape(-1))


def initial_coordinates(basis: EquivariantBasis, size_out: int) -> Float[Tensor, " rank"]:
    """Coordinates for which outputs have, on average over all of them, half the mean square of the inputs."""
    return torch.randn(basis.rank) * _INIT_GAIN * math.sqrt(size_out / max(basis.rank, 1))
