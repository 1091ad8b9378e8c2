"""The settings of EmpiricalBayes."""

from __future__ import annotations

from dataclasses import dataclass

from bayes_rpp import BayesianModel
from inference.curvature.names import BlockCurvature, EvidenceCurvature, check_curvature, mode_curvature
from inference.settings import require_integers
from inference.training.settings import TrainingSettings


@dataclass(frozen=True)
class EvidenceSettings(TrainingSettings):
    """See ``EmpiricalBayes``."""

    members: int = 1
    passes: int = 1
    refinements: int = 0
    curvature: EvidenceCurvature = "symmetric"
    per_layer: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_curvature(self.curvature, EvidenceCurvature)
        require_integers(self, members=1, passes=1, refinements=0)

    @property
    def mode_curvature(self) -> BlockCurvature:
        """The curvature that preconditions the search for modes."""
        return mode_curvature(self.curvature)

    def learned_model(self, model: BayesianModel) -> BayesianModel:
        """The model whose variances are learned: with settings for each layer, if it is to have them."""
        if not self.per_layer:
            return model
        return BayesianModel(model.network, model.prior.per_layer(model.network), model.likelihood, model.num_outputs)
