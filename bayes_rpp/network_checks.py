"""What a network must be for each example to have a likelihood of its own."""

from __future__ import annotations

import copy
import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bayes_rpp.seeding import seeded
from bayes_rpp.stateless import StatelessNetwork
from bayes_rpp.types import Params

_LARGEST_DIFFERENCE = 1e-3  # of the outputs' size, that rounding may make between a batch and its rows


def own_copy(network: nn.Module) -> nn.Module:
    """A copy of the modules, parameters and buffers, which no one else changes.

    Raises
    ------
    ValueError
        If a parameter has no shape yet, or the network cannot be copied.
    """
    for name, value in itertools.chain(network.named_parameters(), network.named_buffers()):
        if is_lazy(value):
            raise ValueError(
                f"{name!r} has no shape yet, as in lazy layers: evaluate the network on some inputs before a model is "
                "made of it."
            )
    try:
        return copy.deepcopy(network)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"this {type(network).__name__} cannot be copied ({error}). A module holds tensors that it has computed, "
            "as torch.nn.utils.weight_norm does: take torch.nn.utils.parametrizations.weight_norm, or compute them in "
            "forward."
        ) from error


@torch.no_grad()
def check_examples_are_separate(network: StatelessNetwork, params: Params, x: Float[Tensor, "batch *input"]) -> None:
    """Evaluate three examples twice, and each alone.

    Raises
    ------
    TypeError
        If the network does not give a tensor.
    ValueError
        If it does not give one row for each example, its outputs at the same inputs differ (the network draws random
        numbers, or changes its state), or those of an example depend on the others, by more than 0.001 of the outputs'
        size.
    """
    rows = x[[0, len(x) // 2, len(x) - 1]]
    with seeded(0, rows.device):
        together, again = network(params, rows), network(params, rows)
        alone = [network(params, row[None]) for row in rows]
    if not isinstance(together, Tensor):
        raise TypeError(f"the network must give a tensor, (batch, *output), but gave a {type(together).__name__}.")
    for given, count in ((together, len(rows)), *((one, 1) for one in alone)):
        if given.shape != (count, *together.shape[1:]):
            raise ValueError(
                f"a batch of {count} gives outputs of shape {tuple(given.shape)}, but the network must give one row "
                f"for each example, (batch, *output); a batch of {len(rows)} gives {tuple(together.shape)}."
            )
    if _differ(together, again):
        raise ValueError(
            "two evaluations of this network with the same parameters at the same inputs differ: its forward draws "
            "random numbers (as functional.dropout without `training=self.training` does) or changes what it holds. A "
            "likelihood needs one output for one input: take modules, as nn.Dropout, which rest in evaluation, or "
            "make the noise a likelihood's."
        )
    if _differ(together, torch.cat(alone)):
        raise ValueError(
            "the output of this network for an example depends on the other examples of the batch (as a softmax over "
            "dimension 0, attention between rows, or statistics of the batch make it), so that an example has no "
            "likelihood of its own. Let forward treat each row of x alone; what belongs together is one example."
        )


def _differ(one: Tensor, other: Tensor) -> bool:
    """By more than rounding. What overflows at these weights in both does not count: training may start elsewhere."""
    finite = one.isfinite()
    if not torch.equal(finite, other.isfinite()):
        return True
    size = one[finite].abs().amax() if finite.any() else one.new_zeros(())
    return bool(((one - other)[finite].abs() > _LARGEST_DIFFERENCE * size).any())


def check_finite(name: str, value: Tensor) -> None:
    """Raise ValueError, with the place of the first one, if a number is NaN or infinite."""
    bad = ~torch.isfinite(value)
    if bad.any():
        where = tuple(int(i) for i in bad.nonzero()[0])
        raise ValueError(f"{name} holds {int(bad.sum())} NaN or infinite number(s), the first at index {where}.")
