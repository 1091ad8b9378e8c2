"""A regressor for scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from jaxtyping import Float
from sklearn.base import RegressorMixin
from sklearn.utils import check_array
from torch import Tensor

from bayes_rpp import Gaussian, Group, NormalizedNetwork, Rep
from bayes_rpp.types import as_tensor
from inference.scikit_learn.estimator import Network, NetworkEstimator, checked_pair

_USUAL, _LEAST = 0.01, 1e-6  # noise variances, as shares of the variance of a target
_LARGEST_RATIO = 100  # of the variances of targets that share one noise


class RPPRegressor(RegressorMixin, NetworkEstimator):
    """Regression with Gaussian noise, y ~ N(f(x), v), by an ensemble of networks f that prefer a symmetry (Finzi,
    Benton & Wilson, NeurIPS 2021).

    Features and targets are standardised, with one scale for each copy of a piece of their representation, so that the
    symmetry is kept; a ``StandardScaler`` before this estimator would break it, unless the features are scalars.

    Parameters
    ----------
    group : the symmetry group, as text or as an object, such as ``"O(3)"``; None declares no symmetry.
    rep_in, rep_out : how features and targets transform under the group, as text or as objects, such as
        ``"5*Scalar + 5*Vector"``. By default features are a vector and targets are scalars; without a group,
        everything is a scalar.
    network : "rpp", approximately equivariant; "emlp", exactly; or "mlp", not at all.
    channels : the width of the hidden layers, or their representation; groups with tensors need more of them than
        scalars do.
    layers : how many hidden layers.
    equivariant_variance, dense_variance, mlp_variance : the prior variances, see RPPPrior; the smaller
        ``dense_variance`` is, the closer is "rpp" to exact equivariance.
    noise_variance : v, in squared units of y: a number, one for each target, or "learned"; each target then has its own
        if all of them are scalars, and otherwise they share one. None takes 1 % of the variance of the targets, piece
        by piece, which makes standard deviations too small where there is more noise than that.
    members : the networks of the ensemble; one alone has no epistemic variance.
    epochs, batch_size, lr : of the training, see DeepEnsemble.
    random_state : an integer gives the same bits in every fit; None other ones each time.
    device : of the training; "auto" takes an accelerator if there is one.
    verbose : whether to show a progress bar, in a terminal.

    Attributes
    ----------
    posterior_ : the Posterior, which every diagnostic takes. It holds the training data.
    n_features_in_, feature_names_in_ : the number and, if they have any, the names of the features.

    Networks have the precision of the features: float32 trains faster, and predictions then depend on the other rows
    of a batch by rounding.

    Examples
    --------
    >>> model = RPPRegressor(group="O(3)", rep_in="5*Scalar + 5*Vector", rep_out="T(2)", random_state=0).fit(x, y)
    >>> mean, std = model.predict(x, return_std=True)
    >>> equivariance_error(model.posterior_, x)
    """

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
        noise_variance: float | Sequence[float] | Literal["learned"] | None = "learned",
        members: int = 5,
        epochs: int = 200,
        batch_size: int | None = 100,
        lr: float = 1e-2,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
        verbose: bool = False,
    ) -> None:
        super().__init__(
            group,
            rep_in,
            rep_out,
            network=network,
            channels=channels,
            layers=layers,
            equivariant_variance=equivariant_variance,
            dense_variance=dense_variance,
            mlp_variance=mlp_variance,
            members=members,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            random_state=random_state,
            device=device,
            verbose=verbose,
        )
        self.noise_variance = noise_variance

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        """Train the ensemble.

        Parameters
        ----------
        X : the features, (examples, features).
        y : the targets, (examples,) or (examples, targets).

        Raises
        ------
        ValueError
            If the data are not finite, there is one example, a representation has another size than the data, or a
            setting is impossible.

        Examples
        --------
        >>> RPPRegressor(members=3, epochs=50).fit(x, y).n_features_in_
        20
        """
        x, y = checked_pair(self, X, y, multi_output=True, y_numeric=True)
        y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y", estimator=self)
        features, targets = as_tensor(x, "X"), as_tensor(y.reshape(len(y), -1), "y")
        network = NormalizedNetwork.fit(self._network(targets.shape[1], features.dtype), features, targets)
        self._one_target = y.ndim == 1
        return self._fit_posterior(network, self._likelihood(network), (features, targets))

    def predict(self, X: Any, return_std: bool = False) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """The mean of an observation, and its standard deviation on request, in the shape of y.

        Parameters
        ----------
        X : the features, (examples, features).
        return_std : whether to return the root of the total variance too: that of the members about their mean, and
            that of the noise.

        Examples
        --------
        >>> mean, std = model.predict(x, return_std=True)
        """
        prediction = self._prediction(X)
        mean = self._shaped(prediction.mean)
        return (mean, self._shaped(prediction.variance.sqrt())) if return_std else mean

    def _likelihood(self, network: NormalizedNetwork) -> Gaussian:
        """One noise variance for each copy of a piece, as the scales are: another would prefer directions."""
        variances, given = network.outputs.scale.double().square(), self.noise_variance
        if given is None:
            return Gaussian(tuple((_USUAL * variances).tolist()))
        if not isinstance(given, str):
            return Gaussian(given if np.isscalar(given) else tuple(given))  # type: ignore[arg-type]
        if given != "learned":
            raise ValueError(f"noise_variance must be a number, one for each target, 'learned' or None, got {given!r}.")
        scalars = all(run.piece_size == 1 for run in network.rep_out.runs)
        if not scalars and variances.max() > _LARGEST_RATIO * variances.min():
            smallest, largest = float(variances.min()), float(variances.max())
            warnings.warn(
                f"noise_variance='learned' is one number for all targets of {network.rep_out}, but their variances are "
                f"from {smallest:.2g} to {largest:.2g}: the standard deviations of the smaller ones will be too large. "
                "Give noise_variance one number for each target, or None for 1 % of each.",
                stacklevel=3,
            )
        typical = float(variances.log().mean().exp())
        return Gaussian(_USUAL * typical, learned=True, per_output=scalars, floor=_LEAST * float(variances.min()))

    def _shaped(self, values: Float[Tensor, "batch targets"]) -> np.ndarray:
        result: np.ndarray = (values[:, 0] if self._one_target else values).numpy()
        return result
