"""Simulation-based calibration: are the draws of the samplers draws from the posterior of a network?

    theta ~ p(theta),   y ~ p(y | x, theta),   theta_1, ..., theta_L ~ p(theta | x, y) by a sampler

If the sampler is exact, the rank of h(theta) among h(theta_1), ..., h(theta_L) is uniform on 0, ..., L, whatever the
function h (Talts, Betancourt, Simpson, Vehtari & Gelman, "Validating Bayesian inference algorithms with
simulation-based calibration", arXiv:1804.06788). Here h is the log joint (which depends on the data, and so shows what
parameters alone would miss), two predictions, the equivariance error, the noise variance, and single weights. Chains
never start at the true theta. A replicate whose chains have not converged counts like any other, and is reported.

Runs are kept as they finish in results/calibration.json, from which the script goes on where it was stopped.

    python examples/calibration.py [--replicates 100] [--only hidden/HMC]
    python examples/calibration.py --report-only  # only the page of what is there
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyro
import torch
from recording.result_pages import captioned, page, publish
from recording.resumed_runs import Results, Row, run_all
from scipy.stats import binom
from torch import Tensor
from tqdm import tqdm

from analysis import equivariance_error
from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, RPPPrior, Scalar, Vector
from inference import HMC, MAP, NUTS, SGHMC, Posterior
from inference.posterior.arviz import chain_diagnostics

RESULTS = Path(__file__).parent / "results" / "calibration.json"
RANKED = 63  # draws that the truth is ranked among
BINS = 16
WEIGHTS = ("beta", "dense")  # hidden units change places and signs: their chains need not agree (nor do they all)
LEAST_ESS, LARGEST_R_HAT = 100.0, 1.1  # less, or more, and a replicate is reported as not converged
FALSE_ALARM = 1e-3  # for all functions of a case together

logger = logging.getLogger(__name__)
Pair = tuple[Tensor, Tensor]
Fit = Callable[[BayesianModel, Pair, int], Posterior]


@dataclass(frozen=True)
class Problem:
    """A model, the inputs that it is fitted at, and other inputs for predictions and the equivariance error."""

    model: BayesianModel
    x: Tensor
    x_new: Tensor


def problem(
    layers: int, examples: int, noise_variance: float = 0.1, floor: float = 0.03, learned: bool = True
) -> Problem:
    """RPP regression from a vector and a scalar to a vector under SO(3), with 20 channels in a hidden layer.

    The prior of the noise has its floor well above zero: below it, modes are apart, and chains do not change them.
    """
    # Full bilinear layers were the default when this was measured.
    network = RPPEMLP(Vector + Scalar, Vector, SO(3), channels=20, layers=layers, bilinear="full").double()
    prior = RPPPrior(equivariant_variance=0.5, dense_variance=0.02)
    likelihood = Gaussian(noise_variance=noise_variance, learned=learned, floor=floor)
    x = torch.randn(examples + 4, network.rep_in.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Problem(BayesianModel(network, prior, likelihood), x[:-4], x[-4:])


def from_prior(model: BayesianModel, x: Tensor, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """theta and y, by the model's Pyro program."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trace = pyro.poutine.trace(model.pyro_model).get_trace(x)
    theta = {name: trace.nodes[name]["value"].detach() for name in model.prior_distributions}
    return theta, trace.nodes["obs"]["value"].detach()


def functions(posterior: Posterior, x_new: Tensor) -> dict[str, Tensor]:
    """What is ranked: name -> (chain, draw)."""
    outputs, samples = posterior.outputs(x_new), posterior.samples
    last = [name for name in samples if name.endswith((".beta", ".dense"))][-2:]
    found = {
        "log joint": posterior.log_joint(),
        "prediction 0": outputs[:, :, 0, 0],
        "prediction 1": outputs[:, :, 1, 2],
        "equivariance error": torch.from_numpy(equivariance_error(posterior, x_new, elements=2).values),
        "beta": samples[last[0]].flatten(2)[..., 0],
        "dense": samples[last[1]].flatten(2)[..., 0],
    }
    return found | ({"noise variance": samples["noise_variance"]} if "noise_variance" in samples else {})


