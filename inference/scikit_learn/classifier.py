"""A classifier for scikit-learn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.multiclass import check_classification_targets

from bayes_rpp import Categorical, Group, NormalizedNetwork, Rep
from bayes_rpp.types import as_tensor
from inference.scikit_learn.estimator import Network, NetworkEstimator, checked_pair


class RPPClassifier(ClassifierMixin, NetworkEstimator):
    """Classification, y ~ Categorical(softmax(f(x))), by an ensemble of networks f that prefer a symmetry (Finzi,
    Benton & Wilson, NeurIPS 2021).

    Features are standardised, with one scale for each copy of a piece of their representation, so that the symmetry is
    kept. The outputs f are logits. The prior variances are ten times those of RPPRegressor, since labels that are
    nearly certain need logits far from 0.

    Parameters
    ----------
    group, rep_in : see RPPRegressor.
    rep_out : how the logits transform, in the order of ``classes_``: by default as scalars, so that the probabilities
        are invariant.
    network, channels, layers : see RPPRegressor.
    equivariant_variance, dense_variance, mlp_variance : the prior variances, see RPPPrior.
    members, epochs, batch_size, lr, random_state, device, verbose : see RPPRegressor.

    Attributes
    ----------
    classes_ : the labels, of any type that scikit-learn takes, sorted.
    posterior_ : the Posterior, whose labels are positions in ``classes_``.
    n_features_in_, feature_names_in_ : the number and, if they have any, the names of the features.

    Examples
    --------
    >>> model = RPPClassifier(group="SO(3)", rep_in="2*Vector", random_state=0).fit(x, ["acute", "obtuse", ...])
    >>> model.predict_proba(x).shape
    (100, 2)
    """

    classes_: np.ndarray

    def __init__(
        self,
        group: str | Group | None = None,
        rep_in: str | Rep | None = None,
        rep_out: str | Rep | None = None,
        *,
        network: Network = "rpp",
        channels: int | str | Rep = 128,
        layers: int = 3,
        equivariant_variance: float = 10.0,
        dense_variance: float = 1e-3,
        mlp_variance: float = 10.0,
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

    def fit(self, X: Any, y: Any) -> Self:
        """Train the ensemble.

        Parameters
        ----------
        X : the features, (examples, features).
        y : the labels, (examples,), numbers or text.

        Raises
        ------
        ValueError
            If the data are not finite, y holds one class or numbers that are no labels, a representation has another
            size than the data, or a setting is impossible.

        Examples
        --------
        >>> RPPClassifier(members=3, epochs=50).fit(x, ["acute", "obtuse", ...]).classes_
        array(['acute', 'obtuse'], dtype='<U6')
        """
        x, y = checked_pair(self, X, y)
        check_classification_targets(y)
        encoder = LabelEncoder()
        features, labels = as_tensor(x, "X"), as_tensor(encoder.fit_transform(y), "y")
        if len(encoder.classes_) < 2:
            raise ValueError(f"y must hold at least two classes, got one class: {encoder.classes_.tolist()}.")
        network = NormalizedNetwork.fit(self._network(len(encoder.classes_), features.dtype), features)
        self.classes_ = encoder.classes_
        return self._fit_posterior(network, Categorical(), (features, labels))

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, the mean over the members: (examples, classes), in the order of ``classes_``.

        Parameters
        ----------
        X : the features, (examples, features).

        Examples
        --------
        >>> model.predict_proba(x).sum(1).max()
        1.0
        """
        result: np.ndarray = self._prediction(X).mean.numpy()
        return result

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each example.

        Parameters
        ----------
        X : the features, (examples, features).

        Examples
        --------
        >>> model.predict(x[:2])
        array(['obtuse', 'acute'], dtype='<U6')
        """
        most_probable = self.predict_proba(X).argmax(1)
        result: np.ndarray = self.classes_[most_probable]
        return result
