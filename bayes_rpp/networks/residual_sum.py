"""Whole networks as pathways: a structured one, and one for what it cannot express."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.networks.roles import Pathway


class ResidualSum(nn.Module):
    """y = structured(x) + residual(x), with a broad prior on the first and a narrow one on the second.

    Weights of the first that have no pathway of their own get the prior's equivariant variance, those of the second
    its dense variance. With a linear first part, "linear only" is the structure that the model prefers and can leave.

    Parameters
    ----------
    structured, residual : networks from the same inputs to the same outputs. Representations, if they have any, are
        taken from the first.

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

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch m"]:
        """The sum of both networks."""
        result: Tensor = self.structured(x) + self.residual(x)
        return result
