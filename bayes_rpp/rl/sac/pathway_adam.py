r"""Adam with the residual pathway prior as a decoupled decay of the dense part.

    W <- Adam(W, grad L),    W <- W - lambda lr (W - P W)

P is the projection on equivariant maps, and lambda the decay. Adam divides gradients by their root mean square r, so
that the two balance where grad L = -lambda r (W - P W): at the mode of a prior whose precision for the dense part is
lambda r for each unit of the mean loss L. If L is -log p(y | x) on average over N transitions, that is a dense variance
of 1 / (N lambda r) (Loshchilov & Hutter, ICLR 2019, for decays; r differs from weight to weight and in time, so this is
no fixed prior). A penalty in L would be divided by r as well, and hardly acts where gradients are large.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from bayes_rpp.rl.sac.stacked_linear import StackedRPPLinear

_EVERY = 10  # steps between decays: a projection costs about as much as a step


class PathwayAdam(torch.optim.Adam):
    """Adam, and every ten steps the decay of ten steps.

    Parameters
    ----------
    params : as Adam's.
    layers : whose dense parts decay.
    decay : lambda; 0 is plain Adam, infinity keeps the layers equivariant.
    others : of Adam.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], *, layers: Iterable[StackedRPPLinear] = (), decay: float, **others: Any
    ) -> None:
        if not decay >= 0:
            raise ValueError(f"decay must not be negative, got {decay}.")
        super().__init__(params, **others)
        self._layers, self._decay = list(layers), decay
        self.param_groups[0]["steps"] = 0  # saved with the state

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_layers": self._layers, "_decay": self._decay}

    def step(self, closure: Any = None) -> Any:
        """A step of Adam, and the decay when it is due."""
        loss, group = super().step(closure), self.param_groups[0]
        group["steps"] += 1
        if self._decay and (group["steps"] % _EVERY == 0 or self._decay == float("inf")):
            share = min(1.0, self._decay * group["lr"] * _EVERY)
            for layer in self._layers:
                layer.shrink_dense(share)
        return loss
