"""Draws of one posterior that another run starts from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bayes_rpp import BayesianModel
from bayes_rpp.types import Params
from inference.data import Model
from inference.posterior.posterior import Posterior


def latest_draws(model: Model, initial: Params, posterior: Posterior, numbers: Sequence[int]) -> Params:
    """Some draws of a posterior, name -> (draw, *shape): number 0, 1, ... are the last draw of each of its chains, then
    the draws before, and again from the first. Variances that it had no hyperpriors for are those of ``initial``, the
    model's own initial state. Raises TypeError if it is no Posterior, and ValueError if its parameters are not those of
    the model.
    """
    if not isinstance(posterior, Posterior):
        raise TypeError(f"start must be a Posterior, such as MAP().fit(...), got {type(posterior).__name__}.")
    samples = dict(posterior.samples)
    for name in model.hyperpriors if isinstance(model, BayesianModel) else ():
        samples.setdefault(name, initial[name].expand(posterior.chains, posterior.draws))
    found = {name: tuple(value.shape[2:]) for name, value in samples.items()}
    expected = {name: tuple(value.shape) for name, value in initial.items()}
    if found != expected:
        hint = "" if found.keys() == expected.keys() else "; see Posterior.in_parametrization for residual layers"
        raise ValueError(f"start is of another model: it has parameters {found}, expected {expected}{hint}.")
    index = torch.as_tensor(list(numbers), dtype=torch.int64)
    chains, draws = index % posterior.chains, -1 - index.div(posterior.chains, rounding_mode="floor") % posterior.draws
    return {name: value[chains, draws] for name, value in samples.items()}


def check_start(free: Tensor) -> None:
    """Raise ValueError unless free coordinates of a start are finite."""
    if not free.isfinite().all():
        raise ValueError("start holds parameters that are not finite, or on the boundary of their constraint.")
