"""HMC: Hamiltonian Monte Carlo, all chains side by side.

    v <- v - (h / 2) S^T grad U(theta)
    theta <- theta + h S v                     L times (leapfrog), from v ~ N(0, I)
    v <- v - (h / 2) S^T grad U(theta)

and the end of the trajectory is accepted with probability min(1, exp(-change of U + |v|^2 / 2)) (Duane et al., Physics
Letters B 1987; Neal, Handbook of MCMC, 2011). (S S^T)^-1 is the mass matrix. During the warm-up h follows dual
averaging (Hoffman & Gelman, JMLR 2014), the length of the trajectories ChEES (Hoffman, Radul & Sountsov, AISTATS 2021),
and S is taken anew from the curvature where the chains are, or, without a curvature, from the covariance of their
draws (beyond 200 coordinates, from the variances). All chains make the same number of leapfrog steps, which varies from
trajectory to trajectory, so that they move as one stack.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inference.curvature.names import MetricName
from inference.metrics.preconditioned import PreconditionedDensity
from inference.sampling.chain_sampler import ChainSampler
from inference.sampling.hmc import adaptation
from inference.sampling.initialization import initialize_chains
from inference.sampling.kernel import State
from inference.sampling.random_streams import ChainRandom
from inference.sampling.run import METRIC_COVARIANCE, METRIC_FROM
from inference.settings import require_positive

logger = logging.getLogger(__name__)

_DIVERGENCE = 1000.0  # of the energy, in nats: the leapfrog has lost its way
_GOLDEN = (math.sqrt(5) - 1) / 2
_MOST_STEPS = 1000
_CUT_SHORT = "cut_short"  # in the shared state, once that has been reported
_STUCK = 0.1  # the usual acceptance of a chain that goes nowhere


@dataclass(frozen=True)
class HMC(ChainSampler):
    """Hamiltonian Monte Carlo, many chains at once.

    Parameters
    ----------
    target_accept : the mean acceptance that the step size is adapted to.
    trajectory_length : of the longest trajectory, the step size times the number of steps, in units of the metric;
        each takes a share of it, from a sequence that covers (0, 1) evenly. None learns it during the warm-up.
    chains, draws, thin, temperature, parametrization, centred : see ChainSettings.
    warmup : trajectories before the first kept draw, in which the sampler adapts.
    metric : the coordinates to begin with, see build_metric. None takes "full" up to 1,500 coordinates and "pathway"
        beyond; start from a MAP, since the curvature is that at the starts. For a LogDensity it brings chains that
        start far out down to the bulk, and takes the Hessian there.

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

    def begin(
        self, preconditioned: PreconditionedDensity, u: Float[Tensor, "chain size"], random: ChainRandom
    ) -> State:
        """See ChainSampler."""
        shared: dict[str, Tensor] = {}
        if self.warmup and self.metric is None and not preconditioned.from_curvature:
            z, covariance = initialize_chains(preconditioned, u)
            u = preconditioned.whiten(z)
            shared |= {} if covariance is None else {METRIC_COVARIANCE: covariance}
        gradient, potential = preconditioned.gradients(u)
        finite = potential.isfinite() & gradient.isfinite().all(1)
        if not finite.all():
            chain = int((~finite).nonzero()[0])
            what = f"the log density is {-float(potential[chain])}"
            if potential[chain].isfinite():
                what = "its gradient is not finite"
            raise ValueError(
                f"chain {chain} starts where {what}; start elsewhere, for example from a MAP: start=MAP().fit(...)."
            )
        usual = torch.full_like(potential, 0.5)
        chains = {"position": u, "gradient": gradient, "potential": potential, "usual_acceptance": usual}
        chains["divergences"] = torch.zeros_like(potential, dtype=torch.int64)
        shared |= adaptation.start_step_size(self._first_step_size(preconditioned, chains, random, accepting=1.0))
        shared |= adaptation.start_trajectory(self.trajectory_length or math.pi, u)
        return State(chains, shared if preconditioned.from_curvature else shared | adaptation.start_moments(u))

    def advance(self, preconditioned: PreconditionedDensity, state: State, random: ChainRandom, step: int) -> State:
        """One trajectory of every chain."""
        warming = step < self.warmup
        size = float(state.shared["log_step" if warming else "log_step_mean"].exp())
        length = float(state.shared["log_length" if warming else "log_length_mean"].exp())
        length *= (_GOLDEN * (step + 1)) % 1.0
        count = max(1, round(length / size))
        cut = count > _MOST_STEPS and not warming
        if cut and _CUT_SHORT not in state.shared:
            logger.warning(
                "a trajectory of length %.3g takes %d leapfrog steps of %.3g; all such are cut short to %d. Take a "
                "shorter trajectory_length, or another metric.",
                length, count, size, _MOST_STEPS,
            )  # fmt: skip
        count = min(count, _MOST_STEPS)
        momentum = random.noise().clone()
        proposal, after = leapfrog(preconditioned, state.chains, momentum, size, count)
        energy = state.chains["potential"] + _kinetic(momentum)
        change = proposal["potential"] + _kinetic(after) - energy
        change = torch.where(change.isfinite(), change, torch.inf)
        acceptance = (-change).clamp(max=0).exp()
        accepted = random.uniform() < acceptance
        chains = State(proposal, {}).only_where(accepted, state).chains
        shared = state.shared | ({_CUT_SHORT: torch.ones(())} if cut else {})
        usual = adaptation.usual_acceptance(state.chains["usual_acceptance"], acceptance)
        if warming:
            # Only while chains settle: later it would freeze the others.
            stuck = step < adaptation.settling(self.warmup) and bool((usual < _STUCK).any())
            shared = self._learn(preconditioned, state, proposal, after, acceptance, size * count, stuck)
        diverging = change > _DIVERGENCE
        chains |= {
            "usual_acceptance": usual,
            "divergences": state.chains["divergences"] + (diverging & (not warming)),
            "acceptance_rate": acceptance,
            "diverging": diverging,
            "energy": energy,
            "n_steps": torch.full_like(energy, count),
            "step_size": torch.full_like(energy, size),
        }
        if step + 1 == adaptation.settling(self.warmup) and "moment_count" in shared:
            shared = shared | adaptation.start_moments(preconditioned.free(chains["position"]))
        result = State(chains, shared)
        if step + 1 in adaptation.windows(self.warmup):
            return self._renew(preconditioned, result, random)
        return result

    def _learn(
        self,
        preconditioned: PreconditionedDensity,
        state: State,
        proposal: dict[str, Tensor],
        momentum: Tensor,
        acceptance: Tensor,
        length: float,
        stuck: bool,
    ) -> dict[str, Tensor]:
        before, shared = state.position, state.shared
        # A chain that is stuck, far out where all is steep, makes the steps of all smaller until it moves.
        shared = adaptation.learn_step_size(shared, 0.0 if stuck else float(acceptance.mean()), self.target_accept)
        centre = 0.95 * shared["centre"] + 0.05 * before.mean(0)
        if self.trajectory_length is None:
            slope = adaptation.trajectory_slope(before, proposal["position"], momentum, acceptance, centre, length)
            size = float(shared["log_step"].exp())
            shared = adaptation.learn_trajectory(shared, slope, size, size * _MOST_STEPS)
        if not preconditioned.from_curvature:
            shared = adaptation.learn_moments(shared, preconditioned.free(before))
        return shared | {"centre": centre}

    def _renew(self, preconditioned: PreconditionedDensity, state: State, random: ChainRandom) -> State:
        """A metric from the curvature where the chains are, or from their draws, and a new step size."""
        z, shared = preconditioned.free(state.position), state.shared
        if preconditioned.from_curvature:
            preconditioned.refresh(z)
            shared = shared | {METRIC_FROM: z}
        else:
            covariance = adaptation.learned_covariance(shared)
            preconditioned.fit_to(covariance)
            shared = shared | {METRIC_COVARIANCE: covariance} | adaptation.start_moments(z)
        position = preconditioned.whiten(z)
        gradient, potential = preconditioned.gradients(position)
        chains = state.chains | {"position": position, "gradient": gradient, "potential": potential}
        shared |= adaptation.start_step_size(self._first_step_size(preconditioned, chains, random, accepting=0.5))
        shared |= adaptation.start_trajectory(self.trajectory_length or math.pi, position)
        return State(chains, shared)

    def _first_step_size(
        self, preconditioned: PreconditionedDensity, chains: dict[str, Tensor], random: ChainRandom, accepting: float
    ) -> float:
        """A step size with which a share of the chains would accept a single step, to begin with."""
        size, momentum = preconditioned.size**-0.25, random.noise().clone()
        for _ in range(100):
            proposal, after = leapfrog(preconditioned, chains, momentum, size, 1)
            change = proposal["potential"] - chains["potential"]
            change = change + (after.square() - momentum.square()).sum(1) / 2
            if float((change < math.log(2)).double().mean()) >= accepting:
                break
            size /= 2
        return size

    def statistics(self, state: State, step: int) -> dict[str, Float[Tensor, " chain"]]:
        """See ChainSampler."""
        names = ("acceptance_rate", "diverging", "energy", "n_steps", "step_size")
        return {"lp": -state.chains["potential"], **{name: state.chains[name] for name in names}}

    def advice(self) -> str:
        """See ChainSampler."""
        return "start from a MAP: start=MAP().fit(...)."

    def summary(self, state: State) -> dict[str, Any]:
        """See ChainSampler."""
        step_size, length = (float(state.shared[name].exp()) for name in ("log_step_mean", "log_length_mean"))
        divergences, usual = state.chains["divergences"].tolist(), state.chains["usual_acceptance"]
        if any(divergences):
            logger.warning("%s trajectories of the chains diverged; try a higher target_accept.", divergences)
        for chain in (usual < _STUCK / 10).nonzero().flatten().tolist():
            logger.warning("chain %d goes nowhere: none of its last trajectories was accepted. Start elsewhere.", chain)
        return {"step_size": step_size, "trajectory_length": length, "divergences": divergences}


def _kinetic(momentum: Float[Tensor, "chain size"]) -> Float[Tensor, " chain"]:
    """In the type of the potential energy, whose change it is to cancel."""
    wide = momentum.dtype if momentum.device.type == "mps" else torch.float64
    return momentum.square().sum(1, dtype=wide) / 2


def leapfrog(
    preconditioned: PreconditionedDensity,
    start: dict[str, Tensor],
    momentum: Float[Tensor, "chain size"],
    step_size: float,
    count: int,
) -> tuple[dict[str, Tensor], Float[Tensor, "chain size"]]:
    """A trajectory of each chain.

    Parameters
    ----------
    space : of the positions.
    start : position, gradient and potential of each chain.
    momentum : at the start.
    step_size, count : of the steps.

    Returns
    -------
    Position, gradient and potential at the end, and the momentum there.
    """
    position, gradient, potential = start["position"], start["gradient"], start["potential"]
    momentum = momentum - step_size / 2 * gradient
    for made in range(1, count + 1):
        position = position + step_size * momentum
        gradient, potential = preconditioned.gradients(position)
        momentum = momentum - (step_size if made < count else step_size / 2) * gradient
    return {"position": position, "gradient": gradient, "potential": potential}, momentum
