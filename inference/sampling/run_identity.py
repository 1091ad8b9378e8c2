"""What two runs of a sampler must have in common for one to resume the other."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.serialization.models import model_identity
from inference.checkpoint import digest, direction, start_identity
from inference.data import Pair
from inference.density.unconstrained import UnconstrainedDensity

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def run_identity(
    settings: DataclassInstance,
    density: UnconstrainedDensity,
    z: Float[Tensor, "chain size"],
    pair: Pair | None,
    seed: int,
) -> dict[str, Any]:
    """What two runs must have in common for one to resume the other. A model is known by the settings of its prior,
    likelihood and network, exactly, and by its density at two points, which is all that tells a LogDensity from
    another. The densities, and the projection of each chain that identifies a start, are compared up to rounding, which
    differs between machines and numbers of threads.
    """
    initial = density.initial([0])
    aside = direction(z)
    densities = [-float(density.gradients(z)[1]) for z in (initial, initial + aside)]
    parameters = {name: (list(shape), str(density.model.constraints[name])) for name, shape in density.shapes.items()}
    within = torch.finfo(z.dtype).eps ** 0.5
    named = {name: repr(value) if is_dataclass(value) else value for name, value in vars(settings).items()}
    run = {"engine": type(settings).__name__, **named, "seed": seed}
    return run | {
        "data": None if pair is None else digest(*pair),
        "model": {
            **model_identity(density.model),
            "parameters": parameters,
            "log_densities": {"at_two_points": densities, "within": within},
        },
        "start": start_identity(z),
    }
