"""What residual pathway layers share: a weight and a bias that are sums of pathways, in one of two parametrizations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TypeVar, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.bases.equivariant import EquivariantBasis
from bayes_rpp.networks.layers.linear import coordinates_parameter
from bayes_rpp.networks.layers.pathway_sums import Parametrization, PathwaySum, pathway_total
from bayes_rpp.networks.layers.roles import ParameterRole, StructuredPathway

_DENSE_INIT = 1e-3
_Value = TypeVar("_Value")


class ResidualPathways(nn.Module):
    """The parameters of W = sum_k Q_k beta_k + B (m, n) and of a bias of the same kind. What the weight is applied to
    is a matter of subclasses.

    Parameters
    ----------
    shape : (m, n).
    bases : the orthonormal bases Q_k of the weight, of size m n.
    bias_bases : those of the bias, of size m; None for a layer without a bias.
    names : what people call the structured pathways of the weight.
    parametrization : "residual" or "collapsed", see RPPLinear.
    """

    dense: Tensor  # of the residual parametrization
    bias_dense: Tensor | None
    weight: Tensor  # of the collapsed one
    bias: Tensor | None

    def __init__(
        self,
        shape: tuple[int, int],
        bases: Sequence[EquivariantBasis],
        bias_bases: Sequence[EquivariantBasis] | None,
        names: Sequence[str],
        parametrization: Parametrization,
    ) -> None:
        super().__init__()
        check_parametrization(parametrization)
        self.shape, self.bases, self.pathway_names = shape, tuple(bases), tuple(names)
        self.bias_bases = () if bias_bases is None else tuple(bias_bases)
        self.has_bias = bias_bases is not None
        self.sums = [PathwaySum("weight", "dense", numbered("beta", self.bases))]
        if self.has_bias:
            self.sums.append(PathwaySum("bias", "bias_dense", numbered("bias_beta", self.bias_bases)))
        self.hold(parametrization)

    def hold(self, parametrization: Parametrization) -> None:
        """Put new parameters, without values yet, in place of the present ones."""
        self._parameters.clear()
        self.parametrization = parametrization
        for parts, shape in zip(self.sums, (self.shape, self.shape[:1]), strict=False):
            if parametrization == "residual":
                for name, basis in parts.structured.items():
                    self.register_parameter(name, coordinates_parameter(basis))
            held = parts.dense if parametrization == "residual" else parts.total
            self.register_parameter(held, nn.Parameter(torch.empty(shape)))
        if not self.has_bias:
            self.register_parameter("bias_dense" if parametrization == "residual" else "bias", None)

    def extra_repr(self) -> str:
        """The size, the pathways and the parametrization."""
        ranks = ", ".join(f"{basis.rank:,}" for basis in self.bases)
        weights = f"{self.shape[1]} -> {self.shape[0]}, rank {ranks} of {self.shape[0] * self.shape[1]:,}"
        return f"{weights}, {self.parametrization}{'' if self.has_bias else ', without bias'}"

    @property
    def beta_names(self) -> list[str]:
        """The names of the coordinates of the weight's structured pathways, held or not."""
        return list(self.sums[0].structured)

    @property
    def basis(self) -> EquivariantBasis:
        """The first structured pathway of the weight."""
        return self.bases[0]

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw a new initial state from torch's global generator; both parametrizations start at the same function.

        The first pathway carries the signal, the others and the dense one start near zero.
        """
        first, small = self.initial_beta(), _DENSE_INIT / math.sqrt(max(self.shape[1], 1))
        dense = torch.randn(self.shape) * small
        betas = [first, *(small * torch.randn(basis.rank) for basis in self.bases[1:])]
        values = {"dense": dense, **dict(zip(self.beta_names, betas, strict=True))}
        if self.parametrization == "collapsed":
            structured = [basis.expand(beta) for basis, beta in zip(self.bases, betas, strict=True)]
            values["weight"] = torch.stack(structured).sum(0).reshape(dense.shape) + dense
        for name, parameter in self.named_parameters():
            parameter.copy_(values.get(name, torch.zeros(())))  # biases start at zero

    def initial_beta(self) -> Float[Tensor, " rank"]:
        """Coordinates of the first pathway to start from."""
        raise NotImplementedError

    def effective_weight(self) -> Float[Tensor, "m n"]:
        """The matrix that the layer applies, W = A + B."""
        return pathway_total(self, self.sums[0], partial(getattr, self))

    def effective_bias(self) -> Float[Tensor, " m"] | None:
        """The vector that the layer adds."""
        return pathway_total(self, self.sums[1], partial(getattr, self)) if self.has_bias else None

    def structured_fan_ins(self) -> tuple[list[StructuredPathway], list[StructuredPathway]]:
        """The structured pathways of the weight and of the bias, with what the prior divides their variances by."""
        raise NotImplementedError

    def dense_fan_ins(self) -> tuple[float, float]:
        """The two fan-ins of the dense weight, see ParameterRole."""
        raise NotImplementedError

    def roles(self) -> dict[str, ParameterRole]:
        """See PathwayLayer."""
        maps, vectors = self.structured_fan_ins()
        if self.parametrization == "collapsed":
            roles = {
                "weight": ParameterRole("collapsed", *self.dense_fan_ins(), structured=tuple(maps)),
                "bias": ParameterRole("collapsed", 1.0, 1.0, structured=tuple(vectors)),
            }
        else:
            dense = ParameterRole("dense", *self.dense_fan_ins())
            roles = {"dense": dense, "bias_dense": ParameterRole("dense", 1.0, 1.0)}
            for name, pathways in (("beta", maps), ("bias_beta", vectors)):
                for level, (each, pathway) in enumerate(numbered(name, pathways).items()):
                    own = pathway.fan_in, pathway.layer_fan_in
                    roles[each] = ParameterRole("equivariant", *own, level, len(pathways))
        return {name: roles[name] for name, _ in self.named_parameters()}


def check_parametrization(parametrization: str) -> None:
    """Raise ValueError if this is no parametrization."""
    if parametrization not in get_args(Parametrization):
        raise ValueError(f"parametrization must be 'residual' or 'collapsed', got {parametrization!r}.")


def numbered(name: str, values: Sequence[_Value]) -> dict[str, _Value]:
    """Values by a name, numbered if there are several."""
    return {name if len(values) == 1 else f"{name}_{level}": value for level, value in enumerate(values)}
