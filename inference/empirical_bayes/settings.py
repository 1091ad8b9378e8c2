"""The settings of EmpiricalBayes."""

from __future__ import annotations

from dataclasses import dataclass

from bayes_rpp import BayesianModel
from inference.curvature.names import BlockCurvature, EvidenceCurvature, check_curvature, mode_curvature
from inference.settings import require_integers, require_positive
from inference.training.settings import Settings


@dataclass(frozen=True)
class EvidenceSettings(Settings):
    """See ``EmpiricalBayes``."""

    curvature: EvidenceCurvature = "symmetric"
    per_layer: bool = False
    burn_in: int | None = None
    every: int = 10
    steps: int = 10
    evidence_lr: float = 0.1
    passes: int = 1
    members: int = 1
    refinements: int = 0
    estimate: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_curvature(self.curvature, EvidenceCurvature)
        require_integers(self, every=1, steps=1, passes=1, members=1, refinements=0)
        if self.burn_in is not None:
            require_integers(self, burn_in=0)
        require_positive("evidence_lr", self.evidence_lr)
        if self.first >= self.epochs:
            raise ValueError(f"burn_in = {self.burn_in} leaves no update in {self.epochs} epochs.")

    @property
    def first(self) -> int:
        """The epoch before which the variances are updated for the first time."""
        return self.epochs // 2 if self.burn_in is None else self.burn_in

    @property
    def mode_curvature(self) -> BlockCurvature:
        """That by which modes are sought."""
        return mode_curvature(self.curvature)

    def learned_model(self, model: BayesianModel) -> BayesianModel:
        """The model whose variances are learned: with settings for each layer, if it is to have them."""
        if not self.per_layer:
            return model
        return BayesianModel(model.network, model.prior.per_layer(model.network), model.likelihood, model.num_outputs)
