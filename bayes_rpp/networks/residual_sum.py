"""Whole networks as pathways: a structured one, and one for what it cannot express."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.networks.descriptions import network_text
from bayes_rpp.networks.layers.roles import Pathway
from bayes_rpp.networks.precision import input_dtype, output_dtype, warn_of_rounded_inputs


class ResidualSum(nn.Module):
    """y = structured(x) + residual(x), with a broad prior on the first and a narrow one on the second.

    Weights of the first that have no pathway of their own get the prior's equivariant variance, those of the second
    its dense variance. With a linear first part, "linear only" is the structure that the model prefers and can leave.

    Parameters
    ----------
    structured, residual : networks from the same inputs to the same outputs. Representations, if they have any, are
        taken from the first. Where a part takes and gives float64, as a NormalizedNetwork fitted to float64 data, so
        does the sum.

    Examples
    --------
    >>> linear = MLP(Vector, Vector, Trivial(3), layers=0)
    >>> model = ResidualSum(linear, MLP(Vector, Vector, Trivial(3), channels=32))
    >>> model(torch.randn(7, 3)).shape
    torch.Size([7, 3])
    """

    PATHWAYS: ClassVar[dict[str, Pathway]] = {"structured": "equivariant", "residual": "dense"}

    def __init__(self, structured: nn.Module, residual: nn.Module) -> None:
        super().__init__()
        self.structured, self.residual = structured, residual
        for name in ("rep_in", "rep_out", "group"):
            if hasattr(structured, name):
                setattr(self, name, getattr(structured, name))

    def __repr__(self) -> str:
        return f"ResidualSum({network_text(self.structured)} + {network_text(self.residual)})"

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch m"]:
        """The sum of both networks, each of the inputs in the type that it takes."""
        structured, residual = (part(_as_input(part, x)) for part in (self.structured, self.residual))
        result: Tensor = structured + residual
        return result

    @property
    def input_dtype(self) -> torch.dtype:
        """The wider of the types in which the two take inputs: an offset that one takes out in float64 is kept."""
        return torch.promote_types(input_dtype(self.structured), input_dtype(self.residual))

    @property
    def output_dtype(self) -> torch.dtype:
        """The wider of the types of their outputs."""
        return torch.promote_types(output_dtype(self.structured), output_dtype(self.residual))

    def warn_of_rounded_inputs(self, x: Float[Tensor, "batch n"]) -> None:
        """See NormalizedNetwork."""
        for part in (self.structured, self.residual):
            warn_of_rounded_inputs(part, x)


def _as_input(network: nn.Module, x: Tensor) -> Tensor:
    return x.to(input_dtype(network)) if x.is_floating_point() else x
