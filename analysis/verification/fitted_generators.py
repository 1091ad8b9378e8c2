"""How far a posterior is from each generator of a group."""

from __future__ import annotations

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from analysis.symmetry.binding import bind
from analysis.symmetry.equivariance import equivariance_error
from analysis.symmetry.generator_names import generator_names
from analysis.verification.generator_errors import elements_to_try
from bayes_rpp import Group
from inference import Posterior


def errors_of_generators(
    posterior: Posterior, x: Float[Tensor, "batch size_in"], group: Group | None = None
) -> xr.DataArray:
    """(chain, draw, generator): the equivariance error, of each generator its mean over the elements that are tried."""
    group = bind(posterior, group, None, None, "errors_of_generators")[0].bound_group
    elements, owner = elements_to_try(group)
    errors = equivariance_error(posterior, x, group, elements=elements, per_element=True)
    means = torch.stack([torch.as_tensor(errors.values)[..., owner == k].mean(-1) for k in owner.unique()], dim=-1)
    dims = ["chain", "draw", "generator"]
    return xr.DataArray(means.numpy(), dims=dims, coords={"generator": generator_names(group)}, attrs=errors.attrs)
