"""Weights and the variances of their prior, learned together: one pass of EmpiricalBayes."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from bayes_rpp import BayesianModel
from bayes_rpp.bayesian_model import model_at
from bayes_rpp.likelihoods import NOISE
from bayes_rpp.types import Params
from inference.data import Pair
from inference.density.unconstrained import float64_density
from inference.empirical_bayes.evidence_ascent import EvidenceAscent
from inference.empirical_bayes.settings import EvidenceSettings
from inference.laplace.expansion import Expansion
from inference.posterior.draws import Snapshot
from inference.posterior.posterior import Posterior
from inference.progress import off_unless
from inference.training.batches import batches, batches_per_epoch, member_seeds
from inference.training.settings import cosine, snapshot_epochs
from inference.training.varied_stack import VariedStack, no_wider_than_prior, stacked_starts

logger = logging.getLogger(__name__)


class VarianceLearning:
    """One pass of EmpiricalBayes.

    Parameters
    ----------
    settings, model, pair, seed, device : see EmpiricalBayes.
    values : variances to start with, in place of the model's own. The noise starts where the model has it: what an
        earlier pass has left of it would keep the weights from being fitted more closely.

    Attributes
    ----------
    path : of every update the epoch, the log evidence before it and the variances after it.
    """

    def __init__(
        self,
        settings: EvidenceSettings,
        model: BayesianModel,
        pair: Pair,
        seed: int,
        device: torch.device,
        values: Mapping[str, float] | None = None,
    ) -> None:
        self.settings, self.pair, self.seed, self.device = settings, pair, seed, device
        self.given = settings.learned_model(model)
        self.ascent = EvidenceAscent(self.given, settings.evidence_lr)
        self.ascent.start_from({name: value for name, value in (values or {}).items() if name != NOISE})
        seeds, current = member_seeds(seed, settings.members), self._values()
        starts = no_wider_than_prior(stacked_starts(model, seeds), self.given.prior.laws(model.network), current)
        self.stack = VariedStack(model_at(self.given, self.ascent.values), starts, current, settings.lr, device)
        self.orders = [torch.Generator().manual_seed(start) for start in seeds]
        self.probes = torch.Generator(device).manual_seed(seed) if settings.estimate else None
        self.path: list[dict[str, Any]] = []
        self.history: list[Snapshot] = []

    def run(self, progress: bool) -> bool:
        """Train; returns whether it came to its end, and was not interrupted.

        Raises
        ------
        RuntimeError
            If every member diverges.
        """
        settings, epoch = self.settings, 0
        losses, when = torch.full((1,), math.inf), snapshot_epochs(settings)
        bar = tqdm(range(settings.epochs), desc="empirical Bayes", unit="epoch", disable=off_unless(progress))
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
            logger.warning("interrupted in epoch %d of %d.", epoch + 1, settings.epochs)
            return False
        return True

    def _train(self, epoch: int) -> Float[Tensor, " member"]:
        """One epoch; returns the last losses."""
        steps = batches_per_epoch(self.pair, self.settings)
        losses = torch.full((1,), math.inf)
        for step, batch in enumerate(batches(self.pair, self.settings, self.orders, self.device)):
            rate = self.settings.rate((epoch + step / steps) / self.settings.epochs)
            self.stack.optimizer.param_groups[0]["lr"] = rate
            assert batch is not None
            losses = self.stack.step(batch, len(self.pair[0]))
        return losses

    def _values(self) -> Params:
        """The variances of the moment, for each member."""
        return {name: torch.full((self.settings.members,), value) for name, value in self.ascent.values.items()}

    def _expansions(self, params: Params, generator: torch.Generator | None) -> Iterator[tuple[int, Expansion]]:
        """Of every member that has not diverged, under the variances of the moment."""
        density = float64_density(model_at(self.given, self.ascent.values), self.pair, 1.0, self.device)
        for member in _finite(params):
            z = density.free({name: value[member].double() for name, value in params.items()})
            try:
                yield member, Expansion.at(density, z, self.settings.curvature, generator=generator)
            except torch.linalg.LinAlgError as error:  # weights far off, of which the training may come back
                logger.warning("member %d has no curvature: %s", member, error)

    def _update(self, epoch: int) -> None:
        done = (epoch - self.settings.first) / (self.settings.epochs - self.settings.first)
        self.ascent.optimizer.param_groups[0]["lr"] = self.settings.evidence_lr * cosine(done)
        expansions = [expansion for _, expansion in self._expansions(self.stack.params(), self.probes)]
        before = self.ascent.climb(expansions, self.settings.steps)
        if math.isnan(before):
            logger.warning("no member has an evidence in epoch %d; the variances stay as they are.", epoch + 1)
            return
        self.path.append({"epoch": epoch, "log_evidence": before, "variances": self.ascent.values})
        self.stack.set_values(self._values())

    def posterior(self) -> Posterior:
        """The members as they are, and their evidence.

        Raises
        ------
        RuntimeError
            If none has an evidence.
        """
        params = self.stack.params()
        evidences = {member: _log_evidence(expansion) for member, expansion in self._expansions(params, None)}
        kept = [member for member, value in evidences.items() if math.isfinite(value)]
        if not kept:
            raise RuntimeError(f"the training diverged; try a smaller lr than {self.settings.lr}.")
        if len(kept) < self.settings.members:
            lost = self.settings.members - len(kept)
            logger.warning("%d of %d members diverged or have no evidence: left out.", lost, self.settings.members)
        log_evidence = sum(evidences[member] for member in kept) / len(kept)
        stats = {
            "engine": "EmpiricalBayes",
            "seed": self.seed,
            "curvature": self.settings.curvature,
            "variances": self.ascent.values,
            "log_evidence": log_evidence,
            "log_evidences": [evidences[member] for member in kept],
        }
        history = [Snapshot(past.epoch, _chains(past.samples, kept)) for past in self.history]
        model = model_at(self.given, self.ascent.values)
        return Posterior(model, _chains(params, kept), stats, history, self.pair)


def _finite(params: Params) -> list[int]:
    """The members whose weights are all finite."""
    good = torch.stack([value.flatten(1).isfinite().all(1) for value in params.values()]).all(0)
    return good.nonzero().flatten().tolist()


def _log_evidence(expansion: Expansion) -> float:
    """NaN without one."""
    try:
        with torch.no_grad():
            return float(expansion.log_evidence())
    except torch.linalg.LinAlgError:
        return math.nan


def _chains(params: Params, members: list[int]) -> Params:
    """Some members, as chains of one draw each."""
    return {name: value[members][:, None] for name, value in params.items()}
