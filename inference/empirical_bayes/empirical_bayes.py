r"""Empirical Bayes: prior variances and the noise by the evidence, while the weights are trained.

    v <- v + gradient ascent in log v on   log p(y | x, z) + log p(z | v) + d/2 log 2 pi - 1/2 log det H(v)

every few epochs, with the weights z held fixed, and z by Adam on the log joint under the current v (MacKay, Neural
Computation 1992; Immer, Bauer, Fortuin, Rätsch & Khan, ICML 2021; for symmetries van der Ouderaa, Immer & van der Wilk,
NeurIPS 2023). No data are held out: the training data choose how much of the symmetry to keep.

The updates start in the second half of the epochs: an early estimate of the noise variance would include what the
training has not fitted yet, and would then keep it from being fitted. Start from a small noise variance for the same
reason.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bayes_rpp import BayesianModel
from bayes_rpp.seeding import plain_seed
from inference.checkpoint import stage_file
from inference.data import Data, Model, resolve_data, resolve_device
from inference.empirical_bayes.checkpoint import check_stages
from inference.empirical_bayes.learning import VarianceLearning
from inference.empirical_bayes.refinement import refine
from inference.empirical_bayes.settings import EvidenceSettings
from inference.engine_fit import engine_fit
from inference.posterior.posterior import Posterior

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmpiricalBayes(EvidenceSettings):
    """Modes, under the prior variances and the noise that the Laplace evidence chooses.

    The model's own variances are where the search starts. Variances with hyperpriors start at their medians, and the
    density of the hyperprior over log v counts with the evidence. A noise variance is learned where the likelihood says
    so, Gaussian(..., learned=True), also by the evidence, its log-normal prior counting as a hyperprior, and not as a
    parameter of the joint.

    Parameters
    ----------
    epochs, batch_size, lr, schedule, snapshots, compile : see DeepEnsemble; ``lr`` is in units of the prior, see
        ``LogJointGivenVariances``.
    members : fits from independent starts, trained side by side under the same variances, which maximise the mean of
        their log evidences. Networks end in optima of very different quality, so that the evidence of one fit depends
        on its start; the members together are an ensemble.
    passes : how often all of it is done. Each pass trains anew from the same starts, under the variances that the pass
        before ended with. Weights that were trained under a wide prior are large, and large weights have the largest
        evidence under a wide prior: a second pass lets the variances become smaller.
    refinements : the largest number of Newton steps in the variances after the last pass, each between two searches for
        the members' modes; they end when the predicted and the actual gain of a step are negligible. A step changes a
        variance by no more than a factor of e, see ``refine``. Training leaves weights that the data do not need about
        as large as they started, so that the variances stay too large; at the mode these weights are small.
        Comparisons of models need this: the evidence can be off by hundreds of nats without. A search takes up to a
        thousand steps on all the data for each member, with dense curvatures more: seconds for a thousand parameters,
        hours for very large networks, for which none or few are affordable.
    curvature : of the Laplace evidence, see LaplaceEvidence.
    per_layer : whether every layer has variances of its own.

    Raises
    ------
    ValueError
        If a number is not positive, or the curvature is unknown.

    Examples
    --------
    >>> posterior = EmpiricalBayes(epochs=500).fit(model, data.train, seed=0)
    >>> posterior.stats["variances"]["dense_variance"]
    0.00012
    >>> DeepEnsemble(members=10).fit(posterior.model, data.train, seed=0)
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
        checkpoint: str | Path | None = None,
    ) -> Posterior:
        """Train, and return the members as chains with one draw each, of a model with the learned variances.

        Parameters
        ----------
        model : a BayesianModel; its settings of the prior are starting values.
        data, seed, device, progress : see DeepEnsemble.fit.
        checkpoint : a file that the state is written to every minute and on Ctrl-C; later passes, and the refinement
            after each of its rounds, have others beside it, whose names begin with its name. If they exist the fit goes
            on from there, to the same bits as without a break.

        Returns
        -------
        Posterior whose ``model`` has the learned numbers in its prior and a likelihood with a known noise variance:
        other engines can take this model. ``stats`` has "variances" (by name, with the noise's), "log_evidence" with
        them, "log_evidences" of each member, of which it is the mean, "path": of every update the pass, the epoch, the
        evidence before it and the variances after it, and "refinements": of every round the variances and the evidence
        under them. A member that diverges is left out, with a warning. Ctrl-C ends the training early and keeps what
        there is, unrefined: the weights of the first pass, later the pass before; in the refinement, the best round.

        Raises
        ------
        TypeError
            If the model is a LogDensity.
        ValueError
            If the data are missing or refused, a noise variance for each output is to be learned, or the curvature does
            not suit the network, or the checkpoint is of another run.
        RuntimeError
            If every member diverges.
        """
        pair = resolve_data(model, data)
        if not isinstance(model, BayesianModel) or pair is None:
            raise TypeError("EmpiricalBayes needs a BayesianModel, whose prior has variances; a LogDensity has none.")
        check_stages(checkpoint)
        began, values, posterior = time.perf_counter(), None, None
        path: list[dict[str, Any]] = []
        interrupted = False
        for number in range(self.passes):
            try:
                learning = VarianceLearning(self, model, pair, plain_seed(seed), resolve_device(device), values)
                finished = learning.run(progress, stage_file(checkpoint, f"pass-{number}" if number else ""))
                interrupted = not finished
                began -= learning.seconds
                if posterior is None or finished:
                    posterior, path = learning.posterior(), path + [{"pass": number, **u} for u in learning.path]
                    values = posterior.stats["variances"]
            except (RuntimeError, KeyboardInterrupt) as error:
                if posterior is None:
                    raise
                logger.warning("pass %d of %d failed: %s", number + 1, self.passes, error)
                finished, interrupted = False, isinstance(error, KeyboardInterrupt)
            if not finished:
                logger.warning("keeping what pass %d of %d has trained.", max(number, 1), self.passes)
                break
        assert posterior is not None
        if self.refinements and not interrupted:
            own = stage_file(checkpoint, "refinement")
            posterior = refine(posterior, self.learned_model(model), self, resolve_device(device), progress, own)
        seconds = time.perf_counter() - began
        logger.info("EmpiricalBayes: log evidence %.1f in %.1f s", posterior.stats["log_evidence"], seconds)
        posterior.stats.setdefault("refinements", [])
        posterior.stats.update(path=path, seconds=round(seconds, 3), **({"interrupted": True} if interrupted else {}))
        return posterior
