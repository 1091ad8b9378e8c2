"""What HMC learns during its warm-up: the step size, the trajectory length, and the covariance of the draws.

Every function takes and returns plain dicts of tensors, so that a run can be saved and gone on with.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

_GAMMA, _DELAY, _DECAY = 0.05, 10.0, 0.75  # of dual averaging, as Hoffman & Gelman have them
_RATE, _MEMORY = 0.025, 0.95  # of Adam on the log trajectory length, as Hoffman, Radul & Sountsov have them
_MOST_FOR_COVARIANCE = 200  # coordinates
_LONGEST_CHANGE = 0.35  # of the log trajectory length in one step


def settling(warmup: int) -> int:
    """The steps of the first part of the warm-up, in which chains find the bulk."""
    if warmup < 20:
        return 0
    return 75 if warmup >= 150 else round(0.15 * warmup)


def windows(warmup: int) -> list[int]:
    """The steps after which the metric is taken anew: windows that double in length, between a first part in which
    chains settle, and a last one for the step size alone: Stan's schedule, with up to 100 steps in the last part, since
    after its 50 the acceptance is still a tenth above a wanted one of 0.65.
    """
    if warmup < 20:
        return []
    last, length = (min(100, warmup // 3), 25) if warmup >= 150 else (round(0.1 * warmup), warmup)
    ends, end = [], settling(warmup)
    while end < warmup - last:
        # A window that would leave too little for the next one takes all.
        end = end + length if end + 3 * length <= warmup - last else warmup - last
        ends.append(end)
        length *= 2
    return ends


def start_step_size(initial: float) -> dict[str, Tensor]:
    """Dual averaging of the log step size, at its beginning."""
    log_step = torch.tensor(math.log(initial), dtype=torch.float64)
    zero = torch.zeros((), dtype=torch.float64)
    return {"log_step": log_step, "log_step_mean": log_step, "log_step_centre": log_step, "error": zero, "count": zero}


def learn_step_size(state: dict[str, Tensor], acceptance: float, wanted: float) -> dict[str, Tensor]:
    """One step of dual averaging towards a wanted acceptance (Hoffman & Gelman, JMLR 2014, eq. 6)."""
    count = state["count"] + 1
    share = 1 / (count + _DELAY)
    error = (1 - share) * state["error"] + share * (wanted - acceptance)
    log_step = state["log_step_centre"] - count.sqrt() / _GAMMA * error
    weight = count**-_DECAY
    mean = weight * log_step + (1 - weight) * state["log_step_mean"]
    return state | {"log_step": log_step, "log_step_mean": mean, "error": error, "count": count}


def usual_acceptance(before: Float[Tensor, " chain"], acceptance: Float[Tensor, " chain"]) -> Float[Tensor, " chain"]:
    """A running mean of each chain's acceptance, over about ten trajectories."""
    return 0.9 * before + 0.1 * acceptance


def start_trajectory(initial: float, like: Float[Tensor, "chain size"]) -> dict[str, Tensor]:
    """Adam on the log trajectory length, at its beginning, and the centre that distances are measured from."""
    zero = torch.zeros((), dtype=torch.float64)
    log_length = torch.tensor(math.log(initial), dtype=torch.float64)
    lengths = {"log_length": log_length, "log_length_mean": log_length}
    return lengths | {"square": zero, "updates": zero, "centre": like.mean(0)}


def trajectory_slope(
    before: Float[Tensor, "chain size"],
    after: Float[Tensor, "chain size"],
    momentum: Float[Tensor, "chain size"],
    acceptance: Float[Tensor, " chain"],
    centre: Float[Tensor, " size"],
    length: float,
) -> float:
    """The slope, in the log trajectory length, of the expected change of the squared distance from the centre, squared.

    The criterion ChEES = E (||q' - c||^2 - ||q - c||^2)^2 / 4 grows with the distance that trajectories carry (Hoffman,
    Radul & Sountsov, AISTATS 2021); proposals count by their acceptance.
    """
    inward, outward = before - centre, after - centre
    change = outward.square().sum(1) - inward.square().sum(1)
    slopes = length * change * (outward * momentum).sum(1)
    usable = (slopes.abs() < 1e100) & (acceptance > 1e-4)  # its square must be finite
    if not usable.any():
        return 0.0
    weights = acceptance[usable]
    return float((weights * slopes[usable]).sum() / weights.sum())


def learn_trajectory(state: dict[str, Tensor], slope: float, shortest: float, longest: float) -> dict[str, Tensor]:
    """One step of Adam up the slope, without momentum."""
    updates = state["updates"] + 1
    square = _MEMORY * state["square"] + (1 - _MEMORY) * slope**2
    root = (square / (1 - _MEMORY**updates)).sqrt() + 1e-30
    change = (_RATE * slope / root).clamp(-_LONGEST_CHANGE, _LONGEST_CHANGE)
    log_length = (state["log_length"] + change).clamp(math.log(shortest), math.log(max(longest, shortest)))
    mean = _MEMORY * state["log_length_mean"] + (1 - _MEMORY) * log_length
    return state | {"log_length": log_length, "log_length_mean": mean, "square": square, "updates": updates}


def start_moments(like: Float[Tensor, "chain size"]) -> dict[str, Tensor]:
    """Sums over one window for each chain's mean and the covariance around it; of many coordinates, the variances."""
    size = like.shape[1]
    square = like.new_zeros((size, size) if size <= _MOST_FOR_COVARIANCE else (size,))
    count = torch.zeros((), dtype=torch.float64)
    return {"moment_count": count, "moment_mean": torch.zeros_like(like), "moment_square": square}


def learn_moments(state: dict[str, Tensor], position: Float[Tensor, "chain size"]) -> dict[str, Tensor]:
    """Welford's update, around each chain's own mean: chains in different modes do not widen the scales."""
    count = state["moment_count"] + 1
    difference = position - state["moment_mean"]
    mean = state["moment_mean"] + difference / count
    left, square = position - mean, state["moment_square"]
    square = square + (difference.mT @ left if square.ndim == 2 else (difference * left).sum(0))
    return state | {"moment_count": count, "moment_mean": mean, "moment_square": square}


def learned_covariance(state: dict[str, Tensor]) -> Float[Tensor, "size size"] | Float[Tensor, " size"]:
    """The covariance within the chains, or, where there are fewer than ten draws a coordinate, the variances alone.

    Off the diagonal it is drawn towards zero as much as five draws would.
    """
    square = state["moment_square"]
    draws = float(state["moment_count"]) * len(state["moment_mean"])
    covariance = square / max(draws - len(state["moment_mean"]), 1.0)
    if square.ndim == 2 and draws < 10 * len(square):
        covariance = covariance.diagonal()
    variance = covariance if covariance.ndim == 1 else covariance.diagonal()
    variance = variance.clamp_min(1e-10 * float(variance.max().clamp_min(1e-30)))  # a chain that has not moved yet
    if covariance.ndim == 1:
        return variance
    return (draws * covariance + 5 * variance.diag()) / (draws + 5)
