"""The double spring pendulum: symmetric about the vertical, or pushed by a wind."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy.integrate import solve_ivp
from torch import Tensor

from bayes_rpp.datasets.trajectories import TrajectoryData, chunked
from bayes_rpp.groups.named import O2eR3
from bayes_rpp.representations.rep import Vector
from bayes_rpp.seeding import seeded_generator

DT, STEPS, POINTS = 0.2, 4, 150  # between states, states after the first, and steps of a whole trajectory of 30 s
_WIND = (-8.0, -5.0, 0.0)
_TOLERANCE = 1e-10


def double_pendulum(
    train: int = 500, test: int = 500, wind: float = 0.0, seed: int = 0, second_spring: float = 1.0
) -> TrajectoryData:
    r"""Two masses on springs, one below the other (Finzi, Benton & Wilson, NeurIPS 2021, section 5.2):

        H = |p_1|^2 / 2 + |p_2|^2 / 2 + (|x_1| - 1)^2 / 2 + k_2 (|x_1 - x_2| - 1)^2 / 2 + z_1 + z_2
            - c w.(x_1 + x_2),   w = (-8, -5, 0)

    States are (x_1, x_2, p_1, p_2), four vectors. The energy is invariant under rotations about the vertical and
    reflections that keep it, O2eR3; a wind c breaks this. Each example is a chunk of 5 states, 0.2 apart, from anywhere
    in a trajectory of 30 s of its own, which starts at x_1 = (0, 0, -1.5) + 0.2 N, x_2 = (0, 0, -3) + 0.2 N, p = 0.4 N.

    Parameters
    ----------
    train, test : numbers of chunks.
    wind : c; the paper's is 0.01.
    seed : the same seed gives the same starts for every wind.
    second_spring : k_2. The published code has no factor 1/2 in this term, which is k_2 = 2.

    Raises
    ------
    ValueError
        If train is below 1, test is negative, or another argument is not finite.

    Examples
    --------
    >>> data = double_pendulum(train=10, test=5)
    >>> data.train.x.shape, data.train.y.shape, data.rep_in
    (torch.Size([10, 12]), torch.Size([10, 48]), 4*Vector)
    """
    if train < 1 or test < 0:
        raise ValueError(f"need train >= 1 and test >= 0 chunks, got {train} and {test}.")
    if not (np.isfinite(wind) and np.isfinite(second_spring)):
        raise ValueError(f"wind and second_spring must be finite, got {wind} and {second_spring}.")
    push = wind * np.array(_WIND)

    def energy(z: Float[Tensor, "*batch 12"]) -> Float[Tensor, "*batch"]:
        first, second, *momenta = z.unflatten(-1, (4, 3)).unbind(-2)
        kinetic = sum(p.square().sum(-1) for p in momenta) / 2
        springs = (first.norm(dim=-1) - 1).square() / 2
        springs = springs + second_spring * ((first - second).norm(dim=-1) - 1).square() / 2
        force = torch.as_tensor(push - np.array([0.0, 0.0, 1.0])).to(z)
        result: Tensor = kinetic + springs - (first + second) @ force
        return result

    def derivative(_: float, flat: np.ndarray) -> np.ndarray:
        first, second, p1, p2 = flat.reshape(-1, 4, 3).transpose(1, 0, 2)
        between = first - second
        upper = (1 - 1 / np.linalg.norm(first, axis=1, keepdims=True)) * first
        lower = second_spring * (1 - 1 / np.linalg.norm(between, axis=1, keepdims=True)) * between
        force = push - np.array([0.0, 0.0, 1.0])
        return np.stack([p1, p2, force - upper - lower, force + lower], axis=1).ravel()

    def states(start: np.ndarray, steps: int) -> np.ndarray:
        """(batch, steps + 1, 12), from starts (batch, 12)."""
        times = DT * np.arange(steps + 1)
        solved = solve_ivp(
            derivative, (0.0, times[-1]), start.ravel(), method="DOP853", t_eval=times, rtol=_TOLERANCE, atol=_TOLERANCE
        )
        if not solved.success:
            raise ValueError(f"the motion could not be integrated: {solved.message}")
        return np.asarray(solved.y).T.reshape(steps + 1, *start.shape).swapaxes(0, 1)

    def function(x: Float[Tensor, "batch 12"]) -> Float[Tensor, "batch 48"]:
        """The four states that follow."""
        after = states(x.detach().cpu().double().numpy(), STEPS)[:, 1:]
        return torch.as_tensor(after).flatten(1).to(x)

    generator = seeded_generator(seed)
    rest = torch.tensor([[0.0, 0.0, -1.5], [0.0, 0.0, -3.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    spread = torch.tensor([0.2, 0.2, 0.4, 0.4], dtype=torch.float64)[:, None]
    noise = torch.randn(train + test, 4, 3, dtype=torch.float64, generator=generator)
    begin = torch.randint(POINTS - STEPS + 1, (train + test,), generator=generator)
    whole = torch.as_tensor(states((rest + spread * noise).flatten(1).numpy(), POINTS))
    pieces = whole[torch.arange(train + test)[:, None], begin[:, None] + torch.arange(STEPS + 1)]
    chunks = pieces.to(torch.get_default_dtype())
    group = O2eR3()
    rep = (4 * Vector)(group)
    return TrajectoryData(
        chunked(chunks[:train]), chunked(chunks[train:]), rep, STEPS * rep, group, function, STEPS, DT, energy
    )
