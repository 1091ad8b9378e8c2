"""What HMC adapts during its warm-up: the step size, the trajectory length, and the covariance of the draws."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

_GAMMA, _DELAY, _DECAY = 0.05, 10.0, 0.75  # of dual averaging, as Hoffman & Gelman have them
_RATE, _MEMORY = 0.025, 0.95  # of Adam on the log trajectory length, as Hoffman, Radul & Sountsov have them
_MOST_FOR_COVARIANCE = 200  # coordinates
_LONGEST_CHANGE = 0.35  # of the log trajectory length in one step


class StepSize(NamedTuple):
    """Dual averaging of the log step size h."""

    log_step: Float[Tensor, ""]  # of the next trajectory of the warm-up
    log_step_mean: Float[Tensor, ""]  # the weighted mean of those before, for the draws
    log_step_centre: Float[Tensor, ""]  # what log_step is shrunk towards
    error: Float[Tensor, ""]  # the running mean of the wanted acceptance less the acceptance
    updates: Float[Tensor, ""]


class TrajectoryLength(NamedTuple):
    """Adam on the log trajectory length."""

    log_length: Float[Tensor, ""]  # of the next trajectories of the warm-up
    log_length_mean: Float[Tensor, ""]  # the running mean of those before, for the draws
    square: Float[Tensor, ""]  # the running mean of squared slopes
    updates: Float[Tensor, ""]
    centre: Float[Tensor, " size"]  # the running mean of the positions, which distances are measured from


class Moments(NamedTuple):
    """Welford's sums over one window, ``square`` over all chains; of many coordinates it holds squares alone."""

    draws: Float[Tensor, ""]  # of each chain
    mean: Float[Tensor, "chain size"]
    square: Float[Tensor, "size size"] | Float[Tensor, " size"]  # sums of products of deviations, or of squares


class Adaptation(NamedTuple):
    """All that HMC adapts, shared by the chains. The metric was last taken from the curvature at ``metric_positions``,
    free vectors z (None for the start), or from ``metric_covariance``.
    """

    step_size: StepSize
    trajectory_length: TrajectoryLength
    moments: Moments | None  # of the draws of this window; None where the metric is from the curvature
    metric_positions: Float[Tensor, "chain size"] | None = None
    metric_covariance: Float[Tensor, "size size"] | Float[Tensor, " size"] | None = None


def initial_interval(warmup: int) -> int:
    """The steps of the first part of the warm-up, in which chains find the bulk of the posterior."""
    if warmup < 20:
        return 0
    return 75 if warmup >= 150 else round(0.15 * warmup)


