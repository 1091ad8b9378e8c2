"""HMC: Hamiltonian Monte Carlo, all chains side by side.

    v <- v - (h / 2) S^T grad U(theta)
    theta <- theta + h S v                     L times (leapfrog), from v ~ N(0, I)
    v <- v - (h / 2) S^T grad U(theta)

and the end of the trajectory is accepted with probability min(1, exp(-change of U + |v|^2 / 2)) (Duane et al., Physics
Letters B 1987; Neal, Handbook of MCMC, 2011). (S S^T)^-1 is the mass matrix. During the warm-up h follows dual
averaging (Hoffman & Gelman, JMLR 2014), the length of the trajectories ChEES (Hoffman, Radul & Sountsov, AISTATS 2021),
and S is taken anew from the curvature where the chains are, or, without a curvature, from the variance of each
coordinate. All chains make the same number of leapfrog steps, which varies from trajectory to trajectory, so that they
move as one stack.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inference import adaptation
from inference.chain_random import ChainRandom
from inference.chain_run import METRIC_FROM, State
from inference.chain_settings import require_positive
from inference.chains import ChainSampler
from inference.metric_choice import MetricName
from inference.space import Space

_DIVERGENCE = 1000.0  # of the energy, in nats: the leapfrog has lost its way
_GOLDEN = (math.sqrt(5) - 1) / 2
_MOST_STEPS = 1000


@dataclass(frozen=True)
class HMC(ChainSampler):
    """Hamiltonian Monte Carlo, many chains at once.

    Parameters
    ----------
    target_accept : the mean acceptance that the step size is adapted to.
    trajectory_length : of the longest trajectory, the step size times the number of steps, in units of the metric;
        each takes a share of it, from a sequence that covers (0, 1) evenly. None learns it during the warm-up.
    chains, draws, thin, temperature, parametrization : see ChainSettings.
    warmup : trajectories before the first kept draw, in which the sampler adapts.
    metric : the coordinates to begin with, see build_metric. None takes "full" up to 1,500 coordinates and "pathway"
        beyond, and "identity" for a LogDensity. Start from a MAP: the curvature is that at the starts.

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

    def begin(self, space: Space, u: Float[Tensor, "chain size"], random: ChainRandom) -> State:
        """See ChainSampler."""
        gradient, potential = space.gradients(u)
        if not potential.isfinite().all():
            chain = int((~potential.isfinite()).nonzero()[0])
            raise ValueError(
                f"chain {chain} starts where the log density is {-float(potential[chain])}; start elsewhere, for "
                "example from a MAP: start=MAP().fit(...)."
            )
        chains = {"position": u, "gradient": gradient, "potential": potential}
        shared = {"scale": torch.ones_like(u[0])}
        first = self._first_step_size(space, State(chains, shared), random)
        shared |= adaptation.start_step_size(first)
        shared |= adaptation.start_trajectory(self.trajectory_length or math.pi, u) | adaptation.start_moments(u)
        return State(chains, shared)

    def advance(self, space: Space, state: State, random: ChainRandom, step: int) -> State:
        """One trajectory of every chain."""
        warming = step < self.warmup
        size = float(state.shared["log_step" if warming else "log_step_mean"].exp())
        length = float(state.shared["log_length" if warming else "log_length_mean"].exp())
        length *= (_GOLDEN * (step + 1)) % 1.0
        count = min(max(1, round(length / size)), _MOST_STEPS)
        momentum = random.noise().clone()
        proposal, after = leapfrog(space, state.chains, momentum, state.shared["scale"], size, count)
        energy = state.chains["potential"] + momentum.square().sum(1) / 2
        change = proposal["potential"] + after.square().sum(1) / 2 - energy
        change = torch.where(change.isfinite(), change, torch.inf)
        acceptance = (-change).clamp(max=0).exp()
        accepted = random.uniform() < acceptance
        chains = State(proposal, {}).only_where(accepted, state).chains
        shared = state.shared
        if warming:
            shared = self._learn(state, proposal, after, acceptance, size * count)
        chains |= {
            "acceptance_rate": acceptance,
            "diverging": change > _DIVERGENCE,
            "energy": energy,
            "n_steps": torch.full_like(energy, count),
            "step_size": torch.full_like(energy, size),
        }
        result = State(chains, shared)
        if step + 1 in adaptation.windows(self.warmup):
            return self._renew(space, result, random)
        return result

    def _learn(
        self, state: State, proposal: dict[str, Tensor], momentum: Tensor, acceptance: Tensor, length: float
    ) -> dict[str, Tensor]:
        shared = state.shared
        mean = float(acceptance.mean())
        scale, before = shared["scale"], state.position
        centre = 0.95 * shared["centre"] + 0.05 * before.mean(0)
        shared = adaptation.learn_step_size(shared, mean, self.target_accept) | {"centre": centre}
        if self.trajectory_length is None:
            slope = adaptation.trajectory_slope(
                before / scale, proposal["position"] / scale, momentum, acceptance, centre / scale, length
            )
            size = float(shared["log_step"].exp())
            shared = adaptation.learn_trajectory(shared, slope, size, size * _MOST_STEPS)
        return adaptation.learn_moments(shared, before)

    def _renew(self, space: Space, state: State, random: ChainRandom) -> State:
        """A metric from the curvature where the chains are, or scales from where they were, and a new step size."""
        chains, shared = state.chains, state.shared
        if space.metric is not None:
            z = space.free(state.position)
            space.refresh(z)
            position = space.whiten(z)
            gradient, potential = space.gradients(position)
            chains = chains | {"position": position, "gradient": gradient, "potential": potential}
            shared = shared | {"centre": position.mean(0), METRIC_FROM: z}
        else:
            scale = adaptation.scales(shared, shared["scale"])
            widest = float((scale / shared["scale"]).max().log())  # what used to be the longest way is one unit now
            shorter = (shared["log_length"] - widest).clamp_min(math.log(math.pi))
            shared = shared | {"scale": scale} | adaptation.start_moments(state.position)
            if self.trajectory_length is None:
                shared |= {"log_length": shorter, "log_length_mean": shorter}
        first = self._first_step_size(space, State(chains, shared), random)
        return State(chains, shared | adaptation.start_step_size(first))

    def _first_step_size(self, space: Space, state: State, random: ChainRandom) -> float:
        """A step size with which half of the chains or more would accept a single step, to begin with."""
        size, momentum = space.size**-0.25, random.noise().clone()
        for _ in range(60):
            proposal, after = leapfrog(space, state.chains, momentum, state.shared["scale"], size, 1)
            change = proposal["potential"] - state.chains["potential"]
            change = change + (after.square() - momentum.square()).sum(1) / 2
            if float((change < math.log(2)).float().mean()) >= 0.5:
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
        return {"step_size": step_size, "trajectory_length": length}


def leapfrog(
    space: Space,
    start: dict[str, Tensor],
    momentum: Float[Tensor, "chain size"],
    scale: Float[Tensor, " size"],
    step_size: float,
    count: int,
) -> tuple[dict[str, Tensor], Float[Tensor, "chain size"]]:
    """A trajectory of each chain.

    Parameters
    ----------
    space : of the positions.
    start : position, gradient and potential of each chain.
    momentum : at the start.
    scale : of each coordinate of the space.
    step_size, count : of the steps.

    Returns
    -------
    Position, gradient and potential at the end, and the momentum there.
    """
    position, gradient, potential = start["position"], start["gradient"], start["potential"]
    momentum = momentum - step_size / 2 * scale * gradient
    for made in range(1, count + 1):
        position = position + step_size * scale * momentum
        gradient, potential = space.gradients(position)
        momentum = momentum - (step_size if made < count else step_size / 2) * scale * gradient
    return {"position": position, "gradient": gradient, "potential": potential}, momentum
