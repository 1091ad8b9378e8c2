"""Planning by the cross-entropy method with particles of a transition model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.positive_integer import positive_integer
from bayes_rpp.seeding import seeded_generator

Rollouts = Callable[..., Float[Tensor, "particle batch time+1 n"]]
Reward = Callable[
    [Float[Tensor, "*batch n"], Float[Tensor, "*batch m"], Float[Tensor, "*batch n"]], Float[Tensor, "*batch"]
]


@dataclass(frozen=True, repr=False)
class CrossEntropyPlanner:
    """The sequence of actions with the largest expected return, by the cross-entropy method (Rubinstein, 1999; for
    ensembles of transition models Chua et al., NeurIPS 2018).

    Sequences are drawn from independent normal distributions about a mean, and cut off at the bounds. The mean and the
    standard deviation of those with the largest return, averaged over particles, are those of the next draw.

    Parameters
    ----------
    rollout : a function of states (batch, n), actions (batch, time, m) and a ``seed`` to trajectories (particle, batch,
        time + 1, n), such as ``Posterior.rollout``.
    reward : a function of states (particle, batch, time, n), actions (particle, batch, time, m) and next states to
        rewards (particle, batch, time).
    low, high : the bounds of actions.
    horizon : how many steps are planned.
    candidates, elites, iterations : how many sequences are drawn, how many of them are kept, and how often.

    Raises
    ------
    ValueError
        If a number is not positive, there are fewer candidates than elites or than two elites, or bounds do not fit.

    Examples
    --------
    >>> rollout = partial(posterior.rollout, particles=6, noise=False)
    >>> planner = CrossEntropyPlanner(rollout, lambda s, a, after: after[..., 3], -torch.ones(2), torch.ones(2))
    >>> planner.plan(torch.zeros(8), seed=0).shape
    torch.Size([15, 2])
    """

    rollout: Rollouts
    reward: Reward
    low: Float[Tensor, " m"]
    high: Float[Tensor, " m"]
    horizon: int = 15
    candidates: int = 200
    elites: int = 20
    iterations: int = 4

    def __post_init__(self) -> None:
        for name in ("horizon", "candidates", "elites", "iterations"):
            object.__setattr__(self, name, positive_integer(getattr(self, name), name))
        if not 2 <= self.elites <= self.candidates:
            raise ValueError(f"elites must be from 2 to candidates={self.candidates}, got {self.elites}.")
        low, high = torch.as_tensor(self.low), torch.as_tensor(self.high)
        if low.ndim != 1 or low.shape != high.shape or not (low < high).all() or not (high - low).isfinite().all():
            raise ValueError(f"low and high must be finite vectors with low < high, got {low} and {high}.")
        object.__setattr__(self, "low", low.clone())
        object.__setattr__(self, "high", high.clone())

    def __repr__(self) -> str:
        bounds = f"actions from {self.low.tolist()} to {self.high.tolist()}, horizon {self.horizon}"
        search = f"candidates {self.candidates}, elites {self.elites}, iterations {self.iterations}"
        return f"CrossEntropyPlanner({bounds}, {search})"

    def plan(
        self, state: Float[Tensor, " n"], *, seed: int, start: Float[Tensor, "horizon m"] | None = None
    ) -> Float[Tensor, "horizon m"]:
        """Actions for the next steps.

        Parameters
        ----------
        state : to start from.
        seed : of the sequences, and of the seed that the rollout gets.
        start : the first mean, such as the plan of the step before without its first action; the middle of the bounds
            if it is None.

        Raises
        ------
        ValueError
            If shapes do not fit, numbers are not finite, or no sequence has a finite return.
        """
        generator = seeded_generator(seed)
        rollout_seed = int(torch.randint(2**62, (), generator=generator))  # noise that has nothing to do with actions
        state = _finite_numbers("state", state)
        if state.ndim != 1:
            raise ValueError(f"state must be a vector, got shape {tuple(state.shape)}.")
        low, high = self.low.to(state), self.high.to(state)
        shape = self.horizon, len(low)
        mean = ((low + high) / 2).expand(shape) if start is None else _finite_numbers("start", start).to(state)
        if mean.shape != shape:
            raise ValueError(f"start must have shape {shape}, got {tuple(mean.shape)}.")
        spread, states = ((high - low) / 2).expand(shape), state.expand(self.candidates, -1)
        for _ in range(self.iterations):
            drawn = torch.randn(self.candidates, *shape, generator=generator, dtype=state.dtype)
            actions = (mean + spread * drawn).clamp(low, high)
            best = actions[self._returns(states, actions, rollout_seed).topk(self.elites).indices]
            mean, spread = best.mean(0), best.std(0)
        return mean

    def _returns(
        self, states: Float[Tensor, "candidate n"], actions: Float[Tensor, "candidate horizon m"], seed: int
    ) -> Float[Tensor, " candidate"]:
        """The mean over particles of the sum of rewards; minus infinity where it is not finite."""
        paths = self.rollout(states, actions, seed=seed)
        wanted = self.candidates, self.horizon + 1, states.shape[1]
        if paths.ndim != 4 or paths.shape[1:] != wanted:
            raise ValueError(
                f"rollout must return shape (particle, {', '.join(map(str, wanted))}), got {tuple(paths.shape)}."
            )
        taken = actions.expand(len(paths), *actions.shape)
        rewards = torch.as_tensor(self.reward(paths[..., :-1, :], taken, paths[..., 1:, :]))
        if rewards.shape != taken.shape[:-1]:
            raise ValueError(
                "reward must return one number for each particle, candidate and step, shape "
                f"{tuple(taken.shape[:-1])}, got {tuple(rewards.shape)}."
            )
        returns = rewards.to(paths).sum(-1).mean(0)
        if not returns.isfinite().any():
            raise ValueError(
                "no sequence of actions has a finite return: the reward, or the states that the rollout leads to, are "
                "infinite or NaN. Shorten the horizon if the model diverges."
            )
        return returns.where(returns.isfinite(), -torch.inf)


def _finite_numbers(name: str, given: object) -> Tensor:
    """Floating-point numbers; raises ValueError if some are not finite."""
    numbers = torch.as_tensor(given)
    numbers = numbers if numbers.is_floating_point() else numbers.to(torch.get_default_dtype())
    if not numbers.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinite numbers.")
    return numbers
