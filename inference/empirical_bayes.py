r"""Empirical Bayes: prior variances and the noise by the evidence, while the weights are trained.

    v <- v + gradient ascent in log v on   log p(y | x, z) + log p(z | v) + d/2 log 2 pi - 1/2 log det H(v)

every few epochs, with the weights z held fixed, and z by Adam on the log joint under the v of the moment (MacKay,
Neural Computation 1992; Immer, Bauer, Fortuin, Rätsch & Khan, ICML 2021; for symmetries van der Ouderaa, Immer & van
der Wilk, NeurIPS 2023). No data are held out: the training data choose how much of the symmetry to keep.

The updates start late: a noise variance that is taken early takes what the training has not fitted yet for noise, and
then keeps it from being fitted. Start from a small noise variance for the same reason.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from bayes_rpp import BayesianModel
from bayes_rpp.likelihoods import Params
from inference.chain_settings import plain_seed, require_integers, require_positive
from inference.data import Data, Model, Pair, resolve_data, resolve_device
from inference.evidence_ascent import EvidenceAscent
from inference.laplace import exact_target
from inference.laplace_evidence import EvidenceCurvature, Expansion
from inference.posterior import Posterior, Snapshot
from inference.training import Settings, batches, batches_per_epoch, snapshot_epochs
from inference.varied_training import VariedStack, model_at

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmpiricalBayes(Settings):
    """Modes, under the prior variances and the noise that the Laplace evidence chooses.

    The model's own variances are where the search starts. Variances with hyperpriors start at their medians, and the
    density of the hyperprior over log v counts with the evidence. A noise variance is learned where the likelihood says
    so, Gaussian(..., learned=True), also by the evidence, its log-normal prior counting as a hyperprior, and not as a
    parameter of the joint.

    Parameters
    ----------
    epochs, batch_size, lr, schedule, snapshots : see DeepEnsemble; ``lr`` is in units of the prior, see
        ``VariedStack``.
    curvature : of the Laplace evidence, see LaplaceEvidence.
    per_layer : whether every layer has variances of its own.
    burn_in : epochs before the first update of the variances; by default half of them.
    every : epochs from one update to the next.
    steps : of the ascent in each update.
    evidence_lr : Adam's learning rate in the logarithms of the variances, which goes to zero from the first update to
        the last.
    members : fits from independent starts, trained side by side under the same variances, which maximise the mean of
        their log evidences. Networks end in optima of very different quality: one fit's evidence speaks of its luck,
        too, and the members together are an ensemble.
    estimate : take the factors of "kronecker" and "symmetric" from one random combination of the outputs for each
        example, see ``kronecker_blocks``.

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

    curvature: EvidenceCurvature = "symmetric"
    per_layer: bool = False
    burn_in: int | None = None
    every: int = 10
    steps: int = 10
    evidence_lr: float = 0.1
    members: int = 1
    estimate: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.curvature not in get_args(EvidenceCurvature):
            known = ", ".join(repr(name) for name in get_args(EvidenceCurvature))
            raise ValueError(f"curvature must be one of {known}, got {self.curvature!r}.")
        require_integers(self, every=1, steps=1, members=1)
        if self.burn_in is not None:
            require_integers(self, burn_in=0)
        require_positive("evidence_lr", self.evidence_lr)
        if self.first >= self.epochs:
            raise ValueError(f"burn_in = {self.burn_in} leaves no update in {self.epochs} epochs.")

    @property
    def first(self) -> int:
        """The epoch before which the variances are updated for the first time."""
        return self.epochs // 2 if self.burn_in is None else self.burn_in

    def fit(
        self, model: Model, data: Data, *, seed: int, device: str | torch.device = "auto", progress: bool = True
    ) -> Posterior:
        """Train, and return the members as chains with one draw each, of a model with the learned variances.

        Parameters
        ----------
        model : a BayesianModel; its settings of the prior are starting values.
        data, seed, device, progress : see DeepEnsemble.fit.

        Returns
        -------
        Posterior whose ``model`` has the learned numbers in its prior and a likelihood that knows its noise: other
        engines take it from there. ``stats`` has "variances" (by name, with the noise's), "log_evidence" with them,
        "log_evidences" of each member, of which it is the mean, and "path": of every update the epoch, the evidence
        before it and the variances after it. A member that diverges is left out, with a warning. Ctrl-C ends the
        training early and keeps what there is.

        Raises
        ------
        TypeError
            If the model is a LogDensity.
        ValueError
            If the data are missing or refused, a noise variance for each output is to be learned, or the curvature does
            not suit the network.
        RuntimeError
            If every member diverges.
        """
        pair = resolve_data(model, data)
        if not isinstance(model, BayesianModel) or pair is None:
            raise TypeError("EmpiricalBayes needs a BayesianModel, whose prior has variances; a LogDensity has none.")
        return _Learning(self, model, pair, plain_seed(seed), resolve_device(device)).run(progress)


