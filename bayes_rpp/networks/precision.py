"""The types in which networks take and give numbers, and inputs that come with too few digits."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def weights_dtype(network: nn.Module) -> torch.dtype:
    """The type of a network's parameters that are floating-point numbers."""
    types = (parameter.dtype for parameter in network.parameters() if parameter.is_floating_point())
    return next(types, torch.get_default_dtype())


def input_dtype(network: nn.Module) -> torch.dtype:
    """The type in which a network takes its inputs: its ``input_dtype``, or that of its parameters."""
    found: torch.dtype = getattr(network, "input_dtype", weights_dtype(network))
    return found


def output_dtype(network: nn.Module) -> torch.dtype:
    """The type in which a network gives its outputs, likewise."""
    found: torch.dtype = getattr(network, "output_dtype", weights_dtype(network))
    return found


def warn_of_rounded_inputs(network: object, x: Tensor) -> None:
    """Let a network that knows the scales of its inputs warn of a type that cannot hold them."""
    if (warn := getattr(network, "warn_of_rounded_inputs", None)) is not None:
        warn(x)
