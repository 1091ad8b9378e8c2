"""Posterior: the one result type of every engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp import BayesianModel
from bayes_rpp.likelihoods import Categorical, Gaussian, Params
from inference.data import Model, Pair
from inference.predictive import Prediction, evaluate, predict_categorical, predict_gaussian


@dataclass(frozen=True)
class Snapshot:
    """The state of every chain before a given epoch of training."""

    epoch: int
    samples: Params


@dataclass
class Posterior:
    """Draws of a model's parameters, and what can be made of them.

    Attributes
    ----------
    model : the BayesianModel or LogDensity; None for files of a network that this package did not build.
    samples : name -> (chain, draw, *shape), constrained. A member of an ensemble is a chain of one draw.
    stats : what the engine recorded.
    history : earlier states, where the engine kept some.
    data : the training data (x, y), if there were any.

    Examples
    --------
    >>> posterior = MAP(epochs=100).fit(model, data.train, seed=0)
    >>> posterior.predict(data.test.x).mean.shape
    torch.Size([1000, 9])
    """

    model: Model | None
    samples: Params
    stats: dict[str, Any] = field(default_factory=dict)
    history: list[Snapshot] = field(default_factory=list)
    data: Pair | None = None

    def __repr__(self) -> str:
        parameters = sum(value[0, 0].numel() for value in self.samples.values())
        engine = self.stats.get("engine", "unknown engine")
        return f"Posterior({engine}: {self.chains} chain(s) x {self.draws} draw(s), {parameters:,} parameters)"

    @property
    def chains(self) -> int:
        """The number of chains."""
        return len(next(iter(self.samples.values())))

    @property
    def draws(self) -> int:
        """The number of draws of each chain."""
        return next(iter(self.samples.values())).shape[1]

    @property
    def bayesian_model(self) -> BayesianModel:
        """The model, if it is a network with a prior and a likelihood; otherwise raises TypeError."""
        if not isinstance(self.model, BayesianModel):
            hint = "; pass model= to Posterior.load" if self.model is None else ""
            raise TypeError(f"this needs a posterior of a BayesianModel, but its model is {self.model!r}{hint}.")
        return self.model

    def at(self, snapshot: Snapshot) -> Posterior:
        """The posterior with an earlier state in place of the last."""
        return Posterior(self.model, snapshot.samples, {**self.stats, "epochs": snapshot.epoch}, [], self.data)

    def outputs(self, x: Float[Tensor, "batch *input"]) -> Float[Tensor, "chain draw batch *output"]:
        """The noise-free network output of every draw."""
        model, x = self.bayesian_model, torch.as_tensor(x).cpu()
        model.check_inputs(x)
        flat = {name: value.flatten(0, 1) for name, value in self.samples.items()}
        return evaluate(model, flat, x).unflatten(0, (self.chains, self.draws))

    def predict(self, x: Float[Tensor, "batch *input"]) -> Prediction:
        """The posterior predictive at new inputs.

        Returns
        -------
        Prediction with ``samples`` (chain, draw, batch, *output), and ``mean``, ``variance`` = ``epistemic`` +
        ``aleatoric``, each (batch, *output). For a Categorical likelihood the samples are logits, mean and variance
        those of the one-hot label.

        Raises
        ------
        ValueError
            If x does not fit the network, or holds NaN.
        """
        model = self.bayesian_model
        samples = self.outputs(x)
        if isinstance(model.likelihood, Categorical):
            return predict_categorical(samples)
        if isinstance(model.likelihood, Gaussian):
            noise = torch.as_tensor(model.likelihood.noise(self.samples), dtype=samples.dtype)
            return predict_gaussian(samples, noise)
        raise TypeError(f"no predictive variance is known for {type(model.likelihood).__name__}; use `outputs`.")

    def log_likelihood(self, x: Tensor, y: Tensor) -> Float[Tensor, "chain draw batch"]:
        """log p(y_i | x_i, theta) of every draw and example."""
        model, x, y = self.bayesian_model, torch.as_tensor(x).cpu(), torch.as_tensor(y).cpu()
        model.check_data(x, y)
        outputs, flat = self.outputs(x).flatten(0, 1), {n: v.flatten(0, 1) for n, v in self.samples.items()}
        rows = [model.likelihood.log_prob(o, y, {n: v[i] for n, v in flat.items()}) for i, o in enumerate(outputs)]
        return torch.stack(rows).unflatten(0, (self.chains, self.draws))

    def to_arviz(self) -> Any:
        """ArviZ InferenceData with groups posterior, and, where there are data, posterior_predictive, log_likelihood,
        observed_data.

        ``arviz.summary``, ``arviz.loo`` and the plots take it.
        """
        from inference.arviz_shim import to_arviz

        return to_arviz(self)

    def save(self, path: str | Path) -> Path:
        """Write a folder of safetensors and JSON; it appears whole or not at all, and replaces an older one.

        Returns
        -------
        The folder.
        """
        from inference.storage import save_posterior

        return save_posterior(self, Path(path))

    @staticmethod
    def load(path: str | Path, model: Model | None = None) -> Posterior:
        """Read what ``save`` wrote.

        Parameters
        ----------
        path : the folder.
        model : needed only for networks or log densities that this package did not build; others are rebuilt from the
            files.

        Raises
        ------
        FileNotFoundError, ValueError
            If the folder is missing, damaged, or of another version.
        """
        from inference.storage import load_posterior

        return load_posterior(Path(path), model)
