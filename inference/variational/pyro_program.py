"""A model as a Pyro program with one sample site for each parameter, for guides to be fitted to."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import constraints

from bayes_rpp import BayesianModel
from bayes_rpp.types import Params
from inference.data import Model, Pair

Program = Callable[..., Any]


class PyroProgram:
    """A model as a Pyro program of ``arguments``, with one sample site for each parameter."""

    def __init__(self, model: Model, pair: Pair | None, device: torch.device) -> None:
        self.model = model.to(device)
        self.arguments: tuple[Tensor, ...] = () if pair is None else (pair[0].to(device), pair[1].to(device))
        example = model.initial_params(0)
        self.shapes = {name: value.shape for name, value in example.items()}
        self.dtypes = {name: value.dtype for name, value in example.items()}
        self.dtype = functools.reduce(torch.promote_types, self.dtypes.values())

    def __call__(self, *arguments: Tensor) -> None:
        """Run the program."""
        if isinstance(self.model, BayesianModel):
            self.model.pyro_model(*arguments)
            return
        example, constraint = self.model.example.items(), self.model.constraints
        params = {name: pyro.sample(name, _Anywhere(constraint[name], value)) for name, value in example}
        pyro.factor("log_density", self.model.log_density(params))

    @torch.no_grad()
    def check(self, guide: Program) -> None:
        """Raise ValueError if the guide's sites are not the parameters."""
        nodes = poutine.trace(guide).get_trace(*self.arguments).nodes.items()
        found = {
            name: node["value"].shape
            for name, node in nodes
            if node["type"] == "sample" and not (node["is_observed"] or node["infer"].get("is_auxiliary"))
        }
        if found != self.shapes:
            sites, expected = ({name: tuple(shape) for name, shape in s.items()} for s in (found, self.shapes))
            raise ValueError(f"the guide must have one sample site for each parameter, {expected}; it has {sites}.")

    @torch.no_grad()
    def draw(self, guide: Program, draws: int) -> tuple[Params, Tensor]:
        """Draws of the guide, as one chain on the CPU, and log p - log q of each."""
        rows, elbo = [], []
        for _ in range(draws):
            trace = poutine.trace(guide).get_trace(*self.arguments)
            joint = poutine.trace(poutine.replay(self, trace=trace)).get_trace(*self.arguments)
            elbo.append(joint.log_prob_sum() - trace.log_prob_sum())
            rows.append({name: trace.nodes[name]["value"].to("cpu", self.dtypes[name]) for name in self.shapes})
        return {name: torch.stack([row[name] for row in rows])[None] for name in self.shapes}, torch.stack(elbo)


class _Anywhere(dist.ImproperUniform):  # type: ignore[misc, unused-ignore]
    """The improper uniform distribution on a constraint; its only sample, for the shapes of guides, is the example."""

    def __init__(self, constraint: constraints.Constraint, example: Tensor) -> None:
        batch = example.ndim - constraint.event_dim
        support = constraints.independent(constraint, batch) if batch else constraint
        self._example = example
        super().__init__(support, (), example.shape)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008  (Pyro's own signature)
        """The example."""
        return self._example.expand(sample_shape + self._example.shape)
