"""How far is an ensemble from the posterior? The equivariance error of a small RPP network by six ways to a posterior.

Data: 100 examples of Inertia (exactly O(3)-equivariant) and of Modified Inertia, standardised. Network: one hidden layer
of 48 channels, about 3,000 parameters, learned noise. HMC is the reference; the others are measured against it. The
runs are kept under the folder that is given (default runs/inertia_posteriors), where an interrupted one goes on;
results/inertia_posteriors.json keeps what the picture needs.

    python examples/inertia_posteriors.py
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import arviz
import matplotlib.pyplot as plt
import numpy as np
import torch
import xarray as xr

from analysis import convergence, equivariance_error, plot_equivariance_density
from bayes_rpp import RPPEMLP, BayesianModel, Gaussian, NormalizedNetwork, RPPPrior
from bayes_rpp.datasets import inertia
from bayes_rpp.datasets.regression_data import RegressionData
from inference import HMC, MAP, SGHMC, DeepEnsemble, Laplace, Posterior

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "inertia_posteriors.json"
FIGURE = HERE / "figures" / "inertia_posteriors.png"
DATA = {"inertia": 0.0, "modified inertia": 0.3}
PRIOR = RPPPrior(equivariant_variance=1.0, dense_variance=0.01)
POINTS, KEPT = 100, 400  # test points of the error; draws of each engine that it is measured on
COLD = 300  # epochs of a mode
# After 400 draws that are thrown away. On modified data the scale of the last layer moves slowly, and the trajectories
# that HMC chooses (about 12) are too short for it.
REFERENCE: dict[str, dict[str, Any]] = {
    "inertia": {"draws": 800, "warmup": 250},
    "modified inertia": {"draws": 1500, "warmup": 150, "trajectory_length": 25.0},
}


def problem(breaking: float) -> tuple[RegressionData, BayesianModel, tuple[torch.Tensor, torch.Tensor]]:
    data = inertia(train=100, test=1000, symmetry_breaking=breaking, seed=0)
    x, y = data.train.x.double(), data.train.y.double()
    net = RPPEMLP(data.rep_in, data.rep_out, data.group, channels=48, layers=1).double()
    model = BayesianModel(NormalizedNetwork.fit(net, x, y), PRIOR, Gaussian(noise_variance=1.0, learned=True))
    return data, model, (x, y)


def posteriors(label: str, folder: Path) -> dict[str, Posterior]:
    _, model, train = problem(DATA[label])

    def kept(name: str, make: Any) -> Posterior:
        path = folder / name
        if not path.exists():
            make(folder / f"{name}.checkpoint").save(path)
        return Posterior.load(path, model)

    ensemble = DeepEnsemble(members=16, epochs=COLD, batch_size=50)
    modes = kept("ensemble", lambda _: ensemble.fit(model, train, seed=0))
    arriving = HMC(chains=16, draws=400, warmup=250, metric="pathway")
    hmc = HMC(chains=16, metric="pathway", **REFERENCE[label])
    step: dict[str, Any] = {"step_size": 0.02, "friction": 3.0, "batch_size": 50, "metric": "pathway", "chains": 16}
    settled, langevin = SGHMC(**step, draws=1, warmup=3_000), SGHMC(**step, draws=400, warmup=5_000, thin=40)
    laplace = {name: Laplace(curvature=name, draws=KEPT, mode=MAP(epochs=1500, batch_size=50)) for name in ("layer",)}
    # The chains leave the modes together, and drift together for some hundred draws: what counts starts after that.
    arrived = kept("hmc-first", lambda path: arriving.fit(model, train, seed=0, start=modes, checkpoint=path))
    return {
        "ensemble": modes,
        "HMC": kept("hmc", lambda path: hmc.fit(model, train, seed=1, start=arrived, checkpoint=path)),
        "SGHMC": kept(
            "sghmc",
            # Once more from where the chains have come to, with the metric of that place.
            lambda path: langevin.fit(
                model, train, seed=1, checkpoint=path, start=settled.fit(model, train, seed=0, start=modes)
            ),
        ),
        **{
            f"Laplace ({name})": kept(f"laplace-{name}", lambda _, engine=engine: engine.fit(model, train, seed=0))
            for name, engine in laplace.items()
        },
    }


def thinned(posterior: Posterior) -> Posterior:
    """About as many draws as are measured, evenly from all chains."""
    every = slice(None, None, max(1, posterior.chains * posterior.draws // KEPT))
    samples = {name: value[:, every] for name, value in posterior.samples.items()}
    return Posterior(posterior.model, samples, posterior.stats, data=posterior.data)


def measure(posterior: Posterior, data: RegressionData) -> dict[str, Any]:
    x, y = data.test.x.double(), data.test.y.double()
    few = thinned(posterior)
    prediction = few.predict(x)
    density = few.log_likelihood(x, y).flatten(0, 1).logsumexp(0) - np.log(few.chains * few.draws)
    row = {
        "errors": equivariance_error(few, x[:POINTS]).values.round(6).tolist(),
        "test_mse": float((prediction.mean - y).square().mean()),
        "test_log_score": float(density.mean()),
        "noise": float(posterior.samples["noise_variance"].mean()),
        "seconds": posterior.stats["seconds"],
    }
    if posterior.draws > 100 and posterior.chains > 1:
        error = equivariance_error(posterior, x[:POINTS]).values
        row |= {"r_hat": float(arviz.rhat(error)), "ess": float(arviz.ess(error))}
        row |= {"verdict": convergence(posterior).verdict}
    if "diverging" in posterior.sample_stats:
        row["divergences"] = int(posterior.sample_stats["diverging"].sum())
    return row


def picture(results: dict[str, dict[str, Any]]) -> None:
    _, axes = plt.subplots(len(results), 1, figsize=(7, 3.2 * len(results)), layout="constrained", sharex=True)
    for ax, (label, rows) in zip(axes, results.items(), strict=True):
        errors = {
            name: xr.DataArray(row["errors"], dims=("chain", "draw")) for name, row in rows.items() if name != "true"
        }
        plot_equivariance_density(errors, ax=ax)
        if rows["true"] > 1e-6:
            ax.axvline(rows["true"], color="black", linestyle="--", linewidth=1, label="the function itself")
        ax.set_title(label)
        ax.legend(fontsize=8)
    FIGURE.parent.mkdir(exist_ok=True)
    plt.savefig(FIGURE, dpi=150)


def main(folder: Path) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    results: dict[str, dict[str, Any]] = {}
    for label, breaking in DATA.items():
        data, _, _ = problem(breaking)
        reps = {"rep_in": data.rep_in, "rep_out": data.rep_out}
        results[label] = {"true": float(equivariance_error(data.function, data.test.x[:POINTS], **reps))}
        for name, posterior in posteriors(label, folder / label.replace(" ", "_")).items():
            results[label][name] = row = measure(posterior, data)
            print(label, name, {key: value for key, value in row.items() if key != "errors"}, flush=True)
    RESULTS.write_text(json.dumps(results))
    picture(results)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/inertia_posteriors"))