def replicate(setting: Problem, fit: Fit, seed: int) -> Row:
    """The ranks of one simulated truth, and how well the chains converged."""
    began = time.perf_counter()
    model, x = setting.model, setting.x
    theta, y = from_prior(model, x, seed)
    truth = Posterior(model, {name: value[None, None] for name, value in theta.items()}, data=(x, y))
    posterior = fit(model, (x, y), seed + 1_000_000)
    drawn, true = functions(posterior, setting.x_new), functions(truth, setting.x_new)
    row = {f"rank of {name}": rank(value, float(true[name])) for name, value in drawn.items()}
    found = {name: chain_diagnostics(value.numpy()) for name, value in drawn.items()}
    row["r_hat"] = max(found[name]["r_hat"] for name in found if name not in WEIGHTS)
    row["ess"] = min(found[name]["ess_bulk"] for name in found if name not in WEIGHTS)
    row["r_hat of weights"] = max(found[name]["r_hat"] for name in WEIGHTS)
    row["divergences"] = float(sum(map(int, posterior.sample_stats.get("diverging", torch.zeros(1)).flatten())))
    return row | {"lost_chains": float(len(posterior.partial)), "seconds": round(time.perf_counter() - began, 2)}


def rank(values: Tensor, truth: float) -> float:
    """Of the truth, among RANKED of the draws (chain, draw), as far apart in time as can be."""
    step = values.numel() // (RANKED + 1)
    thinned = values.flip(1)[:, ::step].reshape(-1)[:RANKED]
    assert len(thinned) == RANKED
    return float((thinned < truth).sum())


def uniformity(ranks: np.ndarray, ranked: int = RANKED, bins: int = BINS) -> float:
    """The exact p-value of ranks under the uniform distribution on 0, ..., ranked, by their cumulative counts.

    The count of ranks in the first i bins is Binomial(N, i / bins). The statistic is the smallest two-sided tail
    probability of these counts over i; its own distribution follows from those of the increments, bin by bin (Säilynoja,
    Bürkner & Vehtari, "Graphical test for discrete uniformity", Statistics and Computing 2022, algorithm 2).
    """
    total, width = len(ranks), (ranked + 1) // bins
    assert width * bins == ranked + 1
    assert np.isfinite(ranks).all()
    ends = np.arange(1, bins)
    counts = np.array([(ranks < end * width).sum() for end in ends])
    # The tail of each possible count k in the first i bins: min(P(K <= k), P(K >= k)).
    possible = np.arange(total + 1)
    tails = np.stack(
        [np.minimum(binom.cdf(possible, total, end / bins), binom.sf(possible - 1, total, end / bins)) for end in ends]
    )
    observed = min(tails[i, count] for i, count in enumerate(counts))
    inside = tails > observed * (1 + 1e-9)
    weights = np.zeros(total + 1)  # of each count so far, with all earlier ones inside
    weights[0] = 1.0
    for i, end in enumerate(ends):
        # Each rank that is left falls into this bin with probability 1 / (bins left).
        after = np.zeros(total + 1)
        for count in weights.nonzero()[0]:
            left = total - count
            after[count:] += weights[count] * binom.pmf(np.arange(left + 1), left, 1 / (bins - end + 1))
        weights = after * inside[i]
    return float(1 - weights.sum())


def by_hmc(warmup: int) -> Fit:
    """With the default metric; many chains, since 32 cost hardly more than one."""
    engine = HMC(chains=32, warmup=warmup, draws=32, thin=2)
    return lambda model, data, seed: engine.fit(model, data, seed=seed, progress=False)


def by_nuts(model: BayesianModel, data: Pair, seed: int) -> Posterior:
    """With as few draws as will do, for a millisecond or more a gradient."""
    return NUTS(chains=2, warmup=60, draws=192, metric="full").fit(model, data, seed=seed, progress=False)


def by_sghmc(model: BayesianModel, data: Pair, seed: int) -> Posterior:
    """On all data with small steps, started from the mode, where the metric comes from."""
    mode = MAP(epochs=300, batch_size=None, lr=0.03).fit(model, data, seed=seed, progress=False)
    engine = SGHMC(step_size=0.1, friction=1.0, chains=32, warmup=400, draws=32, thin=20, metric="full")
    return engine.fit(model, data, seed=seed, start=mode, progress=False)


