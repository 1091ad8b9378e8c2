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
    fan_in : how many coordinates of this parameter there are for each output coordinate of its layer; the "fan_in"
        scaling divides its variance by this number.
    basis : the orthonormal basis of a collapsed parameter's equivariant pathway.
    basis_fan_in : the fan-in of that pathway's coordinates.
    """

    pathway: Pathway
    fan_in: float
    basis: EquivariantBasis | None = None
    basis_fan_in: float = 1.0


@runtime_checkable
class PathwayLayer(Protocol):
    """A layer that names the roles of its own parameters."""

    def roles(self) -> dict[str, ParameterRole]:
        """One role for each parameter that the layer itself holds."""
