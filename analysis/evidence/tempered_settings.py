"""Settings of the evidences by tempering: the path of densities, and the temperatures along it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch

from bayes_rpp import BayesianModel
from inference.data import Data, Model, resolve_data, resolve_device
from inference.density.unconstrained import float64_density
from inference.laplace.laplace import Laplace
from inference.settings import chain_seeds, require_integers, require_positive
from inference.tempering.particles import anneal
from inference.tempering.path import LaplacePath, PriorPath, ReferenceName, TemperedPath
from inference.tempering.schedule import Adaptive, Plan

Temperatures = int | Literal["pilot"]

PILOT_SHARE = 0.9  # of the particles, by the conditional effective sample size
_PILOT_PARTICLES = 256
_PILOT_MOVES = 2  # at each temperature


@dataclass(frozen=True, kw_only=True)
class TemperedSettings:
    """Settings of every evidence by tempering.

    Parameters
    ----------
    particles : how many, side by side.
    temperatures : "pilot": a first run of other particles chooses the temperatures and the kernels, which are then
        fixed, so that the estimate of the evidence is unbiased. A number: the same, with so many steps of equal length
        along the pilot's path.
    reference : where the path begins. "prior": it tempers the likelihood. "laplace": the Gaussian of a Laplace
        approximation, a shorter path where the posterior has one mode that is nearly Gaussian; what lies in other
        modes is found rarely or not at all. None takes the prior, and for a LogDensity the Gaussian.
    trajectory_length : of each move, in units of the posterior's standard deviations at its temperature. Where f_t is
        Gaussian, pi / 2 is enough to make positions independent, and costs a third of the default. Networks need the
        default or more: with pi / 2 the estimate for one of 75 parameters was 4 nats too low.
    laplace : finds the Gaussian, if it is the reference.

    Raises
    ------
    ValueError
        If a number is not positive, or a name is unknown.
    """

    particles: int = 512
    temperatures: Temperatures = "pilot"
    reference: ReferenceName | None = None
    trajectory_length: float = 3 * math.pi / 2
    laplace: Laplace = field(default_factory=lambda: Laplace(draws=1))

    def __post_init__(self) -> None:
        require_integers(self, particles=2)
        require_positive("trajectory_length", self.trajectory_length)
        if self.temperatures != "pilot":
            try:
                require_integers(self, temperatures=1)
            except ValueError:
                raise ValueError(
                    f"temperatures must be a positive integer or 'pilot', got {self.temperatures!r}."
                ) from None
        if self.reference is not None and self.reference not in get_args(ReferenceName):
            raise ValueError(f"reference must be 'prior', 'laplace' or None, got {self.reference!r}.")

    def path(
        self, model: Model, data: Data, seed: int, device: str | torch.device = "auto", progress: bool = True
    ) -> TemperedPath:
        """The densities from the reference to the joint, in float64.

        Raises
        ------
        ValueError, TypeError
            If the data are missing or refused, or a LogDensity is to begin at a prior.
        """
        reference = self.reference or ("prior" if isinstance(model, BayesianModel) else "laplace")
        if reference == "laplace":
            posterior = self.laplace.fit(model, data, seed=seed, device=device, progress=progress)
            path = LaplacePath(posterior)
            path.gradients += self.laplace.mode.epochs + posterior.stats["steps"]
            return path
        if not isinstance(model, BayesianModel):
            raise ValueError(
                "reference='prior' needs a BayesianModel: a LogDensity does not separate its prior from the rest. Use "
                "reference='laplace'."
            )
        return PriorPath(float64_density(model, resolve_data(model, data), 1.0, resolve_device(device)))

    def pilot(self, path: TemperedPath, seed: int, progress: bool = True) -> Plan:
        """The plan of a run of its own; the same seed gives the same plan."""
        guide = Adaptive(path, PILOT_SHARE, self.trajectory_length)
        shape = (1, min(self.particles, _PILOT_PARTICLES))
        anneal(path, guide, shape, chain_seeds(seed, 1)[0], moves=_PILOT_MOVES, progress=progress)
        return guide.plan

    def plan(self, path: TemperedPath, seed: int, progress: bool = True) -> Plan:
        """The temperatures and the kernels of the run, by a pilot."""
        plan = self.pilot(path, seed, progress)
        return plan.spaced(self.temperatures) if isinstance(self.temperatures, int) else plan
