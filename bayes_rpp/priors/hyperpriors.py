"""What a model does with the hyperpriors of its variances."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from pyro.distributions import Distribution
from torch import Tensor

from bayes_rpp.seeding import seeded

_DRAWS = 1001


def exact_hyperprior(law: Distribution, device: torch.device | str | None = None) -> Distribution:
    """A copy that computes in float64 and checks nothing, since checks fail under ``torch.func.vmap``. Its parameters,
    and so its log densities, are moved to a device, if one is given; "mps" has no float64.
    """
    dtype = torch.float32 if device is not None and torch.device(device).type == "mps" else torch.float64
    law = copy.copy(law)
    law._validate_args = False
    for name, value in vars(law).items():
        if isinstance(value, Tensor):
            setattr(law, name, value.to(device=device, dtype=dtype))
        elif isinstance(value, torch.distributions.Distribution):
            setattr(law, name, exact_hyperprior(value, device))
    return law


@torch.no_grad()
def typical_value(law: Distribution) -> Float[Tensor, ""]:
    """The median; for a distribution without quantiles, that of draws from a fixed seed."""
    try:
        return law.icdf(torch.tensor(0.5))
    except NotImplementedError:
        with seeded(0, torch.device("cpu")):
            return law.sample((_DRAWS,)).median()
