"""Members that start from those of an earlier posterior."""

from __future__ import annotations

from collections.abc import Sequence

from bayes_rpp.types import Params
from inference.data import Model
from inference.density.latest_draws import check_start, latest_draws
from inference.density.unconstrained import to_free
from inference.posterior.posterior import Posterior


def check_member_starts(model: Model, start: Posterior | None, members: int) -> None:
    """Raise ValueError or TypeError unless a posterior has a finite start for every member."""
    if start is None:
        return
    initial = model.initial_params(0)
    for member in range(members):  # one by one, since all of them may be larger than memory
        for value in to_free(latest_draws(model, initial, start, [member]), model.constraints).values():
            check_start(value)
    if start.chains != members:
        fitting = "MAP" if start.chains == 1 else f"DeepEnsemble(members={start.chains})"
        raise ValueError(
            f"start has {start.chains} chain(s), and {members} member(s) are trained, each of which starts from one: "
            f"take {fitting}, or a start with as many chains as members."
        )


def member_starts(model: Model, start: Posterior, numbers: Sequence[int]) -> Params:
    """The last draws of some chains, name -> (member, *shape), in the types of the model's parameters."""
    initial = model.initial_params(0)
    draws = latest_draws(model, initial, start, numbers)
    return {name: value.to(initial[name].dtype) for name, value in draws.items()}
