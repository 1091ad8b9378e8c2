"""The evidence by thermodynamic integration and stepping stones, from the particles of tempered SMC.

    log p(y | x) = int_0^1 E_t[D] dt,    E_t the mean under f_t,    D(z) = log p(y, z | x) - log r(z)
    p(y | x) = prod_k E_{t_(k-1)}[exp((t_k - t_(k-1)) D)]

(Gelman & Meng, Statistical Science 1998; Xie, Lewis, Fan, Kuo & Chen, Systematic Biology 2011).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.evidence.annealing import run_details, run_warnings
from analysis.evidence.protocol import Evidence
from analysis.evidence.tempered_settings import IslandSettings
from inference.data import Data, Model
from inference.settings import chain_seeds, require_integers
from inference.tempering.particles import Annealing, anneal

_LARGE_CORRECTION = 1.0  # nats


@dataclass
class Ladder:
    """What islands of particles saw of D at each temperature, t_0 = 0 included.

    Attributes
    ----------
    temperatures : t_k.
    means, variances : of D in each island, for each temperature.
    log_ratios : of each island and t_k, the log of the mean of exp((t_(k+1) - t_k) D); one fewer.
    """

    temperatures: list[float] = field(default_factory=list)
    means: list[Float[Tensor, " island"]] = field(default_factory=list)
    variances: list[Float[Tensor, " island"]] = field(default_factory=list)
    log_ratios: list[Float[Tensor, " island"]] = field(default_factory=list)
    _last: tuple[Tensor, Tensor] | None = field(default=None, repr=False)

    def observe(
        self, t: float, gains: Float[Tensor, "move island particle"], within: Float[Tensor, "island particle"]
    ) -> None:
        """Take note of a temperature; see Observer."""
        if self._last is not None:
            seen, weights = self._last
            step = t - self.temperatures[-1]
            self.log_ratios.append((weights + step * seen).logsumexp((0, 2)) - math.log(len(seen)))
        weights = within.exp()
        mean = (weights * gains).sum(2).mean(0)
        spread = (weights * (gains - mean[:, None]).square()).sum(2).mean(0)
        self.temperatures.append(t)
        self.means.append(mean)
        self.variances.append(spread / (1 - weights.square().sum(1)))
        self._last = gains, within

    def integral(self, corrected: bool) -> Float[Tensor, " island"]:
        """The integral of the mean of D, by the trapezoidal rule, in each island; with the correction by the variance,
        which is the slope of the mean (Friel, Hurn & Wyse, Statistics and Computing 2014, eq. 6).

            sum_k (h_k / 2) (E_k + E_(k+1)) - (h_k^2 / 12) (V_(k+1) - V_k),    h_k = t_(k+1) - t_k
        """
        means, variances = torch.stack(self.means), torch.stack(self.variances)
        step = torch.tensor(self.temperatures).to(means).diff()[:, None]
        result = (step / 2 * (means[1:] + means[:-1])).sum(0)
        return result - (step.square() / 12 * variances.diff(dim=0)).sum(0) if corrected else result


@dataclass(frozen=True, kw_only=True)
class LadderSettings(IslandSettings):
    """What evidences by means along the path are told.

    Parameters
    ----------
    moves : trajectories at each temperature; what is averaged is averaged over all of them.
    particles, islands, temperatures, reference, trajectory_length, laplace : see IslandSettings.
    """

    moves: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integers(self, moves=1)

    def _run(
        self, model: Model, data: Data, seed: int, device: str | torch.device, progress: bool
    ) -> tuple[Ladder, Annealing, int]:
        ladder = Ladder()
        path = self.path(model, data, seed, device, progress)
        guide, seeds = self.guide(path, seed, progress), chain_seeds(seed, 2)[1]
        run = anneal(path, guide, self.shape, seeds, moves=self.moves, observe=ladder.observe, progress=progress)
        return ladder, run, path.gradients


@dataclass(frozen=True, kw_only=True)
class ThermodynamicIntegration(LadderSettings):
    """Thermodynamic integration: the mean of D along the path, by the trapezoidal rule with a correction by the
    variance (Friel, Hurn & Wyse, 2014).

    The value is the mean of the islands', and its standard error theirs; what the rule itself is off, it does not
    know. The rule is exact in the limit of many temperatures, and of many particles.

    Parameters
    ----------
    moves : trajectories at each temperature; D is averaged over all of them.
    particles, islands, temperatures, reference, trajectory_length, laplace : see IslandSettings.

    Examples
    --------
    >>> ThermodynamicIntegration(temperatures=50).estimate(model, data.train, seed=0)
    """

    def estimate(
        self, model: Model, data: Data, *, seed: int, device: str | torch.device = "auto", progress: bool = True
    ) -> Evidence:
        """See EvidenceMethod. ``details`` has temperatures, means and variances of D at each (from 0 on), the
        correction in nats, acceptance, and log_weights (island,), which make the estimate of tempered SMC.
        """
        began = time.perf_counter()
        ladder, run, gradients = self._run(model, data, seed, device, progress)
        islands = ladder.integral(corrected=True)
        correction = float((islands - ladder.integral(corrected=False)).mean())
        warnings = run_warnings(run)
        if abs(correction) > _LARGE_CORRECTION:
            warnings.append(
                f"the correction of the trapezoidal rule is {correction:.2g} nats, and what it leaves is not in the "
                "standard error. Take more temperatures."
            )
        details = run_details(run) | {
            "temperatures": ladder.temperatures,
            "means": torch.stack(ladder.means).mean(1).cpu(),
            "variances": torch.stack(ladder.variances).mean(1).cpu(),
            "correction": correction,
        }
        error = float(islands.std()) / math.sqrt(self.islands)
        value, seconds = float(islands.mean()), time.perf_counter() - began
        return Evidence(value, type(self).__name__, error, seconds, gradients, tuple(warnings), details)


@dataclass(frozen=True, kw_only=True)
class SteppingStone(LadderSettings):
    """Stepping stones (Xie et al., 2011): the evidence as a product of ratios, one from each temperature to the next,
    each a mean over all particles and moves.

    With one move it is nearly tempered SMC's estimate; more moves make each ratio more exact. The ratios are pooled
    over the islands, and the standard error is from the differences of their logs between islands.

    Parameters
    ----------
    moves : trajectories at each temperature; the ratios are averaged over all of them.
    particles, islands, temperatures, reference, trajectory_length, laplace : see IslandSettings.

    Examples
    --------
    >>> SteppingStone(temperatures=50, moves=4).estimate(model, data.train, seed=0)
    """

    def estimate(
        self, model: Model, data: Data, *, seed: int, device: str | torch.device = "auto", progress: bool = True
    ) -> Evidence:
        """See EvidenceMethod. ``details`` has the log ratios, temperatures, acceptance, and log_weights (island,),
        which make the estimate of tempered SMC.
        """
        began = time.perf_counter()
        ladder, run, gradients = self._run(model, data, seed, device, progress)
        ratios = torch.stack(ladder.log_ratios)
        pooled = ratios.logsumexp(1) - math.log(self.islands)
        error = float((ratios - pooled[:, None]).exp().sum(0).std()) / math.sqrt(self.islands)
        value, seconds = float(pooled.sum()), time.perf_counter() - began
        warnings = run_warnings(run)
        details = run_details(run) | {"log_ratios": pooled.cpu()}
        return Evidence(value, type(self).__name__, error, seconds, gradients, tuple(warnings), details)
