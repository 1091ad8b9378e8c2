"""HMC: Hamiltonian Monte Carlo, all chains side by side.

    v ~ N(0, I)
    v <- v - (h / 2) S^T grad U(theta)
    theta <- theta + h S v                     L times (leapfrog)
    v <- v - (h / 2) S^T grad U(theta)

and the end of the trajectory is accepted with probability min(1, exp(-change of U + |v|^2 / 2)) (Duane et al., Physics
Letters B 1987; Neal, Handbook of MCMC, 2011). (S S^T)^-1 is the mass matrix. During the warm-up h follows dual
averaging (Hoffman & Gelman, JMLR 2014), the length of the trajectories ChEES (Hoffman, Radul & Sountsov, AISTATS 2021),
and S is taken anew from the curvature at the chains' positions, or, without a curvature, from the covariance of their
draws (beyond 200 coordinates, from the variances). All chains make the same number of leapfrog steps, which varies from
trajectory to trajectory, so that they move as one stack.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inference.curvature.names import MetricName
from inference.metrics.preconditioned import PreconditionedDensity
from inference.sampling.chain_sampler import ChainSampler
from inference.sampling.hmc.adaptation import Adaptation
from inference.sampling.hmc.leapfrog import Point, PreconditionedHamiltonian, leapfrog
from inference.sampling.hmc.warmup import MOST_STEPS, STUCK, Trajectory, WarmUp, restore_metric
from inference.sampling.initialization import check_starts, initialize_chains
from inference.sampling.kernel import Statistics, where
from inference.sampling.random_streams import ChainRandom
from inference.settings import require_positive

logger = logging.getLogger(__name__)

_DIVERGENCE = 1000.0  # of the energy, in nats: the leapfrog is unstable
_LEAPFROG_STEPS = 10  # of a trajectory, in the middle
_GOLDEN = (math.sqrt(5) - 1) / 2


class HMCChains(NamedTuple):
    """What each chain has of its own; ``position`` is in the coordinates of the metric."""

    point: Point
    recent_acceptance: Float[Tensor, " chain"]  # a running mean over about ten trajectories
    divergences: Int[Tensor, " chain"]  # after the warm-up

    @property
    def position(self) -> Float[Tensor, "chain size"]:
        """The positions, in the coordinates of the metric."""
        return self.point.position


class HMCState(NamedTuple):
    """The state of all chains, what they have adapted, and whether a trajectory was cut short, which is said once."""

    chains: HMCChains
    adaptation: Adaptation
    cut_short: Bool[Tensor, ""]


@dataclass(frozen=True)
class HMC(ChainSampler[HMCState]):
    """Hamiltonian Monte Carlo, many chains at once.

    Parameters
    ----------
    target_accept : the mean acceptance that the step size is adapted to.
    trajectory_length : of the longest trajectory, the step size times the number of steps, in units of the metric;
        each takes a share of it, from a sequence that covers (0, 1) evenly. None learns it during the warm-up.
    chains, draws, thin, temperature, parametrization, centred : see ChainSettings.
    compile : see DeepEnsemble.
    warmup : trajectories before the first kept draw, in which the sampler adapts.
    metric : the coordinates to begin with, see build_metric. None takes "full" up to 1,500 coordinates and "pathway"
        beyond; start from a MAP, since the curvature is that at the starts. For a LogDensity it brings chains that
        start far out down to the bulk of the density, and takes the Hessian there.

    Examples
    --------
    >>> posterior = HMC(chains=8).fit(model, data.train, seed=0, start=MAP(epochs=500).fit(model, data.train, seed=0))
    """

    metric: MetricName | None = None
    target_accept: float = 0.8
    trajectory_length: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.target_accept < 1:
            raise ValueError(f"target_accept must be in (0, 1), got {self.target_accept}.")
        if self.trajectory_length is not None:
            require_positive("trajectory_length", self.trajectory_length)

    @property
    def gradients_per_step(self) -> int:
        """See Kernel."""
        return _LEAPFROG_STEPS

    @property
    def _warm_up(self) -> WarmUp:
        return WarmUp(self.warmup, self.target_accept, self.trajectory_length)

    def begin(
        self, preconditioned: PreconditionedDensity, u: Float[Tensor, "chain size"], random: ChainRandom
    ) -> HMCState:
        """See Kernel."""
        covariance = None
        if self.warmup and self.metric is None and not preconditioned.from_curvature:
            z, covariance = initialize_chains(preconditioned, u)
            u = preconditioned.whiten(z)
        point = PreconditionedHamiltonian(preconditioned).at(u)
        check_starts(point.gradient, point.potential)
        divergences = torch.zeros_like(point.potential, dtype=torch.int64)
        chains = HMCChains(point, torch.full_like(point.potential, 0.5), divergences)
        adaptation = self._warm_up.begin(preconditioned, point, random, covariance)
        return HMCState(chains, adaptation, torch.zeros((), dtype=torch.bool))

    def advance(
        self, preconditioned: PreconditionedDensity, state: HMCState, random: ChainRandom, step: int
    ) -> tuple[HMCState, Statistics]:
        """One trajectory of every chain."""
        (start, recent, divergences), adaptation = state.chains, state.adaptation
        size, count, cut_short = self._steps(state, step)
        momentum = random.noise().clone()
        end, after = leapfrog(PreconditionedHamiltonian(preconditioned), start, momentum, size, count)
        energy = start.potential + _kinetic(momentum)
        change = end.potential + _kinetic(after) - energy
        change = torch.where(change.isfinite(), change, torch.inf)
        acceptance = (-change).clamp(max=0).exp()
        point = where(random.uniform() < acceptance, end, start)

        recent, diverging = 0.9 * recent + 0.1 * acceptance, change > _DIVERGENCE
        statistics = {
            "lp": -point.potential,
            "acceptance_rate": acceptance,
            "diverging": diverging,
            "energy": energy,
            "n_steps": torch.full_like(energy, count),
            "step_size": torch.full_like(energy, size),
        }
        if step < self.warmup:
            trajectory = Trajectory(start, end, after, acceptance, size * count)
            point, adaptation = self._warm_up.adapt(preconditioned, adaptation, trajectory, point, recent, random, step)
        else:
            divergences = divergences + diverging
        return HMCState(HMCChains(point, recent, divergences), adaptation, cut_short), statistics

    def _steps(self, state: HMCState, step: int) -> tuple[float, int, Bool[Tensor, ""]]:
        """The step size and the number of steps of a trajectory, and whether one was cut short by now."""
        (step_size, lengths, *_), warming = state.adaptation, step < self.warmup
        size = float((step_size.log_step if warming else step_size.log_step_mean).exp())
        length = float((lengths.log_length if warming else lengths.log_length_mean).exp())
        length *= (_GOLDEN * (step + 1)) % 1.0
        count = max(1, round(length / size))
        if warming or count <= MOST_STEPS:
            return size, min(count, MOST_STEPS), state.cut_short
        if not state.cut_short:
            logger.warning(
                "a trajectory of length %.3g takes %d leapfrog steps of %.3g; all such are cut short to %d. Take a "
                "shorter trajectory_length, or another metric.",
                length, count, size, MOST_STEPS,
            )  # fmt: skip
        return size, MOST_STEPS, torch.ones_like(state.cut_short)

    def resume(self, preconditioned: PreconditionedDensity, state: HMCState) -> None:
        """See Kernel."""
        restore_metric(preconditioned, state.adaptation)

    def advice(self) -> str:
        """See Kernel."""
        return "start from a MAP: start=MAP().fit(...)."

    def summary(self, state: HMCState) -> dict[str, Any]:
        """See Kernel."""
        (step_size, lengths, *_), divergences = state.adaptation, state.chains.divergences.tolist()
        if any(divergences):
            logger.warning("%s trajectories of the chains diverged; try a higher target_accept.", divergences)
        for chain in (state.chains.recent_acceptance < STUCK / 10).nonzero().flatten().tolist():
            logger.warning("chain %d is stuck: none of its last trajectories was accepted. Start elsewhere.", chain)
        return {
            "step_size": float(step_size.log_step_mean.exp()),
            "trajectory_length": float(lengths.log_length_mean.exp()),
            "divergences": divergences,
        }


def _kinetic(momentum: Float[Tensor, "chain size"]) -> Float[Tensor, " chain"]:
    """|v|^2 / 2, in the type of the potential energy, whose change it is to cancel."""
    wide = momentum.dtype if momentum.device.type == "mps" else torch.float64
    return momentum.square().sum(1, dtype=wide) / 2
