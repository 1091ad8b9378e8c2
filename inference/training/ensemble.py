"""Deep ensembles: many modes of the posterior, by Adam from many initial states.

theta_m minimises -log p(y, theta | x) / N from its own initial state and its own order of the data (Lakshminarayanan,
Pritzel & Blundell, NeurIPS 2017). The members are modes, and a proxy of the posterior: no draws from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inference.data import Data, Model
from inference.posterior.posterior import Posterior
from inference.settings import require_integers
from inference.training.modes import fit_modes
from inference.training.settings import Settings


@dataclass(frozen=True)
class DeepEnsemble(Settings):
    """Many modes at once: the members' parameters are stacked, and one graph trains them all.

    Parameters
    ----------
    members : how many.
    epochs : passes through the data.
    batch_size : examples a step; None takes all.
    lr : Adam's learning rate.
    schedule : "constant", or "cosine" from lr down to zero.
    snapshots : how many intermediate states to keep in the posterior's history, evenly spread over the epochs.

    Examples
    --------
    >>> posterior = DeepEnsemble(members=10, epochs=500, lr=3e-3).fit(model, data.train, seed=0)
    """

    members: int = 10

    def __post_init__(self) -> None:
        require_integers(self, members=1)
        super().__post_init__()

    def fit(
        self, model: Model, data: Data, *, seed: int, device: str | torch.device = "auto", progress: bool = True
    ) -> Posterior:
        """Train, and return the members as a posterior of as many chains with one draw each.

        A member whose loss stops being finite is reported and left out. Ctrl-C ends training early and keeps what
        there is.

        Parameters
        ----------
        model : a BayesianModel, or a LogDensity with data=None.
        data : (x, y) as tensors or arrays, or a Dataset of such pairs.
        seed : members take seeds derived from it; the same seed gives the same bits.
        device : "auto" takes an accelerator if there is one.
        progress : whether to show a progress bar, in a terminal.

        Raises
        ------
        ValueError, TypeError
            If the data are missing or refused, or variances have hyperpriors: the joint density has no maximum then.
        RuntimeError
            If every member diverged.
        """
        return fit_modes(model, data, self, self.members, seed, device, progress, engine="DeepEnsemble")
