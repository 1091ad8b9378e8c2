"""The double pendulum in a wind, which turns the direction in which things fall, and energies that prefer the vertical."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from turned_inertia import Size, angle_between, summary

sys.path.append(str(Path(__file__).parents[1] / "paper"))

import figure2

from analysis import kept_symmetry
from bayes_rpp import SO, BayesianModel, Gaussian, RPPPrior
from bayes_rpp.datasets import double_pendulum
from inference import DeepEnsemble

WINDS = ("0", "0.01", "0.05")
CHUNKS = 500  # to train on
WIND = torch.tensor([-8.0, -5.0, 0.0])  # of strength 1
DOWN = torch.tensor([0.0, 0.0, -1.0])


def run(kind: str, wind: str, noise: str, seed: str, *, size: Size) -> dict[str, Any]:
    """The axis among rotations and among all matrices: the direction of gravity and wind together is kept exactly."""
    data, began = double_pendulum(CHUNKS, CHUNKS, float(wind), int(seed)), time.process_time()
    panel, channels = figure2.PANELS["pendulum"], max(2, size.channels // 8)
    network = figure2.pendulum_network("RPP", panel, data, figure2.Size(0, channels, 1))
    model = BayesianModel(network, RPPPrior(dense_variance=1e-2), Gaussian(noise_variance=1e-4))
    epochs = max(1, size.steps * 100 // (3 * CHUNKS))
    engine = DeepEnsemble(members=max(2, size.members // 2), epochs=epochs, lr=1e-2, batch_size=100)
    posterior = engine.fit(model, data.train, seed=int(seed), progress=False)
    row: dict[str, Any] = {"seconds of training": time.process_time() - began}
    row["mse"] = float((posterior.predict(data.test.x).mean - data.test.y).square().mean())
    options: dict[str, Any] = {"rep_in": data.rep_in, "rep_out": data.rep_out, "y": data.test.y, "noise_variance": 0.0}
    axis = torch.nn.functional.normalize(DOWN + float(wind) * WIND, dim=0).double()
    row["tilt"] = math.degrees(math.acos(-float(axis[2])))
    for name, searched in (("so", {"group": SO(3)}), ("gl", {"algebra": "gl"})):
        kept = kept_symmetry(posterior, data.test.x, **searched, **options)
        row[name] = summary(kept)
        if kept.dimension == 1:
            row[name]["angle"] = angle_between(kept, axis)
    return row | {"seconds": time.process_time() - began}
