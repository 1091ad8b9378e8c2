"""Noise around the network's output, with one positive parameter that is known or learned."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, fields

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

from bayes_rpp.likelihoods.likelihood import Likelihood, check_width
from bayes_rpp.types import Params

Positive = float | tuple[float, ...]


class _AboveFloor(dist.TransformedDistribution):
    """A positive distribution shifted by an AffineTransform, whose support torch would take for the whole line."""

    @property
    def support(self) -> constraints.Constraint:
        return constraints.greater_than(self.transforms[-1].loc)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density on the value's own device: a model's priors stay on the CPU."""
        log_excess = (value - self.transforms[-1].loc).log()
        loc, scale = (part.to(value.device) for part in (self.base_dist.loc, self.base_dist.scale))
        return dist.Normal(loc, scale, validate_args=False).log_prob(log_excess) - log_excess


@dataclass(frozen=True)
class NoiseParameter:
    """A positive parameter of the noise, one number or one for each output: known, or learned under a log-normal prior.

    ``field`` is what the likelihood calls it, ``name`` what it is called among the model's parameters, and ``spread``
    the scale of its prior, in its logarithm. Raises ValueError if the numbers are impossible.
    """

    field: str
    name: str
    value: Positive
    learned: bool
    per_output: bool
    floor: float
    spread: float

    def __post_init__(self) -> None:
        given = torch.as_tensor(self.value, dtype=torch.float64)
        for name, values in ((self.field, given), ("floor", torch.tensor(self.floor))):
            if not ((values > 0) & torch.isfinite(values)).all():
                raise ValueError(f"{name} must be positive and finite, got {values.tolist()}.")
        if self.learned and not (given > self.floor).all():
            raise ValueError(f"{self.field} {self.value} must exceed the floor {self.floor}.")
        if self.per_output and not (self.learned or given.ndim):
            raise ValueError(f"per_output needs learned=True, or a {self.field} with one number for each output.")

    def initial(self, num_outputs: int) -> Tensor:
        """Its initial value; raises ValueError if it has numbers for another count of outputs."""
        if isinstance(self.value, tuple) and len(self.value) != num_outputs:
            raise ValueError(f"{self.field} has {len(self.value)} numbers for {num_outputs} outputs.")
        wanted = (num_outputs,) if self.per_output or isinstance(self.value, tuple) else ()
        return torch.tensor(self.value).expand(wanted).clone()

    def prior(self, num_outputs: int) -> dist.Distribution:
        """Log-normal above the floor, with the initial value as its median."""
        initial = self.initial(num_outputs)
        shifted = _AboveFloor(
            dist.LogNormal((initial - self.floor).log(), self.spread, validate_args=False),
            [torch.distributions.AffineTransform(self.floor, 1.0)],
            validate_args=False,
        )
        return shifted.to_event(initial.ndim)

    def like(self, params: Params, output: Tensor) -> Tensor:
        """Its value, in the type and on the device of the outputs."""
        value = params[self.name] if self.learned else torch.as_tensor(self.value, dtype=torch.float64)
        return value.to(device=output.device, dtype=output.dtype)


def plain_numbers(field: str, given: object) -> Positive:
    """A number or a tuple of numbers, which are saved as they are; raises ValueError for anything of more dimensions,
    and TypeError for what is no number.
    """
    values = torch.as_tensor(given, dtype=torch.float64)
    if values.ndim > 1:
        raise ValueError(f"{field} must be a number or one for each output, got shape {tuple(values.shape)}.")
    return tuple(values.tolist()) if values.ndim else float(given)  # type: ignore[arg-type]


def _repeated(value: object) -> str:
    """The value as Python reads it; numbers that are all alike are written once."""
    alike = isinstance(value, tuple) and len(value) > 1 and len(set(value)) == 1
    return f"({value[0]!r},) * {len(value)}" if alike else repr(value)  # type: ignore[index, arg-type]


class NoiseAroundOutput(Likelihood):
    """y = f(x) + noise, independent over outputs: what is common to its kinds, which are dataclasses."""

    def __repr__(self) -> str:
        shown = (f"{each.name}={_repeated(getattr(self, each.name))}" for each in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(shown)})"

    @property
    @abstractmethod
    def noise_parameter(self) -> NoiseParameter:
        """The parameter of the noise."""

    def parameters(self, num_outputs: int) -> Params:
        """See Likelihood."""
        noise = self.noise_parameter
        return {noise.name: noise.initial(num_outputs)} if noise.learned else {}

    def priors(self, num_outputs: int) -> dict[str, dist.Distribution]:
        """See Likelihood."""
        noise = self.noise_parameter
        return {noise.name: noise.prior(num_outputs)} if noise.learned else {}

    def constraints(self) -> dict[str, constraints.Constraint]:
        """See Likelihood."""
        noise = self.noise_parameter
        return {noise.name: constraints.greater_than(noise.floor)} if noise.learned else {}

    def noise(self, params: Params, output: Tensor) -> Float[Tensor, "*outputs"]:
        """The noise's parameter, of every output or shared, in the type and on the device of the outputs."""
        return self.noise_parameter.like(params, output)

    def check(self, y: Tensor, num_outputs: int) -> None:
        """See Likelihood."""
        self.noise_parameter.initial(num_outputs)  # raises
        check_width(y, num_outputs)
        if not y.is_floating_point():
            raise TypeError(f"a {type(self).__name__} likelihood needs floating-point y, got {y.dtype}.")
