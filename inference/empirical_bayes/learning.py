"""Weights and the variances of their prior, learned together: one pass of EmpiricalBayes."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bayes_rpp import BayesianModel
from bayes_rpp.known_variances import model_at
from bayes_rpp.likelihoods import NOISE
from bayes_rpp.seeding import seeded_generator
from bayes_rpp.types import Params
from inference.data import Pair
from inference.density.unconstrained import float64_density
from inference.empirical_bayes.checkpoint import ascent_state, restore_ascent
from inference.empirical_bayes.evidence_ascent import EvidenceAscent
from inference.empirical_bayes.settings import EvidenceSettings
from inference.interrupts import not_interrupted
from inference.laplace.expansion import Expansion
from inference.posterior.draws import Snapshot
from inference.posterior.posterior import Posterior
from inference.training.checkpoint import training_checkpoint
from inference.training.ensemble import as_chains
from inference.training.loop import snapshots_into, train
from inference.training.minibatches import Minibatches, member_seeds
from inference.training.objectives import initial_params, no_wider_than_prior
from inference.training.parameter_stack import finite_members, varied_stack
from inference.training.settings import cosine

logger = logging.getLogger(__name__)

# The share of the epochs before the first update: an early one takes what is not fitted yet for noise, for good.
FIRST_UPDATE = 0.5
# Epochs between updates: one cost 13 ("symmetric") and 62 ("kronecker") steps of training 9,456 parameters.
UPDATE_EVERY = 10
# Of Adam in each update: a gradient cost 0.3 and 5 steps of training there, the curvature 9 and 14.
STEPS = 10
# Adam's learning rate in log variances at the first update; it falls to zero along a cosine.
LARGEST_RATE = 0.1


class VarianceLearning:
    """One pass of EmpiricalBayes, which starts with the variances ``values`` in place of the model's own.

    The noise starts where the model has it: what an earlier pass has left of it would keep the weights from being
    fitted more closely. ``path`` has the epoch of every update, the log evidence before it and the variances after it.
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
        self.ascent = EvidenceAscent(self.given)
        self.ascent.start_from({name: value for name, value in (values or {}).items() if name != NOISE})
        seeds, current = member_seeds(seed, settings.members), self._values()
        priors = self.given.prior.parameter_priors(model.network)
        starts = no_wider_than_prior(initial_params(model, seeds), priors, current)
        self.stack = varied_stack(model_at(self.given, self.ascent.values), starts, current, len(pair[0]), device)
        self.minibatches = Minibatches(pair, settings.batch_size, seeds, device)
        self.probes = seeded_generator(seed, device)
        self.first_update = int(FIRST_UPDATE * settings.epochs)
        self.path: list[dict[str, Any]] = []
        self.history: list[Snapshot] = []
        self.updated = -1  # the epoch of the last update
        self.seconds = 0.0  # of the runs that this one resumes

    def run(self, progress: bool, checkpoint: Path | None = None) -> bool:
        """Train, on from a checkpoint if there is one; returns whether no interrupt ended it early. Raises RuntimeError
        if every member diverges.
        """
        before_epoch = [snapshots_into(self.history, self.stack, self.settings), self._update_when_due]
        kept = None
        if checkpoint is not None:
            what = "EmpiricalBayes", self.settings, self.given, self.seed, 0, self.pair, False
            kept = training_checkpoint(checkpoint, *what, self.stack, self.minibatches, self.history, self)
        trained = train(self.stack, self.minibatches, self.settings, "empirical Bayes", progress, before_epoch, kept)
        self.seconds = trained.seconds
        if trained.all_failed:
            raise RuntimeError(
                f"the training diverged in epoch {trained.epochs}; try a smaller lr than {self.settings.lr}."
            )
        return not trained.interrupted

    def _values(self) -> Params:
        """The current variances, for each member."""
        return {name: torch.full((self.settings.members,), value) for name, value in self.ascent.values.items()}

    def _expansions(self, params: Params, generator: torch.Generator | None) -> Iterator[tuple[int, Expansion]]:
        """The expansion of every member that has not diverged, under the current variances; with a generator, factored
        curvatures are estimates, see ``kronecker_blocks``.
        """
        density = float64_density(model_at(self.given, self.ascent.values), self.pair, 1.0, self.device)
        for member in finite_members(params):
            z = density.free({name: value[member].double() for name, value in params.items()})
            try:
                yield member, Expansion.at(density, z, self.settings.curvature, generator=generator)
            except torch.linalg.LinAlgError as error:  # weights far from a mode, from which training may return
                logger.warning("member %d has no curvature: %s", member, error)

    def _update_when_due(self, epoch: int) -> None:
        since = epoch - self.first_update
        if since < 0 or since % UPDATE_EVERY or epoch == self.updated:
            return
        before = self.state()
        try:
            self._update(epoch)
        except KeyboardInterrupt:
            if epoch != self.updated:  # a checkpoint holds no half of an update
                with not_interrupted():
                    self.restore(before)
            raise

    def _update(self, epoch: int) -> None:
        """Improve the evidence at the current weights, with the curvature there."""
        share = (epoch - self.first_update) / (self.settings.epochs - self.first_update)
        expansions = [expansion for _, expansion in self._expansions(self.stack.params(), self.probes)]
        before = self.ascent.adam_steps(expansions, STEPS, LARGEST_RATE * cosine(share))
        if math.isnan(before):
            logger.warning("no member has an evidence in epoch %d; the variances stay as they are.", epoch + 1)
        with not_interrupted():
            if not math.isnan(before):
                self.path.append({"epoch": epoch, "log_evidence": before, "variances": self.ascent.values})
                self.stack.set_variances(self._values())
            self.updated = epoch

    def state(self) -> dict[str, Tensor]:
        """What is learned beside the parameters, as a checkpoint keeps it."""
        path = [[u["epoch"], u["log_evidence"], *u["variances"].values()] for u in self.path]
        rows = torch.tensor(path, dtype=torch.float64).reshape(len(path), 2 + len(self.ascent.logs))
        others = {"path": rows, "updated": torch.tensor(self.updated), "probes": self.probes.get_state()}
        return ascent_state(self.ascent) | others

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a state, but for the parameters."""
        restore_ascent(self.ascent, state)
        self.probes.set_state(state["probes"])
        self.updated = int(state["updated"])
        self.path = [
            {"epoch": int(epoch), "log_evidence": before, "variances": dict(zip(self.ascent.logs, values, strict=True))}
            for epoch, before, *values in state["path"].tolist()
        ]
        self.stack.set_variances(self._values())

    def posterior(self) -> Posterior:
        """The members as they are, and their evidence; raises RuntimeError if none has one."""
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
        history = [Snapshot(past.epoch, as_chains(past.samples, kept)) for past in self.history]
        model = model_at(self.given, self.ascent.values)
        return Posterior(model, as_chains(params, kept), stats, history, self.pair)


def _log_evidence(expansion: Expansion) -> float:
    """The log evidence; NaN without one."""
    try:
        with torch.no_grad():
            return float(expansion.log_evidence())
    except torch.linalg.LinAlgError:
        return math.nan
