"""Values and gradients, compiled by ``torch.compile`` where a run is long enough to pay for it.

A compiler fuses small operations, whose cost is memory traffic and overhead; matrix products stay what they are. It
takes a time that grows with the number of operations, less when torch's cache on disk has the graph of an earlier run.
"""

from __future__ import annotations

import logging
import types
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.validation import without_validation
from inference.memory import Allocations

logger = logging.getLogger(__name__)

Compile: TypeAlias = Literal["auto"] | bool

# Of a nominal core, not of this one: with a clock, the same seed would give other bits now and then.
_SECONDS_PER_OPERATION, _SECONDS_PER_BYTE = 7e-6, 2e-10
_SHARE_SAVED = 0.6  # of operations and traffic
_COMPILATION, _COMPILATION_PER_OPERATION = 10.0, 0.05  # seconds, the first time
_LEAST_GAIN = 2.0  # seconds saved for each that the compilation takes
_FEWEST_CALLS = 100  # that are worth one to find out


def check_compile(setting: object) -> None:
    """Raise ValueError unless a setting is "auto", True or False."""
    if not (setting == "auto" or isinstance(setting, bool)):
        raise ValueError(f"compile must be 'auto', True or False, got {setting!r}.")


class GradientGraph:
    """A function with one value for each member or chain, and the gradient of their sum.

    Parameters
    ----------
    function : a pure function of tensors and of dicts of tensors.
    """

    def __init__(self, function: Callable[..., Float[Tensor, " member"]]) -> None:
        self._eager = self._function = function

    def __call__(
        self, leaves: Sequence[Tensor], *arguments: Any
    ) -> tuple[Float[Tensor, " member"], tuple[Tensor, ...]]:
        """The values, and the gradient of their sum in some of the tensors among the arguments."""
        if self._function is not self._eager:
            try:
                return _differentiated(self._function, leaves, arguments)
            except Exception as error:  # the compiler's are of many kinds; what is wrong without it is raised below
                logger.warning("not compiled, so that steps take longer: %s", _first_lines(error))
                self._function = self._eager
        return _differentiated(self._eager, leaves, arguments)

    def prepare(self, compile: Compile, calls: int, leaves: Sequence[Tensor], *arguments: Any) -> None:
        """Compile the function if it is to be, given how often it will be called and with what."""
        if compile is False:
            return
        if compile == "auto" and (calls < _FEWEST_CALLS or not self._pays(calls, leaves, arguments)):
            return
        logger.info("compiling the gradient, which takes seconds to minutes")
        with without_validation():  # torch's compiler switches it off for good
            self._function = torch.compile(_with_code_of_its_own(self._eager), dynamic=False, fullgraph=True)

    def _pays(self, calls: int, leaves: Sequence[Tensor], arguments: tuple[Any, ...]) -> bool:
        with Allocations() as work:
            _differentiated(self._eager, leaves, arguments)
        each = _SHARE_SAVED * (work.operations * _SECONDS_PER_OPERATION + work.bytes * _SECONDS_PER_BYTE)
        needed = _COMPILATION + _COMPILATION_PER_OPERATION * work.operations
        return calls * each > _LEAST_GAIN * needed


def _differentiated(
    function: Callable[..., Tensor], leaves: Sequence[Tensor], arguments: tuple[Any, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    values = function(*arguments)
    return values.detach(), torch.autograd.grad(values.sum(), leaves, allow_unused=True, materialize_grads=True)


def _with_code_of_its_own(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function that calls another: the compiler keeps a few graphs for each code object, and then gives up."""

    def call(*arguments: Any) -> Tensor:
        return function(*arguments)

    return types.FunctionType(call.__code__.replace(), call.__globals__, closure=call.__closure__)


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])}"
