"""Predictions and diagnostics of 100,000 rows and 100 draws, each in a fresh process: seconds and peak memory.

    python tests/benchmarks/memory.py [names of rows]

The peak is that above the start, when everything is imported, the data are there, and a few rows have been evaluated.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from record import keep

if TYPE_CHECKING:
    from inference import Posterior

ROWS, DRAWS, CHANNELS, FEW = 100_000, 100, 64, 20
SAVED = 4_000  # draws, the first of twice as many, as after an interrupt: they are not in one part of memory
NAMES = (
    "predict",
    "predict, no samples",
    "log_likelihood",
    "equivariance_error",
    "local_equivariance_error",
    "save",
)


def posterior_and_rows(draws: int, rows: int) -> tuple[Posterior, tuple]:  # type: ignore[type-arg]
    """Draws of four chains around an initial state: what they predict is of no interest."""
    import torch

    from bayes_rpp import RPPEMLP, BayesianModel, Gaussian, RPPPrior
    from bayes_rpp.datasets import inertia
    from inference import Posterior

    torch.set_num_threads(1)
    data = inertia(train=1, test=rows, seed=0)
    network = RPPEMLP(data.rep_in, data.rep_out, data.group, channels=CHANNELS)
    model, generator = BayesianModel(network, RPPPrior(), Gaussian(0.2)), torch.Generator().manual_seed(0)
    samples = {}
    for name, value in model.initial_params(0).items():
        drawn = torch.randn(4, draws // 2, *value.shape, generator=generator).mul_(0.01).add_(value)
        samples[name] = drawn[:, : draws // 4]
    return Posterior(model, samples, data=data.train), data.test


def work(name: str, posterior: Posterior, x: object, y: object, folder: str) -> Callable[[], int]:
    """What is measured; it returns the bytes of its result."""
    from pathlib import Path

    import torch

    from analysis import equivariance_error, local_equivariance_error

    def of_tensors(*values: torch.Tensor) -> int:
        return sum(value.nbytes for value in values)

    def predict(**options: bool) -> int:
        found = posterior.predict(x, **options)
        kept = () if options else (found.samples,)
        return of_tensors(found.mean, found.epistemic, found.aleatoric, *kept)

    return {
        "predict": predict,
        "predict, no samples": lambda: predict(keep_samples=False),
        "log_likelihood": lambda: of_tensors(posterior.log_likelihood(x, y)),
        "equivariance_error": lambda: equivariance_error(posterior, x).nbytes,
        "local_equivariance_error": lambda: local_equivariance_error(posterior, x).nbytes,
        "save": lambda: sum(file.stat().st_size for file in Path(posterior.save(folder)).iterdir()),
    }[name]


def measure(name: str) -> None:
    posterior, (x, y) = posterior_and_rows(SAVED if name == "save" else DRAWS, FEW if name == "save" else ROWS)
    with tempfile.TemporaryDirectory() as folder:
        if name != "save":
            work(name, posterior, x[:FEW], y[:FEW], folder)()
        run = work(name, posterior, x, y, folder)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        size = run()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(size / 1e6, peak * 1024 / 1e6, seconds)


def main(names: list[str]) -> None:
    print(f"{ROWS:,} rows, {DRAWS} draws, RPPEMLP with {CHANNELS} channels, one thread; save: {SAVED:,} draws")
    print(f"  {'':26}{'result MB':>10}{'peak MB':>9}{'seconds':>9}")
    for name in names:
        done = subprocess.run([sys.executable, __file__, "--one", name], check=True, stdout=subprocess.PIPE, text=True)
        size, peak, seconds = map(float, done.stdout.split())
        print(f"  {name:26}{size:10.0f}{peak:9.0f}{seconds:9.1f}", flush=True)
        above = peak if name == "save" else max(0.0, peak - size)  # a file takes no memory
        keep("memory", {f"{name}, MB above the result": above, f"{name}, seconds": seconds})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measure(sys.argv[2])
    else:
        main([name for name in NAMES if name in sys.argv[1:]] or list(NAMES))