class _Learning:
    """One run of EmpiricalBayes."""

    def __init__(
        self, settings: EmpiricalBayes, model: BayesianModel, pair: Pair, seed: int, device: torch.device
    ) -> None:
        prior = model.prior.per_layer(model.network) if settings.per_layer else model.prior
        self.settings, self.pair, self.seed, self.device = settings, pair, seed, device
        self.given = BayesianModel(model.network, prior, model.likelihood, model.num_outputs)
        self.ascent = EvidenceAscent(self.given, settings.evidence_lr)
        generator = torch.Generator().manual_seed(seed)
        seeds = torch.randint(2**62, (settings.members,), generator=generator).tolist()
        starts = [model.initial_params(start) for start in seeds]
        stacked = {name: torch.stack([start[name] for start in starts]) for name, _ in model.network.named_parameters()}
        self.stack = VariedStack(model_at(self.given, self.ascent.values), stacked, self._values(), settings.lr, device)
        self.orders = [torch.Generator().manual_seed(start) for start in seeds]
        self.probes = torch.Generator(device).manual_seed(seed) if settings.estimate else None
        self.path: list[dict[str, Any]] = []
        self.history: list[Snapshot] = []

    def run(self, progress: bool) -> Posterior:
        settings, began, epoch = self.settings, time.perf_counter(), 0
        losses, when = torch.full((1,), math.inf), snapshot_epochs(settings)
        bar = tqdm(range(settings.epochs), desc="empirical Bayes", unit="epoch", disable=None if progress else True)
        try:
            for epoch in bar:
                if epoch in when:
                    self.history.append(Snapshot(epoch, self.stack.params()))
                if epoch >= settings.first and (epoch - settings.first) % settings.every == 0:
                    self._update(epoch)
                losses = self._train(epoch)
                if not losses.isfinite().any():
                    raise RuntimeError(
                        f"the training diverged in epoch {epoch + 1}; try a smaller lr than {settings.lr}."
                    )
        except KeyboardInterrupt:
            logger.warning("interrupted in epoch %d of %d; keeping what was trained.", epoch + 1, settings.epochs)
        return self._posterior(time.perf_counter() - began)

    def _train(self, epoch: int) -> Float[Tensor, " member"]:
        """One epoch; returns the last losses."""
        steps = batches_per_epoch(self.pair, self.settings)
        losses = torch.full((1,), math.inf)
        for step, batch in enumerate(batches(self.pair, self.settings, self.orders, self.device)):
            share = _cosine((epoch + step / steps) / self.settings.epochs)
            self.stack.optimizer.param_groups[0]["lr"] = self.settings.lr * (
                share if self.settings.schedule == "cosine" else 1.0
            )
            assert batch is not None
            losses = self.stack.step(batch, len(self.pair[0]))
        return losses

    def _values(self) -> Params:
        """The variances of the moment, for each member."""
        return {name: torch.full((self.settings.members,), value) for name, value in self.ascent.values.items()}

    def _expansions(self, params: Params, generator: torch.Generator | None) -> dict[int, Expansion]:
        """Of every member that has not diverged, under the variances of the moment."""
        target = exact_target(model_at(self.given, self.ascent.values), self.pair, 1.0, self.device)
        result = {}
        for member in _finite(params):
            z = target.free({name: value[member].double() for name, value in params.items()})
            try:
                result[member] = Expansion.at(target, z, self.settings.curvature, generator=generator)
            except torch.linalg.LinAlgError as error:  # weights far off, of which the training may come back
                logger.warning("member %d has no curvature: %s", member, error)
        return result

    def _update(self, epoch: int) -> None:
        done = (epoch - self.settings.first) / (self.settings.epochs - self.settings.first)
        self.ascent.optimizer.param_groups[0]["lr"] = self.settings.evidence_lr * _cosine(done)
        expansions = list(self._expansions(self.stack.params(), self.probes).values())
        if not expansions:
            return
        before = self.ascent.climb(expansions, self.settings.steps)
        self.path.append({"epoch": epoch, "log_evidence": before, "variances": self.ascent.values})
        self.stack.set_values(self._values())

    def _posterior(self, seconds: float) -> Posterior:
        params = self.stack.params()
        with torch.no_grad():
            evidences = {
                member: float(expansion.log_evidence()) for member, expansion in self._expansions(params, None).items()
            }
        kept = [member for member, value in evidences.items() if math.isfinite(value)]
        if not kept:
            raise RuntimeError(f"the training diverged; try a smaller lr than {self.settings.lr}.")
        if len(kept) < self.settings.members:
            lost = self.settings.members - len(kept)
            logger.warning("%d of %d members diverged and are left out.", lost, self.settings.members)
        log_evidence = sum(evidences[member] for member in kept) / len(kept)
        stats = {
            "engine": "EmpiricalBayes",
            "seed": self.seed,
            "curvature": self.settings.curvature,
            "variances": self.ascent.values,
            "log_evidence": log_evidence,
            "log_evidences": [evidences[member] for member in kept],
            "path": self.path,
            "seconds": round(seconds, 3),
        }
        logger.info("EmpiricalBayes: log evidence %.1f in %.1f s", log_evidence, seconds)
        history = [Snapshot(past.epoch, _chains(past.samples, kept)) for past in self.history]
        model = model_at(self.given, self.ascent.values)
        return Posterior(model, _chains(params, kept), stats, history, self.pair)


def _finite(params: Params) -> list[int]:
    """The members whose weights are all finite."""
    good = torch.stack([value.flatten(1).isfinite().all(1) for value in params.values()]).all(0)
    return good.nonzero().flatten().tolist()


def _chains(params: Params, members: list[int]) -> Params:
    """Some members, as chains of one draw each."""
    return {name: value[members][:, None] for name, value in params.items()}


def _cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))
