"""MAP: one mode of the posterior, by Adam.

theta minimises -log p(y, theta | x) / N. Constrained parameters (a learned noise variance) are optimised in a free
coordinate, but the density that is maximised is the one over the constrained parameter, without a Jacobian.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from inference.data import Data, Model
from inference.engine_fit import engine_fit
from inference.posterior.posterior import Posterior
from inference.training.ensemble import fit_modes
from inference.training.settings import TrainingSettings


@dataclass(frozen=True)
class MAP(TrainingSettings):
    """One mode: the maximum a posteriori estimate, in the constrained parameters' own coordinates.

    Parameters
    ----------
    epochs, batch_size, lr, schedule, snapshots, compile, augment, bfloat16 : see DeepEnsemble.

    Examples
    --------
    >>> posterior = MAP(epochs=500).fit(model, data.train, seed=0)
    """

    @engine_fit
    def fit(
        self,
        model: Model,
        data: Data,
        *,
        seed: int,
        device: str | torch.device = "auto",
        progress: bool = True,
        start: Posterior | None = None,
        checkpoint: str | Path | None = None,
        save_to: str | Path | None = None,
    ) -> Posterior:
        """Train, and return one chain with one draw. See DeepEnsemble.fit."""
        files = None if checkpoint is None else Path(checkpoint), None if save_to is None else Path(save_to)
        return fit_modes("MAP", self, 1, None, model, data, seed, device, progress, start, *files)