LINEAR = problem(layers=0, examples=32)
HIDDEN = problem(layers=1, examples=16, noise_variance=0.3, floor=0.1)
CASES: dict[str, tuple[Problem, Fit]] = {
    "linear/HMC": (LINEAR, by_hmc(warmup=100)),
    "linear/NUTS": (LINEAR, by_nuts),
    "linear/SGHMC": (LINEAR, by_sghmc),
    "hidden/HMC": (HIDDEN, by_hmc(warmup=150)),
}


def p_values(rows: list[Row]) -> dict[str, float]:
    """Of every function that is ranked."""
    names = [name.removeprefix("rank of ") for name in rows[0] if name.startswith("rank of ")]
    return {name: uniformity(np.array([row[f"rank of {name}"] for row in rows])) for name in names}


def converged(row: Row) -> bool:
    """Whether the chains of a replicate agree, and moved enough."""
    return row["r_hat"] < LARGEST_R_HAT and row["ess"] > LEAST_ESS and row["lost_chains"] == 0


def table(results: Results) -> str:
    """One row a function: p-values in each case, and below them what should be known about the chains."""
    by_case = {case: [row for key, row in results.items() if key.startswith(f"{case}/")] for case in CASES}
    by_case = {case: rows for case, rows in by_case.items() if rows}
    found = {case: p_values(rows) for case, rows in by_case.items()}
    lines = ["| | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    for name in next(iter(found.values())):
        lines.append(f"| p of {name} | " + " | ".join(f"{p[name]:.3g}" for p in found.values()) + " |")
    verdicts = ["calibrated" if min(p.values()) * len(p) > FALSE_ALARM else "NOT calibrated" for p in found.values()]
    lines.append("| all (Bonferroni, 0.001) | " + " | ".join(verdicts) + " |")
    lines.append("| replicates | " + " | ".join(str(len(rows)) for rows in by_case.values()) + " |")
    late = [sum(not converged(row) for row in rows) for rows in by_case.values()]
    lines.append("| not converged (counted above) | " + " | ".join(map(str, late)) + " |")
    for name in ("r_hat", "r_hat of weights", "ess", "divergences", "seconds"):
        medians = [f"{np.median([row[name] for row in rows]):.3g}" for rows in by_case.values()]
        lines.append(f"| median {name} | " + " | ".join(medians) + " |")
    return "\n".join(lines)


def run(layers: str, engine: str, number: str) -> Row:
    row = replicate(*CASES[f"{layers}/{engine}"], seed=int(number))
    if not converged(row):
        logger.warning("%s/%s, replicate %s: the chains have not converged", layers, engine, number)
    return row


def report(results: Results) -> str:
    by_case = [[row for key, row in results.items() if key.startswith(f"{case}/")] for case in CASES]
    found = [p_values(rows) for rows in by_case if rows]
    count, least = sum(map(len, found)), min(value for case in found for value in case.values())
    departs = "no sampler departs" if least * count > FALSE_ALARM else "a sampler departs"
    caption = (
        f"p-values of uniform ranks of simulated truths among posterior draws, for each function that is ranked: {departs} "
        f"from uniform ranks, the least of {count} p-values being {least:.2g}. The linear layer has "
        "32 examples, the network with 20 hidden channels 16, the noise variance is learned in both; 1,024 draws a "
        "replicate (NUTS: 384). A replicate is called not converged if an R-hat exceeds 1.1 or a function has fewer than "
        "100 effective draws, and is counted nevertheless."
    )
    return page(__file__, "Simulation-based calibration of the samplers", captioned(caption, table(results)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=100)
    parser.add_argument("--only", choices=CASES, help="one case")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument(
        "--report-only", action="store_true", help="measure nothing; write the page of what is recorded"
    )
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    numbers = tqdm(range(0 if chosen.report_only else chosen.replicates), unit="replicate")
    cases = (
        tuple(f"{case}/{number}".split("/")) for number in numbers for case in CASES if chosen.only in (None, case)
    )
    publish(chosen.out, report(run_all(chosen.out, cases, run)))


if __name__ == "__main__":
    main()
