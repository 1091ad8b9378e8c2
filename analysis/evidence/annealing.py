"""The evidence by annealing: annealed importance sampling and tempered sequential Monte Carlo.

    log f_t(z) = (1 - t) log r(z) + t log p(y, z | x)

Particles start as draws of a normalised reference r, and are moved by HMC while the temperature t goes from 0 to 1;
their weights have the evidence as their expectation (Jarzynski, Physical Review Letters 1997; Neal, Statistics and
Computing 2001; Del Moral, Doucet & Jasra, Journal of the Royal Statistical Society B 2006).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.evidence.protocol import Evidence, timed
from bayes_rpp import BayesianModel
from inference.data import Data, Model, resolve_data, resolve_device
from inference.density.unconstrained import float64_density
from inference.laplace.laplace import Laplace
from inference.settings import chain_seeds, require_integers, require_positive
from inference.tempering.particles import Annealing, anneal
from inference.tempering.path import LaplacePath, PriorPath, ReferenceName, TemperedPath
from inference.tempering.schedule import Adaptive, Plan, Planned

_PILOT_SHARE = 0.9  # of the particles, by the conditional effective sample size
_PILOT_PARTICLES = 256
_PILOT_MOVES = 2  # at each temperature
_FEW, _FEW_ISLANDS = 0.1, 0.5  # of the weights, by their effective number
_LOW_ACCEPTANCE = 0.3


@dataclass(frozen=True, kw_only=True)
class AnnealedImportanceSampling:
    """Annealed importance sampling (Neal, 2001): every particle has a weight of its own, and none is replaced.

    The standard error is that of independent weights, by the jackknife. "pilot" takes as many temperatures as would
    give log weights a variance of 1, the square of the length of the path, if every move made the particles
    independent. Moves do not: on linear models the variance is 2 to 3. Of 64 particles with such weights the standard
    error is right on average (0.20 nats), but smaller where the largest weights were missed: 6 % of the estimates are
    off by more than two of it. Take 500 particles or more.

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

    Examples
    --------
    >>> AnnealedImportanceSampling(particles=256).estimate(model, data.train, seed=0)
    """

    particles: int = 512
    temperatures: int | Literal["pilot"] = "pilot"
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
                message = f"temperatures must be a positive integer or 'pilot', got {self.temperatures!r}."
                raise ValueError(message) from None
        if self.reference is not None and self.reference not in get_args(ReferenceName):
            raise ValueError(f"reference must be 'prior', 'laplace' or None, got {self.reference!r}.")

    @timed
    def estimate(
        self, model: Model, data: Data, *, seed: int, device: str | torch.device = "auto", progress: bool = True
    ) -> Evidence:
        """See EvidenceMethod. ``details`` has log_weights, of every particle or island; temperatures; acceptance; and
        effective, the share of the particles or islands that their weights are worth.
        """
        path = self.path(model, data, seed, device, progress)
        plan = self.plan(path, seed, progress)
        run = anneal(path, Planned(plan), self._shape, chain_seeds(seed, 2)[1], progress=progress)
        (value, error), share = log_mean(run.log_weights), effective_share(run.log_weights)
        details = {"log_weights": run.log_weights.cpu(), "effective": share}
        details |= {"temperatures": run.temperatures, "acceptance": run.acceptance}
        warnings = (*acceptance_warnings(run), *self._weight_warnings(run, share))
        return Evidence(value, type(self).__name__, error, 0.0, path.gradients, warnings, details)

    @property
    def _shape(self) -> tuple[int, int]:
        """The number of islands, and of the particles in each."""
        return self.particles, 1

    def _weight_warnings(self, run: Annealing, share: float) -> list[str]:
        """A warning where few particles or islands have most of the weight."""
        if share >= _FEW:
            return []
        return [
            f"the weights are worth {100 * share:.1f} % of {len(run.log_weights)} particles: value and standard error "
            "depend on few of them. Take more temperatures, or a longer trajectory_length."
        ]

    def path(
        self, model: Model, data: Data, seed: int, device: str | torch.device = "auto", progress: bool = True
    ) -> TemperedPath:
        """The densities from the reference to the joint, in float64."""
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
        guide = Adaptive(path, _PILOT_SHARE, self.trajectory_length)
        shape = (1, min(self.particles, _PILOT_PARTICLES))
        anneal(path, guide, shape, chain_seeds(seed, 1)[0], moves=_PILOT_MOVES, progress=progress)
        return guide.plan

    def plan(self, path: TemperedPath, seed: int, progress: bool = True) -> Plan:
        """The temperatures and the kernels of the run, by a pilot."""
        plan = self.pilot(path, seed, progress)
        wanted = self.temperatures if isinstance(self.temperatures, int) else math.ceil(plan.length**2)
        return plan.spaced(max(wanted, 1))


@dataclass(frozen=True, kw_only=True)
class TemperedSMC(AnnealedImportanceSampling):
    """Tempered sequential Monte Carlo (Del Moral, Doucet & Jasra, 2006): particles that have lost their weight are
    replaced by copies of others, within an island, where the effective number falls below half.

    The estimate is the mean of the islands', and its standard error that of the mean, by the jackknife.

    Parameters
    ----------
    islands : groups of particles that are resampled apart; standard errors are from the differences between them.
    particles : in all; a multiple of the islands, with at least four in each.
    temperatures, reference, trajectory_length, laplace : see AnnealedImportanceSampling; "pilot" takes the temperatures
        of the first run as they are.

    Examples
    --------
    >>> TemperedSMC(particles=1024, reference="laplace").estimate(model, data.train, seed=0)
    """

    particles: int = 1024
    islands: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integers(self, islands=2)
        if self.particles % self.islands or self.particles < 4 * self.islands:
            raise ValueError(
                f"particles must be a multiple of the {self.islands} islands, with four or more in each, got "
                f"{self.particles}."
            )

    def plan(self, path: TemperedPath, seed: int, progress: bool = True) -> Plan:
        """See AnnealedImportanceSampling."""
        plan = self.pilot(path, seed, progress)
        return plan.spaced(self.temperatures) if isinstance(self.temperatures, int) else plan

    @property
    def _shape(self) -> tuple[int, int]:
        return self.islands, self.particles // self.islands

    def _weight_warnings(self, run: Annealing, share: float) -> list[str]:
        if share >= _FEW_ISLANDS:
            return []
        return [
            f"the {len(run.log_weights)} islands' estimates spread over {float(run.log_weights.std()):.2g} nats: value "
            "and standard error depend on few of them. Take more particles, or a longer trajectory_length."
        ]


def log_mean(log_weights: Float[Tensor, " run"]) -> tuple[float, float]:
    """The log of the mean weight, and its standard error, by the jackknife, for independent weights: the delta method's
    is too small where single weights make up much of the sum.
    """
    log_weights = log_weights.double()
    value = float(log_weights.logsumexp(0)) - math.log(len(log_weights))
    count, relative = len(log_weights), (log_weights - value).exp()
    without = ((count - relative).clamp_min(torch.finfo(torch.float64).eps) / (count - 1)).log()
    return value, math.sqrt((count - 1) * float(without.var(correction=0)))


def effective_share(log_weights: Float[Tensor, " run"]) -> float:
    """(sum w)^2 / sum w^2, as a share of the number of weights."""
    return float((2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()) / len(log_weights)


def acceptance_warnings(run: Annealing) -> list[str]:
    """A warning where the particles hardly moved."""
    worst = min(range(len(run.acceptance)), key=lambda level: run.acceptance[level])
    if run.acceptance[worst] >= _LOW_ACCEPTANCE:
        return []
    return [
        f"the acceptance fell to {run.acceptance[worst]:.2f} at the temperature {run.temperatures[worst]:.3g}: the "
        "particles hardly moved there. Take more particles, for a better pilot."
    ]
