"""The evidence by annealing: annealed importance sampling and tempered sequential Monte Carlo.

    log f_t(z) = (1 - t) log r(z) + t log p(y, z | x)

Particles start as draws of a normalised reference r, and are moved by HMC while the temperature t goes from 0 to 1;
their weights have the evidence as their expectation (Jarzynski, Physical Review Letters 1997; Neal, Statistics and
Computing 2001; Del Moral, Doucet & Jasra, Journal of the Royal Statistical Society B 2006).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.evidence.protocol import Evidence
from analysis.evidence.tempered_settings import TemperedSettings
from inference.data import Data, Model
from inference.settings import chain_seeds, require_integers
from inference.tempering.particles import Annealing, anneal
from inference.tempering.path import TemperedPath
from inference.tempering.schedule import Plan, Planned

_FEW, _FEW_ISLANDS = 0.1, 0.5  # of the weights, by their effective number
_LOW_ACCEPTANCE = 0.3


@dataclass(frozen=True, kw_only=True)
class AnnealedImportanceSampling(TemperedSettings):
    """Annealed importance sampling (Neal, 2001): every particle has a weight of its own, and none is replaced.

    The standard error is that of independent weights, by the delta method. "pilot" takes as many temperatures as give
    log weights a variance of about 1, the square of the length of the path.

    Parameters
    ----------
    particles, temperatures, reference, trajectory_length, laplace : see TemperedSettings.

    Examples
    --------
    >>> AnnealedImportanceSampling(particles=256).estimate(model, data.train, seed=0)
    """

    def plan(self, path: TemperedPath, seed: int, progress: bool = True) -> Plan:
        """See TemperedSettings."""
        plan = self.pilot(path, seed, progress)
        wanted = self.temperatures if isinstance(self.temperatures, int) else math.ceil(plan.length**2)
        return plan.spaced(max(wanted, 1))

    def estimate(
        self, model: Model, data: Data, *, seed: int, device: str | torch.device = "auto", progress: bool = True
    ) -> Evidence:
        """See EvidenceMethod. ``details`` has log_weights (particle,), temperatures, acceptance and effective, the
        share of the particles that the weights are worth.
        """
        return _estimate(self, (self.particles, 1), model, data, seed, device, progress)


@dataclass(frozen=True, kw_only=True)
class TemperedSMC(TemperedSettings):
    """Tempered sequential Monte Carlo (Del Moral, Doucet & Jasra, 2006): particles that have lost their weight are
    replaced by copies of others, within an island, where the effective number falls below half.

    The estimate is the mean of the islands', and its standard error that of the mean, by the delta method.

    Parameters
    ----------
    islands : groups of particles that are resampled apart; standard errors are from the differences between them.
    particles : in all; a multiple of the islands, with at least four in each.
    temperatures, reference, trajectory_length, laplace : see TemperedSettings.

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

    def estimate(
        self, model: Model, data: Data, *, seed: int, device: str | torch.device = "auto", progress: bool = True
    ) -> Evidence:
        """See EvidenceMethod. ``details`` has log_weights (island,), the log of each island's own estimate,
        temperatures, acceptance and effective, the share of the islands that their weights are worth.
        """
        shape = self.islands, self.particles // self.islands
        return _estimate(self, shape, model, data, seed, device, progress)


def _estimate(
    method: TemperedSettings,
    shape: tuple[int, int],
    model: Model,
    data: Data,
    seed: int,
    device: str | torch.device,
    progress: bool,
) -> Evidence:
    """The evidence from so many islands, of so many particles each."""
    began = time.perf_counter()
    path = method.path(model, data, seed, device, progress)
    plan = method.plan(path, seed, progress)
    run = anneal(path, Planned(plan), shape, chain_seeds(seed, 2)[1], progress=progress)
    value, error = log_mean(run.log_weights)
    warnings = (*acceptance_warnings(run), *(weight_warnings(run) if shape[1] == 1 else _island_warnings(run)))
    seconds = time.perf_counter() - began
    return Evidence(value, type(method).__name__, error, seconds, path.gradients, warnings, run_details(run))


def log_mean(log_weights: Float[Tensor, " run"]) -> tuple[float, float]:
    """The log of the mean weight, and its standard error, by the delta method, for independent weights."""
    log_weights = log_weights.double()
    value = float(log_weights.logsumexp(0)) - math.log(len(log_weights))
    relative = (log_weights - value).exp()
    return value, float(relative.std() / math.sqrt(len(relative)))


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


def weight_warnings(run: Annealing) -> list[str]:
    """A warning where few particles have most of the weight."""
    if (share := effective_share(run.log_weights)) >= _FEW:
        return []
    return [
        f"the weights are worth {100 * share:.1f} % of {len(run.log_weights)} particles: value and standard error "
        "depend on few of them. Take more temperatures, or a longer trajectory_length."
    ]


def _island_warnings(run: Annealing) -> list[str]:
    """A warning where few islands have most of the weight."""
    if effective_share(run.log_weights) >= _FEW_ISLANDS:
        return []
    return [
        f"the {len(run.log_weights)} islands' estimates spread over {float(run.log_weights.std()):.2g} nats: value and "
        "standard error depend on few of them. Take more particles, or a longer trajectory_length."
    ]


def run_details(run: Annealing) -> dict[str, Any]:
    """The details of every evidence by tempering."""
    return {
        "log_weights": run.log_weights.cpu(),
        "effective": effective_share(run.log_weights),
        "temperatures": run.temperatures,
        "acceptance": run.acceptance,
    }
