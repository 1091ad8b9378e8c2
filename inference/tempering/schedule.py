"""The temperatures that particles go through, and the kernels that move them: fixed, as a pilot run found them.

A schedule that other particles found leaves an estimate of the evidence unbiased; one chosen on the same particles
biases it a little (Beskos, Jasra, Kantas & Thiery, Annals of Applied Probability 2016), so only a pilot run adapts.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from inference.tempering.curvature import Coordinates, TemperedCurvature
from inference.tempering.path import Particles, TemperedPath

_TARGET_ACCEPT = 0.8
_MOST_STEPS = 100  # of a trajectory
_MOST_LEVELS = 10_000


@dataclass(frozen=True)
class Kernel:
    """A trajectory of HMC: the coordinates, the step size and the number of steps."""

    coordinates: Coordinates
    step_size: float
    steps: int

    @classmethod
    def of_length(cls, coordinates: Coordinates, length: float, largest: float) -> Kernel:
        """Trajectories of this length, in steps of at most this size, as far as 100 steps go."""
        steps = min(math.ceil(length / largest - 1e-9), _MOST_STEPS)
        return cls(coordinates, min(length / steps, largest), steps)


@dataclass(frozen=True)
class Plan:
    """A fixed schedule. Its ``distances`` from the reference to each temperature are in standard deviations of the log
    weight: with d_k^2 = -log(CESS / P) of one step, they are the sums of d_1, ..., d_k. The last is the path's length.
    """

    temperatures: tuple[float, ...]  # t_1 < ... < t_K = 1; t_0 = 0 is left out
    distances: tuple[float, ...]
    step_sizes: tuple[float, ...]  # the largest of the kernel at each temperature
    curvatures: tuple[tuple[float, TemperedCurvature], ...]  # temperatures from which on a curvature is used, and it
    trajectory_length: float  # of each kernel

    @property
    def length(self) -> float:
        """The path's length; log weights have about the variance length^2 / K where the particles mix at every
        step, and more where they do not.
        """
        return self.distances[-1]

    def kernel(self, level: int) -> Kernel:
        """The kernel of t_level, counted from 1."""
        t = self.temperatures[level - 1]
        index = bisect_right([start for start, _ in self.curvatures], t) - 1
        coordinates = self.curvatures[max(index, 0)][1].coordinates(t)
        return Kernel.of_length(coordinates, self.trajectory_length, self.step_sizes[level - 1])

    def spaced(self, count: int) -> Plan:
        """The same path in ``count`` steps of equal length."""
        distances = np.linspace(0, self.length, count + 1)[1:]
        known = (0.0, *self.distances)
        temperatures = np.interp(distances, known, (0.0, *self.temperatures))
        logs = np.interp(distances, self.distances, np.log(self.step_sizes))
        return replace(
            self,
            temperatures=(*temperatures[:-1].tolist(), 1.0),
            distances=tuple(distances.tolist()),
            step_sizes=tuple(np.exp(logs).tolist()),
        )


class Guide(Protocol):
    """The choice of the next temperature, and of the kernel there."""

    def next_temperature(self, t: float, gain: Tensor, log_weights: Tensor) -> float:
        """The temperature after t, for particles with these gains and log weights."""

    def kernel(self, t: float, particles: Particles) -> Kernel:
        """The kernel that moves the particles at t."""

    def learn(self, acceptance: float) -> None:
        """Adapt to the mean acceptance of a move."""


class Planned:
    """The guide of a fixed schedule."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self._level = plan, 0

    def next_temperature(self, t: float, gain: Tensor, log_weights: Tensor) -> float:
        """See Guide."""
        self._level += 1
        return self.plan.temperatures[self._level - 1]

    def kernel(self, t: float, particles: Particles) -> Kernel:
        """See Guide."""
        return self.plan.kernel(self._level)

    def learn(self, acceptance: float) -> None:
        """See Guide; nothing is adapted."""


class Adaptive:
    """The guide of a pilot run, which chooses by the particles themselves.

    The next temperature is that where the conditional effective sample size falls to a ``share`` of the particles, CESS
    / P = (sum_i W_i v_i)^2 / sum_i W_i v_i^2 with v_i = exp((t' - t) D_i) (Zhou, Johansen & Aston, Journal of
    Computational and Graphical Statistics 2016, eq. 3.16), by bisection. The step size follows the acceptance of the
    moves before, and the number of steps follows from it and the ``trajectory_length``, in units of the coordinates.
    """

    def __init__(self, path: TemperedPath, share: float, trajectory_length: float) -> None:
        self.path, self.share, self.trajectory_length = path, share, trajectory_length
        self._step_size = min(trajectory_length, path.density.size**-0.25)
        self._temperatures: list[float] = []
        self._distances: list[float] = [0.0]
        self._step_sizes: list[float] = []
        self._curvatures: list[tuple[float, TemperedCurvature]] = []

    def next_temperature(self, t: float, gain: Tensor, log_weights: Tensor) -> float:
        """See Guide; raises RuntimeError if the path would take more than 10,000 steps."""
        if len(self._temperatures) == _MOST_LEVELS:
            raise RuntimeError(
                f"the temperature is {t:.3g} after {_MOST_LEVELS:,} steps: the gains of the particles spread over "
                f"{float(gain.max() - gain.min()):.3g} nats. Take a reference that is closer to the posterior."
            )
        low, high = t, 1.0
        if conditional_share(1.0 - t, gain, log_weights) < self.share:
            while high - low > 1e-6 * (high - t):
                middle = (low + high) / 2
                enough = conditional_share(middle - t, gain, log_weights) >= self.share
                low, high = (middle, high) if enough else (low, middle)
        self._distances.append(self._distances[-1] + _distance(conditional_share(high - t, gain, log_weights)))
        self._temperatures.append(high)
        self._step_sizes.append(self._step_size)
        return high

    def kernel(self, t: float, particles: Particles) -> Kernel:
        """See Guide."""
        if not self._curvatures or not self._curvatures[-1][1].serves(t):
            self._curvatures.append((t, self.path.curvature(t, particles)))
        return Kernel.of_length(self._curvatures[-1][1].coordinates(t), self.trajectory_length, self._step_size)

    def learn(self, acceptance: float) -> None:
        """See Guide."""
        self._step_size = min(self._step_size * math.exp(acceptance - _TARGET_ACCEPT), self.trajectory_length)
        self._step_sizes[-1] = self._step_size

    @property
    def plan(self) -> Plan:
        """The schedule that was found, for other particles."""
        return Plan(
            tuple(self._temperatures),
            tuple(self._distances[1:]),
            tuple(self._step_sizes),
            tuple(self._curvatures),
            self.trajectory_length,
        )


def conditional_share(step: float, gain: Float[Tensor, " particle"], log_weights: Float[Tensor, " particle"]) -> float:
    """CESS / P of a step of the temperature."""
    first = torch.logsumexp(log_weights + step * gain, 0)
    second = torch.logsumexp(log_weights + 2 * step * gain, 0)
    return float((2 * first - second - torch.logsumexp(log_weights, 0)).exp())


def _distance(share: float) -> float:
    """The standard deviation of normal log weights with this share."""
    return math.sqrt(max(-math.log(share), 0.0))
