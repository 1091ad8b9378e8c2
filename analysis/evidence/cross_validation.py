"""How well a model predicts its data when they are left out: PSIS-LOO from the draws of a posterior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.convergence_diagnostics.verdict import APPROXIMATIONS
from analysis.evidence.protocol import Evidence, timed
from inference import Posterior
from inference.data import Data, Model
from inference.posterior.arviz import pareto_smoothed
from inference.posterior.draws import uninterrupted

_LEAST_DRAWS = 100
_NAMED = 5


class Engine(Protocol):
    """Anything that fits a posterior: NUTS, HMC, Laplace, ..."""

    def fit(
        self, model: Model, data: Data, *, seed: int, device: str | torch.device = "auto", progress: bool = True
    ) -> Posterior:
        """The posterior of a model."""


@dataclass(frozen=True)
class PSISLOO:
    """sum_i log p(y_i | y_-i), by Pareto-smoothed importance sampling from one posterior; see ``loo_of``.

    Parameters
    ----------
    engine : what draws from the posterior, such as NUTS().

    Examples
    --------
    >>> PSISLOO(NUTS()).estimate(model, data.train, seed=0)
    """

    engine: Engine

    def __post_init__(self) -> None:
        require_engine(self.engine)

    @timed
    def estimate(
        self, model: Model, data: Data, *, seed: int, device: str | torch.device = "auto", progress: bool = True
    ) -> Evidence:
        """See EvidenceMethod and ``loo_of``."""
        return loo_of(uninterrupted(self.engine.fit(model, data, seed=seed, device=device, progress=progress)))


@timed
def loo_of(posterior: Posterior) -> Evidence:
    """The expected log predictive density of left-out examples, sum_i log p(y_i | y_-i), in nats.

    By Pareto-smoothed importance sampling (Vehtari, Gelman & Gabry, "Practical Bayesian model evaluation using
    leave-one-out cross-validation and WAIC", Statistics and Computing 2017). An example's outputs are left out
    together. Where the Pareto k of an example exceeds min(1 - 1 / log10 draws, 0.7) its term is unreliable (Vehtari,
    Simpson, Gelman, Yao & Gabry, JMLR 2024): such examples are counted and named in ``warnings``.

    Parameters
    ----------
    posterior : of a BayesianModel, with its data and at least 100 draws of the posterior itself.

    Returns
    -------
    Evidence whose ``standard_error`` is that of the sum over examples as a sample of their population; ``details`` has
    "pointwise" and "pareto_k" of every example, and "effective_parameters".

    Raises
    ------
    ValueError, TypeError
        If the draws are too few, of an ensemble, a tempered posterior or a LogDensity, or there are no two examples.

    Examples
    --------
    >>> loo_of(NUTS().fit(model, data.train, seed=0)).details["pareto_k"].max()
    """
    require_draws(posterior, "LOO")
    model = posterior.bayesian_model
    if posterior.data is None:
        raise ValueError("LOO needs the training data (x, y), but this posterior's `data` are None.")
    model.check_data(*posterior.data)
    if len(posterior.data[0]) < 2:
        raise ValueError("LOO needs at least 2 examples, got 1.")
    values: Float[Tensor, "chain draw example"] = posterior.log_likelihood(*posterior.data).double()
    pointwise, shapes = pareto_smoothed(values.numpy())
    total, notes = values.shape[0] * values.shape[1], notes_on(posterior)
    limit = min(1 - 1 / math.log10(total), 0.7)
    bad = np.flatnonzero(~(shapes <= limit))
    if len(bad):
        named = ", ".join([*map(str, bad[:_NAMED]), *["..."] * (len(bad) > _NAMED)])
        notes.append(
            f"The Pareto k of {len(bad)} example{'s' * (len(bad) > 1)} ({named}) is above {limit:.2g} (the largest is "
            f"{shapes[bad].max():.2f}): the posterior without them is too far from this one. Take more draws, or refit "
            "without them."
        )
    value, error = float(pointwise.sum()), math.sqrt(len(pointwise)) * float(pointwise.std())
    in_sample = float((values.flatten(0, 1).logsumexp(0) - math.log(total)).sum())
    details = {"pareto_k": shapes, "pointwise": pointwise, "effective_parameters": in_sample - value}
    return Evidence(value, "PSIS-LOO", error, 0.0, None, tuple(notes), details)


def require_engine(engine: object) -> None:
    """TypeError unless it can fit."""
    if isinstance(engine, type) or not callable(getattr(engine, "fit", None)):
        raise TypeError(f"engine must have a method fit, as NUTS() or HMC(), got {engine!r}.")


def require_draws(posterior: Posterior, purpose: str) -> None:
    """ValueError unless a posterior has enough draws of the posterior itself."""
    engine, total = posterior.stats.get("engine", "the engine"), posterior.chains * posterior.draws
    if posterior.draws == 1:
        kind = f"{posterior.chains} members" if posterior.chains > 1 else "one state"
        raise ValueError(
            f"{purpose} needs draws of the posterior, but {engine} gave {kind} of one draw each, which are no draws "
            "of it. Use a sampler, such as NUTS() or HMC()."
        )
    if total < _LEAST_DRAWS:
        raise ValueError(f"{purpose} needs at least {_LEAST_DRAWS} draws, got {total} from {engine}.")
    temperature = posterior.stats.get("temperature", 1.0)
    if temperature != 1:
        raise ValueError(f"{purpose} needs draws at temperature 1, got draws at temperature {temperature}.")


def notes_on(posterior: Posterior) -> list[str]:
    """Warnings about the draws themselves."""
    engine = posterior.stats.get("engine")
    notes = []
    if engine in APPROXIMATIONS:
        notes.append(f"{engine} approximates the posterior: these weights do not correct what it gets wrong.")
    if posterior.partial:
        notes.append(f"{len(posterior.partial)} chain(s) diverged and are left out.")
    return notes
