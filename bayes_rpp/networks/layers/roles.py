"""The role of each parameter in the prior: what layers declare, and how a network's declarations are gathered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.bases.equivariant import EquivariantBasis

Pathway = Literal["equivariant", "dense", "collapsed", "plain", "unit"]
FanIn: TypeAlias = "float | Float[Tensor, ' coordinate']"


class StructuredPathway(NamedTuple):
    """One of the structured pathways of a collapsed parameter."""

    basis: EquivariantBasis  # orthonormal
    fan_in: FanIn  # of its coordinates, see ParameterRole
    layer_fan_in: float  # likewise


@dataclass(frozen=True)
class ParameterRole:
    """What one parameter is to the prior: coordinates in an orthonormal basis ("equivariant"), the residual ("dense"),
    their sum under the covariance of all ("collapsed"), one of a layer without structured pathways ("plain"), or a
    factor whose scale another parameter of the layer carries ("unit": the variance of one over its fan-in, whatever the
    prior's settings).
    """

    pathway: Pathway
    fan_in: FanIn  # the mean square that its coordinates, of variance 1, add to each output: of all, or of each one's
    layer_fan_in: float  # the number of its coordinates for each output coordinate of its layer
    level: int = 0  # which of its layer's structured pathways this is, the outermost group first
    levels: int = 1  # how many structured pathways the layer has
    structured: tuple[StructuredPathway, ...] = ()  # all of them, for a collapsed parameter


@runtime_checkable
class PathwayLayer(Protocol):
    """A layer that names the roles of its own parameters."""

    def roles(self) -> dict[str, ParameterRole]:
        """One role for each parameter that the layer itself holds."""


@runtime_checkable
class SumOfParts(Protocol):
    """A module whose parts, by name, are pathways as a whole."""

    PATHWAYS: ClassVar[dict[str, Pathway]]


def free_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are not frozen, by name; one that several layers share, by the first of its names."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def parameter_roles(network: nn.Module) -> Iterator[tuple[str, ParameterRole]]:
    """Every free parameter's name and role, in the network's order; those of foreign layers are plain, and plain ones
    in a part of a ResidualSum are of the pathway that the part is.
    """
    free = free_parameters(network)
    parts: dict[str, Pathway] = {}
    for path, module in network.named_modules():
        if isinstance(module, SumOfParts):
            parts |= {f"{path}.{part}".lstrip("."): pathway for part, pathway in module.PATHWAYS.items()}
        roles = module.roles() if isinstance(module, PathwayLayer) else {}
        enclosing = max((part for part in parts if f"{path}.".startswith(f"{part}.")), key=len, default=None)
        for name, parameter in module.named_parameters(recurse=False):
            if (full_name := f"{path}.{name}".lstrip(".")) not in free:
                continue
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            role = roles.get(name, ParameterRole("plain", fan_in, fan_in))
            if enclosing is not None and role.pathway == "plain":
                role = replace(role, pathway=parts[enclosing])
            yield full_name, role
