"""The warm-up of HMC: every trajectory adapts the step size and the trajectory length, and every window the metric,
from the curvature at the chains' positions or from the covariance of their draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from inference.metrics.preconditioned import PreconditionedDensity
from inference.sampling.hmc import adaptation as learning
from inference.sampling.hmc.adaptation import Adaptation
from inference.sampling.hmc.leapfrog import Point, PreconditionedHamiltonian, leapfrog
from inference.sampling.random_streams import ChainRandom

MOST_STEPS = 1000  # of a trajectory
STUCK = 0.1  # the recent acceptance of a chain that hardly moves


class Trajectory(NamedTuple):
    """A trajectory of every chain: its two ends, the momentum and the acceptance of the second, and its length."""

    start: Point
    end: Point
    momentum: Float[Tensor, "chain size"]
    acceptance: Float[Tensor, " chain"]
    length: float


@dataclass(frozen=True)
class WarmUp:
    """How HMC adapts in the first ``steps`` trajectories; the other settings are HMC's."""

    steps: int
    target_accept: float
    trajectory_length: float | None

    def begin(
        self, preconditioned: PreconditionedDensity, point: Point, random: ChainRandom, covariance: Tensor | None
    ) -> Adaptation:
        """Before the first trajectory; with the covariance that the metric was taken from, if it was."""
        size = first_step_size(preconditioned, point, random, accepting=1.0)
        return Adaptation(
            learning.start_step_size(size),
            learning.start_trajectory(self.trajectory_length or math.pi, point.position),
            None if preconditioned.from_curvature else learning.start_moments(point.position),
            metric_covariance=covariance,
        )

    def adapt(
        self,
        preconditioned: PreconditionedDensity,
        adaptation: Adaptation,
        trajectory: Trajectory,
        point: Point,
        recent_acceptance: Float[Tensor, " chain"],
        random: ChainRandom,
        step: int,
    ) -> tuple[Point, Adaptation]:
        """Adapt after a trajectory; returns the point in the metric, perhaps a new one, and all that was learned."""
        first = learning.initial_interval(self.steps)
        # A chain far out, where all is steep, makes the steps of all smaller until it moves. Later it would freeze
        # the others.
        stuck = step < first and bool((recent_acceptance < STUCK).any())
        adaptation = self._learn(preconditioned, adaptation, trajectory, stuck)
        if step + 1 == first and adaptation.moments is not None:
            adaptation = adaptation._replace(moments=learning.start_moments(preconditioned.free(point.position)))
        if step + 1 in learning.windows(self.steps):
            return self._renew_metric(preconditioned, adaptation, point, random)
        return point, adaptation

    def _learn(
        self, preconditioned: PreconditionedDensity, adaptation: Adaptation, trajectory: Trajectory, stuck: bool
    ) -> Adaptation:
        start, end, momentum, acceptance, length = trajectory
        mean_acceptance = 0.0 if stuck else float(acceptance.mean())
        step_size = learning.learn_step_size(adaptation.step_size, mean_acceptance, self.target_accept)
        lengths, moments = adaptation.trajectory_length, adaptation.moments
        if self.trajectory_length is None:
            centre = 0.95 * lengths.centre + 0.05 * start.position.mean(0)
            slope = learning.trajectory_slope(start.position, end.position, momentum, acceptance, centre, length)
            size = float(step_size.log_step.exp())
            lengths = learning.learn_trajectory(lengths._replace(centre=centre), slope, size, size * MOST_STEPS)
        if moments is not None:
            moments = learning.learn_moments(moments, preconditioned.free(start.position))
        return adaptation._replace(step_size=step_size, trajectory_length=lengths, moments=moments)

    def _renew_metric(
        self, preconditioned: PreconditionedDensity, adaptation: Adaptation, point: Point, random: ChainRandom
    ) -> tuple[Point, Adaptation]:
        z = preconditioned.free(point.position)
        if adaptation.moments is None:
            adaptation = adaptation._replace(metric_positions=z)
        else:
            covariance = learning.learned_covariance(adaptation.moments)
            adaptation = adaptation._replace(metric_covariance=covariance, moments=learning.start_moments(z))
        restore_metric(preconditioned, adaptation)
        point = PreconditionedHamiltonian(preconditioned).at(preconditioned.whiten(z))
        size = first_step_size(preconditioned, point, random, accepting=0.5)
        step_size = learning.start_step_size(size)
        lengths = learning.start_trajectory(self.trajectory_length or math.pi, point.position)
        return point, adaptation._replace(step_size=step_size, trajectory_length=lengths)


def restore_metric(preconditioned: PreconditionedDensity, adaptation: Adaptation) -> None:
    """Give a density the metric that was adapted, if one was."""
    if adaptation.metric_positions is not None:
        preconditioned.refresh(adaptation.metric_positions)
    if adaptation.metric_covariance is not None:
        preconditioned.fit_to(adaptation.metric_covariance)


def first_step_size(
    preconditioned: PreconditionedDensity, point: Point, random: ChainRandom, accepting: float
) -> float:
    """A step size to begin with: a share of the chains accept a single step with a probability of a half or more."""
    size, momentum = preconditioned.size**-0.25, random.noise().clone()
    for _ in range(100):
        end, after = leapfrog(PreconditionedHamiltonian(preconditioned), point, momentum, size, 1)
        change = end.potential - point.potential
        change = change + (after.square() - momentum.square()).sum(1) / 2
        if float((change < math.log(2)).double().mean()) >= accepting:
            break
        size /= 2
    return size
