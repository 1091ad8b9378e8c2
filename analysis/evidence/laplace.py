"""The Laplace approximation of the evidence."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from analysis.evidence.protocol import Evidence, timed
from bayes_rpp import BayesianModel
from inference import MAP, Laplace
from inference.curvature.names import EvidenceCurvature, check_curvature, mode_curvature
from inference.data import Data, Model
from inference.laplace.expansion import Expansion
from inference.laplace.posterior import LaplacePosterior

_SMALL = 1_000  # parameters up to which other curvatures are compared with "full"
_DECREMENT = 0.1  # of the distance to the mode, in posterior standard deviations: half its square is what it costs


@dataclass(frozen=True)
class LaplaceEvidence:
    """The evidence of a Gaussian around a mode: log p(y, z*) + d/2 log 2 pi - 1/2 log det H (MacKay, Neural Computation
    1992; Immer et al., ICML 2021). Exact for linear-Gaussian models with the curvature "full".

    Parameters
    ----------
    curvature : what H couples.

        * "full": everything; a dense matrix.
        * "layer": the parameters of each layer, both pathways together; a dense matrix a layer.
        * "kronecker": an effective weight, by Kronecker factors together with the prior's own structure.
        * "symmetric": the same, with factors averaged over the group: for wide layers.
        * "diagonal": nothing.
        By Fischer's inequality what is left uncoupled makes log det H too large, and the evidence too small, but for
        the factors, whose error can have either sign. It is tens of nats where few data with little noise determine
        layers jointly. Up to 1,000 parameters the value at the same mode with "full" is computed, and a difference of
        more than one nat is among the warnings.
    mode : finds the mode, which is then sought more exactly with the curvature.

    Examples
    --------
    >>> log_evidence(model, data.train, LaplaceEvidence("layer"))
    """

    curvature: EvidenceCurvature = "full"
    mode: MAP = field(default_factory=MAP)

    def __post_init__(self) -> None:
        check_curvature(self.curvature, EvidenceCurvature)

    @timed
    def estimate(
        self, model: Model, data: Data, *, seed: int, device: str | torch.device = "auto", progress: bool = True
    ) -> Evidence:
        """See EvidenceMethod and ``Laplace.fit``; a LogDensity takes "full", "layer" and "diagonal" with its exact
        Hessian, and is refused with factors.
        """
        factored = self.curvature == "kronecker" or self.curvature == "symmetric"
        if factored and not isinstance(model, BayesianModel):
            raise TypeError(f"curvature={self.curvature!r} needs the layers of a network; a LogDensity has none.")
        laplace = Laplace(mode_curvature(self.curvature), draws=1, mode=self.mode)
        fitted = laplace.fit(model, data, seed=seed, device=device, progress=progress)
        if factored:
            with torch.no_grad():
                value = Expansion.at(fitted.density, fitted.approximation.mean, self.curvature).log_evidence()
        else:
            value = fitted.approximation.log_integral(fitted.mode_log_joint)
        decrement, warnings = fitted.stats["newton_decrement"], []
        if decrement > _DECREMENT:
            warnings.append(
                f"the search for the mode ended {decrement:.2g} posterior standard deviations away: the value is too "
                f"small by about {decrement**2 / 2:.2g} nats. Train longer, mode=MAP(epochs=...), or on standardised "
                "data."
            )
        warnings += _out_of_range(fitted, self.curvature, float(value))
        details = {"newton_decrement": decrement, "mode_log_joint": fitted.mode_log_joint, "posterior": fitted}
        details["steps"] = fitted.stats["steps"]
        return Evidence(float(value), f"Laplace, {self.curvature}", warnings=tuple(warnings), details=details)


def _out_of_range(fitted: LaplacePosterior, curvature: EvidenceCurvature, value: float) -> list[str]:
    """What the curvature leaves out, where that can be computed."""
    model = fitted.model
    if curvature == "full" or fitted.density.size > _SMALL or not isinstance(model, BayesianModel) or model.hyperpriors:
        return []
    with torch.no_grad():
        full = float(Expansion.at(fitted.density, fitted.approximation.mean, "full").log_evidence())
    if abs(full - value) <= 1:
        return []
    side = "below" if value < full else "above"
    return [
        f"curvature={curvature!r} is {abs(full - value):.0f} nats {side} 'full' at the same mode, since it leaves out "
        "how the data determine parameters jointly. Use curvature='full'."
    ]
