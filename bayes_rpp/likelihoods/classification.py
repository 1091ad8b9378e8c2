"""Classes: labels, and yes or no for each output."""

from __future__ import annotations

from dataclasses import dataclass

import pyro.distributions as dist
import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from bayes_rpp.likelihoods.likelihood import Likelihood, check_width
from bayes_rpp.types import Params


class _Label(dist.Categorical):
    """A label, whose mean and variance are those of its one-hot vector, (batch, classes)."""

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)


class _YesOrNo(dist.Bernoulli):
    """Bernoulli variables whose values may be of any type."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value.to(self.logits))


@dataclass(frozen=True)
class Categorical(Likelihood):
    """y ~ Categorical(softmax(f(x))) for class labels y in 0..D-1 of any integer type, with the outputs as logits.

    Mean and variance of the predictive are those of the one-hot label.

    Examples
    --------
    >>> Categorical().log_prob(torch.zeros(2, 4), torch.tensor([0, 3]), {})
    tensor([-1.3863, -1.3863])
    """

    def distribution(self, output: Float[Tensor, "batch classes"], params: Params) -> dist.Distribution:
        """See Likelihood."""
        return _Label(logits=output)

    def log_prob(
        self, output: Float[Tensor, "batch classes"], y: Int[Tensor, " batch"], params: Params
    ) -> Float[Tensor, " batch"]:
        """See Likelihood."""
        return -torch.nn.functional.cross_entropy(output, y.long(), reduction="none")

    def check(self, y: Tensor, num_outputs: int) -> None:
        """See Likelihood."""
        if y.ndim != 1 or y.is_floating_point():
            raise TypeError(
                f"a Categorical likelihood needs integer labels of shape (batch,), got {tuple(y.shape)} {y.dtype}."
            )
        if y.numel() and not (int(y.min()) >= 0 and int(y.max()) < num_outputs):
            raise ValueError(f"labels must lie in 0..{num_outputs - 1}, got {int(y.min())}..{int(y.max())}.")


@dataclass(frozen=True)
class Bernoulli(Likelihood):
    """y ~ Bernoulli(1 / (1 + exp(-f(x)))) for y in {0, 1}, independently over outputs, with the outputs as logits.

    y has the shape (batch, outputs), and holds booleans or the numbers 0 and 1 of any type. Mean and variance of the
    predictive are those of y, p and p (1 - p).

    Examples
    --------
    >>> Bernoulli().log_prob(torch.zeros(2, 3), torch.tensor([[0, 1, 1], [1, 0, 0]]), {})
    tensor([-2.0794, -2.0794])
    """

    def distribution(self, output: Float[Tensor, "batch *outputs"], params: Params) -> dist.Distribution:
        """See Likelihood."""
        return _YesOrNo(logits=output).to_event(output.ndim - 1)

    def log_prob(
        self, output: Float[Tensor, "batch *outputs"], y: Num[Tensor, "batch *outputs"], params: Params
    ) -> Float[Tensor, " batch"]:
        """See Likelihood."""
        # log(1 + e^f); that of torch, softplus, has no curvature beyond f = 20.
        return (y.to(output) * output - torch.logaddexp(output, torch.zeros_like(output))).flatten(1).sum(1)

    def check(self, y: Tensor, num_outputs: int) -> None:
        """See Likelihood."""
        check_width(y, num_outputs)
        wrong = (y != 0) & (y != 1)
        if wrong.any():
            raise ValueError(f"a Bernoulli likelihood needs y of 0 and 1, got {y[wrong][0].item()}.")
