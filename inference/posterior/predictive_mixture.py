r"""The posterior predictive as an equal mixture over draws, with its quantiles.

    p(y | x, data) = 1/S sum_s p(y | f_s(x), theta_s),     F(y) = 1/S sum_s F_s(y)

A quantile of the mixture lies between the least and the largest of its components', and is found there by bisection.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp import Likelihood
from bayes_rpp.seeding import seeded
from bayes_rpp.types import Params
from bayes_rpp.validation import without_validation
from inference.memory import slices_that_fit
from inference.posterior.map_draws import map_draws

if TYPE_CHECKING:
    from scipy import stats

_HALVINGS = 50  # of the interval that holds a quantile
_AT_ONCE = 12  # arrays of the size of the draws' outputs that a bisection holds


@dataclass(frozen=True)
class PredictiveMixture:
    """The distribution of observations at a batch of inputs.

    Attributes
    ----------
    likelihood : of the model.
    outputs : the network's, (draw, batch, *output).
    params : of each draw, name -> (draw, *shape), those that the likelihood has.
    """

    likelihood: Likelihood
    outputs: Float[Tensor, "draw batch *output"]
    params: Params

    def components(self) -> Iterator[dist.Distribution]:
        """The distribution of observations under each draw."""
        for index, output in enumerate(self.outputs):
            yield self.likelihood.distribution(output, {name: value[index] for name, value in self.params.items()})

    def quantile(self, probability: float) -> Float[Tensor, "batch *event"]:
        """Of every output by itself, in float64. Raises TypeError if the observations are labels, or of a distribution
        whose quantiles are not known.
        """
        rows = slices_that_fit(slice(0, self.outputs.shape[1]), _AT_ONCE * 8 * self.outputs[:, :1].numel())
        return torch.cat([_of_rows(self, some, probability) for some in rows])

    def log_density(self, y: Tensor) -> Float[Tensor, " batch"]:
        """log p(y_i | x_i, data) of every example, in nats, in float64."""
        with without_validation():
            values = map_draws(
                lambda drawn: self.likelihood.log_prob(drawn[0], y, drawn[1]), (self.outputs, self.params)
            )
        return values.double().logsumexp(0) - np.log(len(values))

    def sample(self, seed: int) -> Float[Tensor, "draw batch *event"]:
        """One observation at each input under every draw."""
        with without_validation(), seeded(seed, torch.device("cpu")):
            return torch.stack([law.sample() for law in self.components()])


def _of_rows(mixture: PredictiveMixture, rows: slice, probability: float) -> Float[Tensor, "batch *event"]:
    part = PredictiveMixture(mixture.likelihood, mixture.outputs[:, rows], mixture.params)
    law, is_count = _frozen(part)
    low, high = (edge(law.ppf(probability), axis=0) for edge in (np.min, np.max))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        middle = np.floor(middle) if is_count else middle
        below = law.cdf(middle).mean(0) < probability
        low, high = np.where(below, middle + is_count, low), np.where(below, high, middle)
        if is_count and (low >= high).all():
            break
    return torch.from_numpy(np.asarray(high if is_count else (low + high) / 2))


def _frozen(mixture: PredictiveMixture) -> tuple[stats.distributions.rv_frozen, bool]:
    """The components as one distribution of SciPy, with arrays (draw, batch, *event), and whether it is of counts."""
    from scipy import stats

    with without_validation():
        laws = [getattr(law, "base_dist", law) for law in mixture.components()]
    kind = type(laws[0])
    if kind not in _FROZEN:
        raise TypeError(
            f"observations under {mixture.likelihood!r} have no quantiles here: `sample` draws them, and `mean` has "
            "the probabilities of labels."
        )
    name_there, names = _FROZEN[kind]
    arrays = {name: torch.stack([getattr(law, own) for law in laws]).double().numpy() for name, own in names.items()}
    return getattr(stats, name_there)(**arrays), kind is dist.Poisson


_FROZEN = {
    dist.Normal: ("norm", {"loc": "loc", "scale": "scale"}),
    dist.Laplace: ("laplace", {"loc": "loc", "scale": "scale"}),
    dist.StudentT: ("t", {"loc": "loc", "scale": "scale", "df": "df"}),
    dist.Poisson: ("poisson", {"mu": "rate"}),
}
