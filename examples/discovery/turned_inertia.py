"""Moments of inertia that keep all rotations, those about a random axis, or none, and ensembles that prefer O(3)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from analysis import KeptAlgebra, kept_symmetry
from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, NormalizedNetwork, Rep, RPPPrior
from bayes_rpp.datasets import inertia
from inference import DeepEnsemble

DATA = {"exact": (0.0, "axis"), "axis": (0.3, "axis"), "generic": (0.3, "generic")}
KEPT = {"exact": (3, 4), "axis": (1, 2), "generic": (0, 1)}  # dimensions in so(3) and gl(3)
POINTS = 1000


class Size(NamedTuple):
    members: int
    channels: int
    layers: int
    steps: int


def run(kind: str, train: str, noise: str, seed: str, *, size: Size) -> dict[str, Any]:
    breaking, form = DATA[kind]
    data = inertia(int(train), POINTS, breaking, int(seed), form)
    turn = SO(3).sample(1, int(seed))[0]
    turned = turned_function(data.function, turn, data.rep_in, data.rep_out)
    generator = torch.Generator().manual_seed(int(seed))
    y = turned(data.train.x)
    y = y + float(noise) * y.std() * torch.randn(y.shape, generator=generator)
    began = time.process_time()
    inner = RPPEMLP(data.rep_in, data.rep_out, data.group, channels=size.channels, layers=size.layers)
    network = NormalizedNetwork.fit(inner, data.train.x, y)
    variance = 0.2 + (float(noise) * float(y.std())) ** 2
    model = BayesianModel(network, RPPPrior(), Gaussian(noise_variance=variance))
    epochs = max(1, size.steps * 100 // int(train))
    engine = DeepEnsemble(members=size.members, epochs=epochs, lr=1e-2)
    posterior = engine.fit(model, (data.train.x, y), seed=int(seed), progress=False)
    trained = time.process_time() - began
    mse = float((posterior.predict(data.test.x).mean - turned(data.test.x)).square().mean())
    reps = {"rep_in": data.rep_in, "rep_out": data.rep_out}
    among_rotations = kept_symmetry(posterior, data.test.x, SO(3), **reps)
    among_all = kept_symmetry(posterior, data.test.x, algebra="gl", **reps)
    row: dict[str, Any] = {"mse": mse, "so": summary(among_rotations), "gl": summary(among_all)}
    if among_rotations.dimension == 1:
        row["so"]["angle"] = angle_between(among_rotations, turn[:, 2])
    return row | {"seconds of training": trained, "seconds": time.process_time() - began}


def turned_function(
    function: Callable[[Tensor], Tensor], turn: Tensor, rep_in: Rep, rep_out: Rep
) -> Callable[[Tensor], Tensor]:
    """g f(g^-1 x), which keeps g s g^-1 where f keeps s."""

    def turned(x: Tensor) -> Tensor:
        g = turn.to(x)
        result: Tensor = rep_out.apply(g, function(rep_in.apply(g.T, x)))
        return result

    return turned


def angle_between(kept: KeptAlgebra, axis: Tensor) -> float:
    """Between the axis of the rotations that are kept and a true one, in degrees."""
    a = kept.along[0]
    found = torch.stack([a[2, 1], a[0, 2], a[1, 0]])
    return math.degrees(math.asin(min(1.0, float(torch.linalg.cross(found / found.norm(), axis).norm()))))


def summary(kept: KeptAlgebra) -> dict[str, Any]:
    return {
        "dimension": kept.dimension,
        "share": kept.share,
        "distances": kept.distances.values.tolist(),
        "radius": kept.radius() if kept.dimension < len(kept.along) else 0.0,
        "unsure": kept.is_unsure,
        "detectable": float(kept.detectable[: kept.dimension].max()) if kept.dimension else 0.0,
        "words": kept.known.words if kept.known else "",
    }
