"""The roles of all parameters of a network in its prior."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from bayes_rpp.networks.pathways import ParameterRole, Pathway, PathwayLayer
from bayes_rpp.networks.residual_sum import ResidualSum


def parameter_roles(network: nn.Module) -> Iterator[tuple[str, ParameterRole]]:
    """Every parameter's name and role, in the network's order; those of foreign layers are plain, and plain ones in a
    part of a ResidualSum are of the pathway that the part is.
    """
    parts: dict[str, Pathway] = {}
    for path, module in network.named_modules():
        if isinstance(module, ResidualSum):
            parts |= {f"{path}.{part}".lstrip("."): pathway for part, pathway in module.PATHWAYS.items()}
        roles = module.roles() if isinstance(module, PathwayLayer) else {}
        enclosing = max((part for part in parts if f"{path}.".startswith(f"{part}.")), key=len, default=None)
        for name, parameter in module.named_parameters(recurse=False):
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            role = roles.get(name, ParameterRole("plain", fan_in))
            if enclosing is not None and role.pathway == "plain":
                role = replace(role, pathway=parts[enclosing])
            yield f"{path}.{name}" if path else name, role
