"""What a posterior predicts at a batch of inputs: moments, intervals, draws and scores of observations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp import Categorical, Likelihood
from bayes_rpp.types import Params, as_tensor
from bayes_rpp.validation import without_validation
from inference.posterior.predictive_mixture import PredictiveMixture

if TYPE_CHECKING:
    import pandas as pd

_NOT_KEPT = (
    "the samples of this prediction were not kept, since it was made with keep_samples=False: take predict(x) for "
    "samples and moments, or outputs(x) for samples alone."
)


class Interval(NamedTuple):
    """The ends of an interval, each (batch, *event)."""

    lower: Float[Tensor, "batch *event"]
    upper: Float[Tensor, "batch *event"]


@dataclass(frozen=True, repr=False)
class Prediction:
    """The posterior predictive at a batch of inputs.

    Attributes
    ----------
    samples : noise-free outputs, (chain, draw, batch, *output); logits for a Categorical likelihood. Raises ValueError
        if they were not kept, see ``Posterior.predict``; so do the methods.
    mean : of an observation, (batch, *event).
    epistemic : the variance, over the draws, of the conditional mean.
    aleatoric : the mean, over the draws, of the conditional variance.
    likelihood : of the model.
    noise : the likelihood's own parameters, name -> (chain, draw, *shape), where it learns some.
    names : of the outputs, or the labels, if the posterior is of a table; else empty.

    Examples
    --------
    >>> prediction = posterior.predict(data.test.x)
    >>> lower, upper = prediction.interval(0.9)
    >>> prediction.log_score(data.test.y).mean()
    >>> prediction.to_dataframe(["Ixx", "Ixy", "Ixz", "Iyx", "Iyy", "Iyz", "Izx", "Izy", "Izz"]).to_csv("p.csv")
    """

    kept_samples: Float[Tensor, "chain draw batch *output"] | None
    mean: Float[Tensor, "batch *event"]
    epistemic: Float[Tensor, "batch *event"]
    aleatoric: Float[Tensor, "batch *event"]
    likelihood: Likelihood
    noise: Params
    names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        kept = "no samples" if self.kept_samples is None else f"samples {tuple(self.kept_samples.shape)}"
        return f"Prediction(mean {tuple(self.mean.shape)}, {kept}, {self.likelihood!r})"

    @property
    def samples(self) -> Float[Tensor, "chain draw batch *output"]:
        """The noise-free outputs of every draw."""
        if self.kept_samples is None:
            raise ValueError(_NOT_KEPT)
        return self.kept_samples

    @property
    def variance(self) -> Float[Tensor, "batch *event"]:
        """The total variance, by the law of total variance."""
        return self.epistemic + self.aleatoric

    @property
    def std(self) -> Float[Tensor, "batch *event"]:
        """The standard deviation of an observation."""
        return self.variance.sqrt()

    def quantile(self, probability: float, noise: bool = True) -> Float[Tensor, "batch *event"]:
        """Of every output by itself: of an observation, an equal mixture over the draws; or of its conditional mean.

        Parameters
        ----------
        probability : between 0 and 1.
        noise : whether the observation's own noise counts. Without it the quantile is between those of the draws, of
            which an ensemble has few: that of 0.05 of ten members lies between the least and the next.

        Raises
        ------
        ValueError
            If the probability does not lie between 0 and 1.
        TypeError
            If observations are labels, or of a distribution whose quantiles are not known.
        """
        if not 0 < probability < 1:
            raise ValueError(f"a probability lies between 0 and 1, got {probability}.")
        if noise:
            return self._mixture.quantile(probability).to(self.mean.dtype)
        with without_validation():
            means = torch.stack([law.mean for law in self._mixture.components()])
        return means.quantile(probability, dim=0)

    def interval(self, probability: float = 0.9, noise: bool = True) -> Interval:
        """The central interval that holds an observation, or its conditional mean, with this probability: see
        ``quantile``. Raises likewise.
        """
        if not 0 < probability < 1:
            raise ValueError(f"a probability lies between 0 and 1, got {probability}.")
        return Interval(*(self.quantile(0.5 + side * probability / 2, noise) for side in (-1, 1)))

    def sample(self, seed: int) -> Float[Tensor, "chain draw batch *event"]:
        """One observation with noise at each input under every draw."""
        return self._mixture.sample(seed).unflatten(0, self.samples.shape[:2])

    def log_score(self, y: Tensor) -> Float[Tensor, " batch"]:
        """log p(y_i | x_i, data), the log density of what was observed, in nats; larger is better. Raises as the
        likelihood's ``check``.
        """
        y = as_tensor(y, "y").cpu()
        y = y[:, None] if y.ndim == 1 and self.mean.shape[1:] == (1,) else y
        if len(y) != self.samples.shape[2]:
            raise ValueError(f"y has {len(y)} rows, but the prediction is of {self.samples.shape[2]} inputs.")
        self.likelihood.check(y, self.samples.shape[-1])
        return self._mixture.log_density(y.to(self.samples) if y.is_floating_point() else y)

    def to_dataframe(self, names: Sequence[str] | None = None, probability: float = 0.9) -> pd.DataFrame:
        """A row for each input. Of each output its mean, standard deviation, and the ends of an interval for an
        observation; of labels the most probable, and the probability of each.

        Parameters
        ----------
        names : of the outputs, or the labels; by default those of the table, if there was one, or y0, y1, ..., or 0, 1,
            ...
        probability : of the intervals.

        Raises
        ------
        ValueError
            If there are not as many names as outputs, and as ``interval``.
        """
        import pandas as pd

        mean = self.mean.flatten(1)
        is_label = isinstance(self.likelihood, Categorical)
        if isinstance(names, str):
            raise ValueError(f"names must be a list, got the text {names!r}.")
        numbered = [str(i) if is_label else f"y{i}" for i in range(mean.shape[1])]
        names = list(map(str, names or self.names or numbered))
        if len(names) != mean.shape[1]:
            raise ValueError(f"there are {mean.shape[1]} outputs, but {len(names)} names: {', '.join(names)}.")
        if is_label:
            best = [names[index] for index in mean.argmax(1).tolist()]
            columns = [("label", best), *((f"p({name})", mean[:, i].numpy()) for i, name in enumerate(names))]
        else:
            parts = {"": mean, "_std": self.std.flatten(1)}
            try:
                lower, upper = self.interval(probability)
                parts |= {"_lower": lower.flatten(1), "_upper": upper.flatten(1)}
            except TypeError:  # of yes or no: the mean is its probability
                pass
            columns = [(name + end, part[:, i].numpy()) for i, name in enumerate(names) for end, part in parts.items()]
        headers = [header for header, _ in columns]
        if twice := {header for header in headers if headers.count(header) > 1}:
            raise ValueError(f"two columns would be called {min(twice)!r}: give other names than {', '.join(names)}.")
        return pd.DataFrame(dict(columns))

    @cached_property
    def _mixture(self) -> PredictiveMixture:
        flat = {name: value.flatten(0, 1) for name, value in self.noise.items()}
        return PredictiveMixture(self.likelihood, self.samples.flatten(0, 1), flat)
