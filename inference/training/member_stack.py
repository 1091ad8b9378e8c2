"""Many members' parameters as one stack, with one optimiser and one graph."""

from __future__ import annotations

import torch
from torch import Tensor

from bayes_rpp import BayesianModel
from bayes_rpp.types import Params
from inference.data import Model, Pair
from inference.density.transforms import to_constrained, to_free


class MemberStack:
    """Many members' parameters as one stack, with one optimiser and one graph for all of them."""

    def __init__(self, model: Model, seeds: list[int], lr: float, device: torch.device | str = "cpu") -> None:
        # Drawn before the move, so that a seed means the same on every device.
        starts = [to_free(model.initial_params(seed), model.constraints) for seed in seeds]
        self.model, self.members = model.to(device), len(seeds)
        self.free = {name: torch.stack([s[name] for s in starts]).to(device).requires_grad_() for name in starts[0]}
        self.optimizer = torch.optim.Adam(self.free.values(), lr=lr, fused=True)

    def step(self, batch: Pair | None, num_data: int) -> Tensor:
        """One step of Adam on -log joint / N of every member; returns the losses before it, (members,)."""
        losses = self._losses(batch, num_data)
        gradients = torch.autograd.grad(losses.sum(), list(self.free.values()))
        for leaf, gradient in zip(self.free.values(), gradients, strict=True):
            leaf.grad = gradient.contiguous()  # the fused optimiser misreads expanded gradients
        self.optimizer.step()
        return losses.detach()

    def params(self) -> Params:
        """A copy of the constrained parameters, on the CPU."""
        with torch.no_grad():
            params = to_constrained(self.free, self.model.constraints)
        return {name: value.detach().clone().cpu() for name, value in params.items()}

    def _losses(self, batch: Pair | None, num_data: int) -> Tensor:
        def loss(free: Params, x: Tensor | None, y: Tensor | None) -> Tensor:
            params = to_constrained(free, self.model.constraints)
            if isinstance(self.model, BayesianModel):
                return -self.model.log_joint(params, x, y, num_data=num_data) / num_data
            return -self.model.log_joint(params)

        x, y = batch or (None, None)
        if self.members == 1:  # the same, without the cost of vmap
            single = {name: value.squeeze(0) for name, value in self.free.items()}  # select would copy gradients
            return loss(single, None if x is None else x[0], None if y is None else y[0])[None]
        per_member = None if x is None else 0
        result: Tensor = torch.func.vmap(loss, in_dims=(0, per_member, per_member))(self.free, x, y)
        return result
