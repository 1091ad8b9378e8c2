"""Two tasks on which LieGAN (Yang, Walters, Dehmamy & Yu, ICML 2023) was tried, made anew: orbits and seventh turns."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from learned_functions import trained
from scipy.integrate import solve_ivp
from torch import Tensor
from turned_inertia import POINTS, Size, summary

from analysis import kept_subgroup, kept_symmetry
from bayes_rpp import Group, Scalar, Trivial, Vector

SEEN, TIMES = 4, 50  # states that the next is predicted from, and states of an orbit of 20 time units
TURNS, KEPT_TURNS = 84, 7  # turns that are searched, and those that the function keeps
VARIANCE = 1e-4  # of the noise that models allow for, relative to that of y


def orbits(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two unit masses on nearly circular orbits of radius 0.5 to 1.5 (Greydanus, Dzamba & Yosinski, NeurIPS 2019): four
    states (q_1, q_2, p_1, p_2) in the plane, (count, 32), and the one that follows, (count, 8); one from each orbit.
    """
    radius = 0.5 + torch.rand(count, 1, generator=generator, dtype=torch.float64)
    angle = 2 * math.pi * torch.rand(count, 1, generator=generator, dtype=torch.float64)
    speed = (1 + 0.05 * torch.randn(count, 2, generator=generator, dtype=torch.float64)) / (2 * radius.sqrt())
    q = radius * torch.cat([angle.cos(), angle.sin()], dim=1)
    p = speed * torch.cat([-angle.sin(), angle.cos()], dim=1)

    def derivative(_: float, flat: np.ndarray) -> np.ndarray:
        place, momentum = flat.reshape(2, -1, 2)
        pull = place / (4 * np.linalg.norm(place, axis=1, keepdims=True) ** 3)
        return np.stack([momentum, -pull]).ravel()

    times = np.linspace(0, 20, TIMES)
    start = torch.stack([q, p]).numpy().ravel()
    solved = solve_ivp(derivative, (0, 20), start, method="DOP853", t_eval=times, rtol=1e-9, atol=1e-9)
    q, p = torch.as_tensor(solved.y.T.reshape(TIMES, 2, count, 2)).permute(1, 2, 0, 3)
    states = torch.stack([q, -q, p, -p], dim=2).float()
    begin = torch.randint(TIMES - SEEN, (count,), generator=generator)
    window = states[torch.arange(count)[:, None], begin[:, None] + torch.arange(SEEN + 1)]
    return window[:, :SEEN].flatten(1), window[:, SEEN].flatten(1)


def sevenths(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """z / (1 + the angle of (x, y) modulo a seventh of a turn), which turns by sevenths about z keep."""
    x = torch.randn(count, 3, generator=generator)
    angle = torch.atan2(x[:, 1], x[:, 0]) % (2 * math.pi / KEPT_TURNS)
    return x, (x[:, 2] / (1 + angle))[:, None]


def turns() -> Group:
    """Rotations about z by multiples of a 84th of a turn."""
    cosine, sine = math.cos(2 * math.pi / TURNS), math.sin(2 * math.pi / TURNS)
    return Group(generators=[[[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]]], name="turns")


def run(kind: str, train: str, noise: str, seed: str, *, size: Size) -> dict[str, Any]:
    generator, began = torch.Generator().manual_seed(int(seed)), time.process_time()
    is_orbits = kind == "orbits"
    draw, trivial = (orbits, Trivial(2)) if is_orbits else (sevenths, Trivial(3))
    reps = (4 * SEEN * Vector, 4 * Vector) if is_orbits else (Vector, Scalar)
    x, y = draw(int(train), generator)
    points, held_out = draw(POINTS, generator)
    rep_in, rep_out = (rep(trivial) for rep in reps)
    posterior = trained(x, y, rep_in, rep_out, VARIANCE * float(y.var()), int(seed), size)
    row: dict[str, Any] = {"seconds of training": time.process_time() - began}
    row["error"] = float((posterior.predict(points).mean - held_out).norm() / (held_out - held_out.mean(0)).norm())
    if is_orbits:
        kept = kept_symmetry(posterior, points, algebra="gl", y=held_out, noise_variance=0.0)
        found = kept.along[0] / kept.along[0].norm()
        rotation = torch.tensor([[0.0, -1.0], [1.0, 0.0]]).to(found) / 2**0.5
        row |= summary(kept) | {"cosine": abs(float((found * rotation).sum()))}
        row["kept"] = f"{kept.dimension} of {len(kept.along)} directions"
    else:
        found = kept_subgroup(
            posterior, points, turns(), rep_in=reps[0], rep_out=reps[1], y=held_out, noise_variance=0.0
        )
        row |= {
            "kept": f"{found.order} of {TURNS} turns",
            "share": found.share,
            "detectable": float(found.detectable.max()),
        }
    return row | {"seconds": time.process_time() - began}
