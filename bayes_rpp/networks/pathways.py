"""What a layer tells the prior about its parameters: which pathway each belongs to, and its fan-in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from bayes_rpp.bases import EquivariantBasis

Pathway = Literal["equivariant", "dense", "collapsed", "plain"]


@dataclass(frozen=True)
class ParameterRole:
    """The place of one parameter in the prior.

    Attributes
    ----------
    pathway : "equivariant" (coordinates in an orthonormal basis), "dense" (the residual), "collapsed" (their sum,
        under the covariance of both), or "plain" (a parameter of a layer that has no equivariant pathway).
    fan_in : how many parameters of this tensor feed one output coordinate, on average; the "fan_in" scaling divides
        by it.
    basis : the orthonormal basis of a collapsed parameter's equivariant pathway.
    """

    pathway: Pathway
    fan_in: float
    basis: EquivariantBasis | None = None


@runtime_checkable
class PathwayLayer(Protocol):
    """A layer that names the roles of its own parameters."""

    def roles(self) -> dict[str, ParameterRole]:
        """One role for each parameter that the layer itself holds."""
