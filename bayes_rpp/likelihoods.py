"""Likelihoods: what the data are, given the network's output."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import pyro.distributions as dist
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import constraints

from bayes_rpp.types import Params

NOISE = "noise_variance"


class Likelihood(Protocol):
    """p(y | f, noise parameters), with the noise parameters among the model's parameters.

    Subclasses that have no parameters need only ``distribution``, ``log_prob`` and ``check``.
    """

    def parameters(self, num_outputs: int) -> Params:
        """Initial values of the likelihood's own parameters, constrained; empty if it has none."""
        return {}

    def priors(self, num_outputs: int) -> dict[str, dist.Distribution]:
        """The priors of these parameters."""
        return {}

    def constraints(self) -> dict[str, constraints.Constraint]:
        """The constraints of these parameters."""
        return {}

    def distribution(self, output: Tensor, params: Params) -> dist.Distribution:
        """The distribution of one observation for each row of outputs; its event is a whole observation."""

    def log_prob(self, output: Tensor, y: Tensor, params: Params) -> Float[Tensor, " batch"]:
        """log p(y | output) of each example, summed over its outputs."""

    def check(self, y: Tensor, num_outputs: int) -> None:
        """Raise ValueError or TypeError if y cannot be an observation."""


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
class Gaussian:
    """y ~ N(f(x), v I), independently over outputs, with the noise variance v known or learned.

    Parameters
    ----------
    noise_variance : v, in squared units of y: a number, or one for each output. Where it is learned, its initial value
        and the median of its prior.
    learned : learn v with the network's parameters, under a log-normal prior with median ``noise_variance`` and a scale
        of 2 in log v.
    per_output : learn one variance for each output, from a single number, rather than a shared one.
    floor : the least variance that is learned; it keeps the joint density bounded.

    Raises
    ------
    ValueError
        If noise_variance or floor is not positive, noise_variance does not exceed the floor, or a known variance is to
        be per_output without one number for each.
    TypeError
        If noise_variance is no number and no sequence of numbers.

    Examples
    --------
    >>> Gaussian(noise_variance=0.2)
    Gaussian(noise_variance=0.2, learned=False, per_output=False, floor=1e-06)
    """

    noise_variance: float | tuple[float, ...]
    learned: bool = False
    per_output: bool = False
    floor: float = 1e-6

    def __post_init__(self) -> None:
        # Plain numbers only: they are saved as they are.
        given = torch.as_tensor(self.noise_variance, dtype=torch.float64)
        if given.ndim > 1:
            raise ValueError(f"noise_variance must be a number or one for each output, got shape {tuple(given.shape)}.")
        plain = tuple(given.tolist()) if given.ndim else float(self.noise_variance)  # type: ignore[arg-type]
        object.__setattr__(self, "noise_variance", plain)
        for name, values in (("noise_variance", given), ("floor", torch.tensor(self.floor))):
            if not ((values > 0) & torch.isfinite(values)).all():
                raise ValueError(f"{name} must be positive and finite, got {values.tolist()}.")
        if self.learned and not (given > self.floor).all():
            raise ValueError(f"noise_variance {plain} must exceed the floor {self.floor}.")
        if self.per_output and not (self.learned or given.ndim):
            raise ValueError("per_output needs learned=True, or a noise_variance with one number for each output.")

    def _initial(self, num_outputs: int) -> Tensor:
        wanted = (num_outputs,) if self.per_output or isinstance(self.noise_variance, tuple) else ()
        return torch.tensor(self.noise_variance).expand(wanted).clone()

    def parameters(self, num_outputs: int) -> Params:
        """See Likelihood."""
        return {NOISE: self._initial(num_outputs)} if self.learned else {}

    def priors(self, num_outputs: int) -> dict[str, dist.Distribution]:
        """See Likelihood."""
        if not self.learned:
            return {}
        initial = self._initial(num_outputs)
        shifted = _AboveFloor(
            dist.LogNormal((initial - self.floor).log(), 2.0, validate_args=False),
            [torch.distributions.AffineTransform(self.floor, 1.0)],
            validate_args=False,
        )
        return {NOISE: shifted.to_event(initial.ndim)}

    def constraints(self) -> dict[str, constraints.Constraint]:
        """See Likelihood."""
        return {NOISE: constraints.greater_than(self.floor)} if self.learned else {}

    def noise(self, params: Params) -> Float[Tensor, "*outputs"] | float:
        """The noise variance, of every output or shared."""
        if self.learned:
            return params[NOISE]
        return torch.tensor(self.noise_variance) if isinstance(self.noise_variance, tuple) else self.noise_variance

    def distribution(self, output: Float[Tensor, "batch *outputs"], params: Params) -> dist.Distribution:
        """See Likelihood."""
        scale = torch.as_tensor(self.noise(params), dtype=output.dtype, device=output.device).sqrt()
        return dist.Normal(output, scale).to_event(output.ndim - 1)

    def log_prob(
        self, output: Float[Tensor, "batch *outputs"], y: Float[Tensor, "batch *outputs"], params: Params
    ) -> Float[Tensor, " batch"]:
        """See Likelihood."""
        noise = torch.as_tensor(self.noise(params), dtype=output.dtype, device=output.device)
        log_density = -0.5 * ((y - output).square() / noise + noise.log() + math.log(2 * math.pi))
        return log_density.flatten(1).sum(1)

    def check(self, y: Tensor, num_outputs: int) -> None:
        """See Likelihood."""
        if isinstance(self.noise_variance, tuple) and len(self.noise_variance) != num_outputs:
            raise ValueError(f"noise_variance has {len(self.noise_variance)} numbers for {num_outputs} outputs.")
        if y.shape[-1] != num_outputs or y.ndim < 2:
            raise ValueError(
                f"y has shape {tuple(y.shape)}, but the network has {num_outputs} outputs: (batch, {num_outputs})."
            )
        if not y.is_floating_point():
            raise TypeError(f"a Gaussian likelihood needs floating-point y, got {y.dtype}.")


@dataclass(frozen=True)
class Categorical(Likelihood):
    """y ~ Categorical(softmax(f(x))) for class labels y in 0..D-1, with the outputs as logits.

    Examples
    --------
    >>> Categorical().log_prob(torch.zeros(2, 4), torch.tensor([0, 3]), {})
    tensor([-1.3863, -1.3863])
    """

    def distribution(self, output: Float[Tensor, "batch classes"], params: Params) -> dist.Distribution:
        """See Likelihood."""
        return dist.Categorical(logits=output)

    def log_prob(
        self, output: Float[Tensor, "batch classes"], y: Int[Tensor, " batch"], params: Params
    ) -> Float[Tensor, " batch"]:
        """See Likelihood."""
        return -torch.nn.functional.cross_entropy(output, y, reduction="none")

    def check(self, y: Tensor, num_outputs: int) -> None:
        """See Likelihood."""
        if y.ndim != 1 or y.is_floating_point():
            raise TypeError(
                f"a Categorical likelihood needs integer labels of shape (batch,), got {tuple(y.shape)} {y.dtype}."
            )
        if y.numel() and not (int(y.min()) >= 0 and int(y.max()) < num_outputs):
            raise ValueError(f"labels must lie in 0..{num_outputs - 1}, got {int(y.min())}..{int(y.max())}.")
