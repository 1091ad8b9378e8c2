"""What a layer tells the prior about its parameters: which pathway each belongs to, and its fan-in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from bayes_rpp.bases.equivariant import EquivariantBasis

Pathway = Literal["equivariant", "dense", "collapsed", "plain"]


@dataclass(frozen=True)
class StructuredPathway:
    """One of the structured pathways of a collapsed parameter.

    Attributes
    ----------
    basis : its orthonormal basis.
    fan_in : of its coordinates, see ParameterRole.
    """

    basis: EquivariantBasis
    fan_in: float


@dataclass(frozen=True)
class ParameterRole:
    """The place of one parameter in the prior.

    Attributes
    ----------
    pathway : "equivariant" (coordinates in an orthonormal basis), "dense" (the residual), "collapsed" (their sum,
        under the covariance of all), or "plain" (a parameter of a layer that has no structured pathway).
    fan_in : how many coordinates of this parameter there are for each output coordinate of its layer; the "fan_in"
        scaling divides its variance by this number.
    level : which of its layer's structured pathways this is, the outermost group first.
    levels : how many structured pathways the layer has.
    structured : all of them, for a collapsed parameter.
    """

    pathway: Pathway
    fan_in: float
    level: int = 0
    levels: int = 1
    structured: tuple[StructuredPathway, ...] = ()


@runtime_checkable
class PathwayLayer(Protocol):
    """A layer that names the roles of its own parameters."""

    def roles(self) -> dict[str, ParameterRole]:
        """One role for each parameter that the layer itself holds."""
