"""A network as a pure function of its parameters and inputs, in any number of threads.

``functional_call`` puts tensors into a module while it runs: on a module that threads share, each would compute with
the parameters of another. So every thread has a copy of the modules, which holds no tensors of its own, and which is
always in evaluation mode: the network that was given is never touched, nor is the global random state.
"""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from bayes_rpp.types import Params


class StatelessNetwork:
    """``f(params, x)`` of a network, with its buffers as they are at the time of the call.

    Parameters
    ----------
    network : whose modules are copied by each thread that calls; what happens to them later is not seen, but for their
        types, devices and buffers.
    frozen : values of parameters that calls do not give.

    Raises
    ------
    ValueError
        If a layer normalises by the statistics of a batch: examples have no outputs of their own then.
    """

    def __init__(self, network: nn.Module, frozen: Params | None = None) -> None:
        for name, module in network.named_modules():
            if isinstance(module, _BatchNorm) and (module.running_mean is None or not module.num_batches_tracked):
                raise ValueError(
                    f"the layer {name!r} is a {type(module).__name__} without statistics of earlier training: its "
                    "outputs depend on the whole batch, so that an example has no likelihood of its own. Take "
                    "nn.GroupNorm or nn.LayerNorm, or no normalisation."
                )
        self.network, self.frozen, self._local = network, frozen or {}, threading.local()
        self._traced = self._evaluated_copy()  # a compiler only reads it, in whatever thread

    @property
    def module(self) -> nn.Module:
        """The modules that this thread evaluates: the place for hooks."""
        if torch.compiler.is_compiling():
            return self._traced
        if not hasattr(self._local, "module"):
            self._local.module = self._evaluated_copy()
        module: nn.Module = self._local.module
        return module

    def _evaluated_copy(self) -> nn.Module:
        """The modules in evaluation mode, with the same tensors."""
        tensors = itertools.chain(self.network.parameters(), self.network.buffers())
        return copy.deepcopy(self.network, {id(tensor): tensor for tensor in tensors}).eval()

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        """The output for the parameters, which are all of the network that are not frozen."""
        given = {**dict(self.network.named_buffers()), **self.frozen, **params}
        result: Tensor = functional_call(self.module, given, (x,))
        if torch.is_autocast_enabled(x.device.type) and isinstance(result, Tensor) and result.dtype == torch.bfloat16:
            return result.to(torch.float32)  # a likelihood of rounded outputs would be wrong
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> StatelessNetwork:
        return StatelessNetwork(copy.deepcopy(self.network, memo), copy.deepcopy(self.frozen, memo))

    def __reduce__(self) -> tuple[type[StatelessNetwork], tuple[nn.Module, Params]]:
        return StatelessNetwork, (self.network, self.frozen)


def without_weights(network: nn.Module, weights: Collection[str], device: torch.device | str) -> nn.Module:
    """A copy of the modules on a device, whose parameters of these names take no memory."""
    empty = {
        id(value): nn.Parameter(torch.empty_like(value, device="meta"), value.requires_grad)
        for name, value in network.named_parameters()
        if name in weights
    }
    return copy.deepcopy(network, empty)._apply(lambda value: value if value.is_meta else value.to(device))
