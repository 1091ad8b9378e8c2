"""What a likelihood says of itself, and what follows from it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol, runtime_checkable

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints
from torch.func import grad, vmap

from bayes_rpp.forward_mode import hessian, jvp
from bayes_rpp.log_density import check_constraint
from bayes_rpp.types import Params
from bayes_rpp.validation import without_validation


@runtime_checkable
class Likelihood(Protocol):
    """p(y | f, phi): the distribution of an observation y, given the network's output f and parameters phi of its own.

    A class that derives from it needs ``distribution`` and ``check``; with parameters of its own also ``parameters``,
    ``priors`` and ``constraints``, which have the same names. An object with all six methods is a likelihood, too.
    ``predict`` takes the mean and the variance of y from the ``distribution``.

    Two more members are optional. ``output_curvature(output, y, params)``, (batch, size, size), is the curvature of
    -log p in the flattened output of each example, where it is not to be the Hessian by automatic differentiation: the
    Fisher information, for a log density that is not concave or has kinks. ``gaussian`` is the ``Gaussian`` that the
    likelihood is, for what exists in closed form for that one alone.

    Examples
    --------
    >>> class Exponential(Likelihood):
    ...     def distribution(self, output, params):
    ...         return dist.Exponential(output.exp()).to_event(1)
    ...
    ...     def check(self, y, num_outputs):
    ...         if y.shape[1:] != (num_outputs,) or not (y > 0).all():
    ...             raise ValueError(f"waiting times must be positive, of shape (batch, {num_outputs}).")
    """

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"

    def parameters(self, num_outputs: int) -> Params:
        """Initial values of the likelihood's own parameters, constrained; empty if it has none."""
        return {}

    def priors(self, num_outputs: int) -> dict[str, dist.Distribution]:
        """The priors of these parameters; the event of each is the whole parameter."""
        return {}

    def constraints(self) -> dict[str, constraints.Constraint]:
        """The constraints of these parameters, ``constraints.real`` for those that have none."""
        return {}

    @abstractmethod
    def distribution(self, output: Tensor, params: Params) -> dist.Distribution:
        """The distribution of one observation for each row of outputs; its event is a whole observation."""

    def log_prob(self, output: Tensor, y: Tensor, params: Params) -> Float[Tensor, " batch"]:
        """log p(y | output) of each example, summed over its outputs; by default that of the distribution."""
        result: Tensor = self.distribution(output, params).log_prob(y)
        return result

    @abstractmethod
    def check(self, y: Tensor, num_outputs: int) -> None:
        """Raise ValueError or TypeError if y cannot be an observation."""


def check_likelihood(likelihood: Likelihood, num_outputs: int) -> None:
    """Raise TypeError unless a likelihood has its methods, ValueError unless each of its parameters has a prior and a
    constraint that fit it.
    """
    methods = ("parameters", "priors", "constraints", "distribution", "log_prob", "check")
    if missing := [name for name in methods if not callable(getattr(likelihood, name, None))]:
        raise TypeError(
            f"likelihood {likelihood!r} has no method {missing[0]!r}: derive its class from bayes_rpp.Likelihood."
        )
    kind, values = type(likelihood).__name__, likelihood.parameters(num_outputs)
    priors, bounds = likelihood.priors(num_outputs), likelihood.constraints()
    for what, found in (("priors", set(priors)), ("constraints", set(bounds))):
        if differing := found ^ set(values):
            raise ValueError(
                f"{kind}.{what} are of {sorted(found)}, but its parameters are {sorted(values)}: "
                f"they differ in {min(differing)!r}."
            )
    for name, value in values.items():
        check_constraint(name, bounds[name])
        if not bounds[name].check(value).all():
            raise ValueError(f"{kind}'s initial {name!r} = {value.tolist()} breaks its constraint {bounds[name]}.")
        if (priors[name].batch_shape, priors[name].event_shape) != ((), value.shape):
            raise ValueError(
                f"{kind}'s prior of {name!r} must have one event of shape {tuple(value.shape)}, got events of shape "
                f"{tuple(priors[name].event_shape)} in a batch of {tuple(priors[name].batch_shape)}: see .to_event()."
            )


def event_shape(likelihood: Likelihood, num_outputs: int) -> torch.Size:
    """The shape of one observation, of a network whose outputs are vectors."""
    with without_validation():
        law = likelihood.distribution(torch.zeros(1, num_outputs), likelihood.parameters(num_outputs))
    result: torch.Size = law.event_shape
    return result


def output_curvature(
    likelihood: Likelihood, output: Float[Tensor, "batch *output"], y: Tensor, params: Params
) -> Float[Tensor, "batch size size"]:
    """F_i of every example in its flattened output: what the likelihood says, or -d^2 log p(y_i | f_i) / d f_i^2."""
    own = getattr(likelihood, "output_curvature", None)
    if own is not None:
        said: Tensor = own(output, y, params)
        return said

    def negative(f: Tensor, label: Tensor) -> Tensor:
        return -likelihood.log_prob(f.reshape(output.shape[1:])[None], label[None], params).sum()

    result: Tensor = vmap(hessian(negative))(output.flatten(1), y)
    return result


def output_curvature_product(
    likelihood: Likelihood,
    output: Float[Tensor, "batch *output"],
    y: Tensor,
    params: Params,
    vector: Float[Tensor, "batch *output"],
) -> Float[Tensor, "batch *output"]:
    """F_i v_i of every example; without a matrix where F_i is a Hessian."""
    is_gaussian = getattr(likelihood, "gaussian", None) is not None  # whose curvature is the Hessian
    if getattr(likelihood, "output_curvature", None) is not None and not is_gaussian:
        matrices = output_curvature(likelihood, output, y, params)
        return (matrices @ vector.flatten(1)[..., None]).reshape(vector.shape)
    slope = grad(lambda f: -likelihood.log_prob(f, y, params).sum())
    result: Tensor = jvp(slope, (output,), (vector,))[1]
    return result


def diagonal_curvature(
    curvature: Float[Tensor, "*outputs"], output: Float[Tensor, "batch *output"]
) -> Float[Tensor, "batch size size"]:
    """F_i of outputs that are independent of each other, from a number for each, or for those of every example."""
    return torch.diag_embed(curvature.expand_as(output).flatten(1))


def check_width(y: Tensor, num_outputs: int) -> None:
    """Raise ValueError unless y has a number for each output."""
    if y.ndim < 2 or y.shape[-1] != num_outputs:
        raise ValueError(
            f"y has shape {tuple(y.shape)}, but the network has {num_outputs} outputs: (batch, {num_outputs})."
        )
