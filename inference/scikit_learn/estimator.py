"""What both estimators share: their parameters, and the model and the posterior that follow from them."""

from __future__ import annotations

from numbers import Integral
from typing import Literal, Self

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from bayes_rpp import BayesianModel, Group, Likelihood, Rep, RPPPrior
from bayes_rpp.networks.emlp import NETWORKS
from bayes_rpp.seeding import seeded
from bayes_rpp.types import as_tensor
from inference.data import Pair
from inference.posterior.draws import uninterrupted
from inference.posterior.posterior import Posterior
from inference.posterior.predictive import Prediction
from inference.scikit_learn.declared_symmetry import DeclaredSymmetry
from inference.training.ensemble import DeepEnsemble

Network = Literal["rpp", "emlp", "mlp"]

_TYPES = np.float64, np.float32  # of features; others become the first


class NetworkEstimator(BaseEstimator):
    """An ensemble of networks with a declared symmetry, as scikit-learn's estimators are used."""

    posterior_: Posterior
    n_features_in_: int

    def __init__(
        self,
        group: str | Group | None = None,
        rep_in: str | Rep | None = None,
        rep_out: str | Rep | None = None,
        *,
        network: Network = "rpp",
        channels: int | str | Rep = 128,
        layers: int = 3,
        equivariant_variance: float = 1.0,
        dense_variance: float = 1e-4,
        mlp_variance: float = 1.0,
        members: int = 5,
        epochs: int = 200,
        batch_size: int | None = 100,
        lr: float = 1e-2,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
        verbose: bool = False,
    ) -> None:
        self.group = group
        self.rep_in = rep_in
        self.rep_out = rep_out
        self.network = network
        self.channels = channels
        self.layers = layers
        self.equivariant_variance = equivariant_variance
        self.dense_variance = dense_variance
        self.mlp_variance = mlp_variance
        self.members = members
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def _network(self, size_out: int, dtype: torch.dtype) -> nn.Module:
        """A network between what is declared of features and outputs, with parameters of the type of the features."""
        if self.network not in NETWORKS:
            raise ValueError(f"network must be 'rpp', 'emlp' or 'mlp', got {self.network!r}.")
        if not _is_count(self.layers):
            raise ValueError(f"layers must be 0 or a positive integer, got {self.layers!r}.")
        declared = DeclaredSymmetry.of(
            self.group, self.rep_in, self.rep_out, self.channels, self.n_features_in_, size_out
        )
        build = NETWORKS[self.network]
        with seeded(0, torch.device("cpu")):  # every member has an initial state of its own; the global one stays
            network = build(declared.rep_in, declared.rep_out, declared.group, declared.channels, int(self.layers))
        return network.to(dtype)

    def _fit_posterior(self, network: nn.Module, likelihood: Likelihood, data: Pair) -> Self:
        """Train the ensemble, from a seed that follows from the random state."""
        engine = DeepEnsemble(members=self.members, epochs=self.epochs, batch_size=self.batch_size, lr=self.lr)
        prior = RPPPrior(self.equivariant_variance, self.dense_variance, self.mlp_variance)
        model = BayesianModel(network, prior, likelihood)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        fitted = engine.fit(model, data, seed=seed, device=self.device, progress=bool(self.verbose))
        self.posterior_ = uninterrupted(fitted)
        return self

    def _features(self, x: object) -> Float[Tensor, "batch n"]:
        """New features, checked against those of the fit."""
        check_is_fitted(self, "posterior_")
        return as_tensor(validate_data(self, x, dtype=_TYPES, reset=False), "X")

    def _prediction(self, x: object) -> Prediction:
        """The posterior predictive, without the outputs of every member."""
        features = self._features(x)
        return self.posterior_.predict(features, keep_samples=False)


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0


def checked_pair(estimator: NetworkEstimator, x: object, y: object, **checks: bool) -> tuple[np.ndarray, np.ndarray]:
    """Features and targets of a fit, as scikit-learn checks them; at least two examples, since one has no scale."""
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None.")
    pair: tuple[np.ndarray, np.ndarray] = validate_data(estimator, x, y, dtype=_TYPES, ensure_min_samples=2, **checks)
    return pair