def windows(warmup: int) -> list[int]:
    """The steps after which the metric is taken anew: windows that double in length, between an initial interval and a
    last one for the step size alone: Stan's schedule, with up to 100 steps in the last part, since after its 50 the
    acceptance is still a tenth above a wanted one of 0.65.
    """
    if warmup < 20:
        return []
    last, length = (min(100, warmup // 3), 25) if warmup >= 150 else (round(0.1 * warmup), warmup)
    ends, end = [], initial_interval(warmup)
    while end < warmup - last:
        # A window that would leave too little for the next one takes all.
        end = end + length if end + 3 * length <= warmup - last else warmup - last
        ends.append(end)
        length *= 2
    return ends


def start_step_size(initial: float) -> StepSize:
    """Dual averaging at its beginning."""
    log_step = torch.tensor(math.log(initial), dtype=torch.float64)
    zero = torch.zeros((), dtype=torch.float64)
    return StepSize(log_step, log_step_mean=log_step, log_step_centre=log_step, error=zero, updates=zero)


def learn_step_size(state: StepSize, acceptance: float, wanted: float) -> StepSize:
    """One step of dual averaging towards a wanted acceptance (Hoffman & Gelman, JMLR 2014, eq. 6)."""
    updates = state.updates + 1
    share = 1 / (updates + _DELAY)
    error = (1 - share) * state.error + share * (wanted - acceptance)
    log_step = state.log_step_centre - updates.sqrt() / _GAMMA * error
    weight = updates**-_DECAY
    mean = weight * log_step + (1 - weight) * state.log_step_mean
    return StepSize(log_step, mean, state.log_step_centre, error, updates)


def start_trajectory(initial: float, position: Float[Tensor, "chain size"]) -> TrajectoryLength:
    """Adam at its beginning, and the centre of the positions."""
    zero = torch.zeros((), dtype=torch.float64)
    log_length = torch.tensor(math.log(initial), dtype=torch.float64)
    return TrajectoryLength(log_length, log_length, square=zero, updates=zero, centre=position.mean(0))


def trajectory_slope(
    before: Float[Tensor, "chain size"],
    after: Float[Tensor, "chain size"],
    momentum: Float[Tensor, "chain size"],
    acceptance: Float[Tensor, " chain"],
    centre: Float[Tensor, " size"],
    length: float,
) -> float:
    """The slope, in the log trajectory length, of the criterion ChEES = E (||q' - c||^2 - ||q - c||^2)^2 / 4, which
    grows with the distance that trajectories carry (Hoffman, Radul & Sountsov, AISTATS 2021). Proposals count by their
    acceptance.
    """
    inward, outward = before - centre, after - centre
    change = outward.square().sum(1) - inward.square().sum(1)
    slopes = length * change * (outward * momentum).sum(1)
    usable = (slopes.abs() < 1e100) & (acceptance > 1e-4)  # its square must be finite
    if not usable.any():
        return 0.0
    weights = acceptance[usable]
    return float((weights * slopes[usable]).sum() / weights.sum())


def learn_trajectory(state: TrajectoryLength, slope: float, shortest: float, longest: float) -> TrajectoryLength:
    """One step of Adam up the slope, without momentum."""
    updates = state.updates + 1
    square = _MEMORY * state.square + (1 - _MEMORY) * slope**2
    root = (square / (1 - _MEMORY**updates)).sqrt() + 1e-30
    change = (_RATE * slope / root).clamp(-_LONGEST_CHANGE, _LONGEST_CHANGE)
    log_length = (state.log_length + change).clamp(math.log(shortest), math.log(max(longest, shortest)))
    mean = _MEMORY * state.log_length_mean + (1 - _MEMORY) * log_length
    return TrajectoryLength(log_length, mean, square, updates, state.centre)


def start_moments(like: Float[Tensor, "chain size"]) -> Moments:
    """Sums over no draws yet."""
    size = like.shape[1]
    square = like.new_zeros((size, size) if size <= _MOST_FOR_COVARIANCE else (size,))
    return Moments(torch.zeros((), dtype=torch.float64), torch.zeros_like(like), square)


def learn_moments(state: Moments, position: Float[Tensor, "chain size"]) -> Moments:
    """Welford's update, around each chain's own mean: chains in different modes do not widen the scales."""
    draws = state.draws + 1
    difference = position - state.mean
    mean = state.mean + difference / draws
    left = position - mean
    added = difference.mT @ left if state.square.ndim == 2 else (difference * left).sum(0)
    return Moments(draws, mean, state.square + added)


def learned_covariance(state: Moments) -> Float[Tensor, "size size"] | Float[Tensor, " size"]:
    """The covariance within the chains, shrunk off the diagonal towards zero as much as five draws would; where there
    are fewer than ten draws a coordinate, the variances alone.
    """
    chains, draws = len(state.mean), float(state.draws) * len(state.mean)
    covariance = state.square / max(draws - chains, 1.0)
    if covariance.ndim == 2 and draws < 10 * len(covariance):
        covariance = covariance.diagonal()
    variance = covariance if covariance.ndim == 1 else covariance.diagonal()
    variance = variance.clamp_min(1e-10 * float(variance.max().clamp_min(1e-30)))  # a chain that has not moved yet
    if covariance.ndim == 1:
        return variance
    return (draws * covariance + 5 * variance.diag()) / (draws + 5)
