"""The paper's setting on Inertia and Modified Inertia: RPP, EMLP and MLP, three seeds; RPP and EMLP with bilinear layers
of low rank and with full ones.

1000 examples to train and 1000 to test, channels 384, three hidden layers, Adam at 3e-3 (cosine), batch 500, 500 epochs.
Inputs and outputs are standardised, as in the published code, and one setting of the prior serves both data sets. Every
finished run is kept in results/inertia_table.json, so that the script resumes where it was stopped; delete the file to
start again.

    python examples/inertia_table.py                # about half an hour on one core
    python examples/inertia_table.py --report-only  # only the page of what is there
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from pathlib import Path

from recording.result_pages import captioned, options, page, publish
from recording.resumed_runs import Results, Row, run_all

from analysis import equivariance_error
from bayes_rpp import EMLP, MLP, RPPEMLP, BayesianModel, Gaussian, NormalizedNetwork, RPPPrior
from bayes_rpp.datasets import inertia
from inference import MAP

RESULTS = Path(__file__).parent / "results" / "inertia_table.json"
FULL = ", full bilinear layers"
NETWORKS = {
    "EMLP": EMLP,
    "RPP": RPPEMLP,
    "MLP": MLP,
    f"EMLP{FULL}": partial(EMLP, bilinear="full"),
    f"RPP{FULL}": partial(RPPEMLP, bilinear="full"),
}
DATA = {"Inertia": 0.0, "Modified Inertia": 0.3}
SEEDS = (0, 1, 2)


def run(data_name: str, network: str, seed: str) -> Row:
    data = inertia(train=1000, test=1000, symmetry_breaking=DATA[data_name], seed=int(seed))
    inner = NETWORKS[network](data.rep_in, data.rep_out, data.group, channels=384, layers=3)
    net = NormalizedNetwork.fit(inner, *data.train)
    model = BayesianModel(net, RPPPrior(), Gaussian(noise_variance=0.2))
    began = time.process_time()
    posterior = MAP(epochs=500, lr=3e-3, batch_size=500, compile=False).fit(model, data.train, seed=int(seed))
    seconds = time.process_time() - began
    true = equivariance_error(data.function, data.test.x, rep_in=data.rep_in, rep_out=data.rep_out)
    return {
        "test_mse": float((posterior.predict(data.test.x).mean - data.test.y).square().mean()),
        "train_mse": float((posterior.predict(data.train.x).mean - data.train.y).square().mean()),
        "equivariance_error": float(equivariance_error(posterior, data.test.x).mean()),
        "true_equivariance_error": float(true),
        "seconds": seconds,
    }


def table(results: Results) -> str:
    lines = [
        "| data | network | test MSE, mean (each seed) | equivariance error | of the true function | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for data in DATA:
        for network in NETWORKS:
            rows = [results[key] for seed in SEEDS if (key := f"{data}/{network}/{seed}") in results]
            if rows:
                errors = [row["test_mse"] for row in rows]
                each = ", ".join(f"{error:.3f}" for error in errors)
                measured, true = (
                    statistics.mean(row[name] for row in rows)
                    for name in ("equivariance_error", "true_equivariance_error")
                )
                seconds = statistics.mean(row["seconds"] for row in rows)
                errors_of = f"{statistics.mean(errors):.3f} ({each}) | {measured:.2g} | {true:.2g}"
                lines.append(f"| {data} | {network} | {errors_of} | {seconds:.0f} |")
    return "\n".join(lines)


def report(results: Results) -> str:
    def error(data: str, network: str) -> float:
        return statistics.mean(results[f"{data}/{network}/{seed}"]["test_mse"] for seed in SEEDS)

    kept, broken = (error(data, "RPP") / error(data, "EMLP") for data in DATA)
    caption = (
        "Test error and equivariance error of one network a seed: 1000 examples, 384 channels, three hidden layers, 500 "
        "epochs, standardised data, the default prior on both data sets. EMLP is exactly equivariant and cannot fit the "
        f"modified data; the MLP does not use the symmetry. The RPP network has {kept:.2f} times the error of EMLP where "
        f"the symmetry holds and {broken:.2f} times where it is broken."
    )
    exact, modified = (error(data, "RPP") / error(data, f"RPP{FULL}") for data in DATA)
    layers = (
        "Bilinear layers of low rank, the default, combine the copies of each piece before they are multiplied; full ones "
        f"have a weight for every pair. With low rank RPP has {exact:.2f} times the error on exact data and "
        f"{modified:.2f} times on modified data, in less time. The largest number of products, eight, was chosen among 4, "
        "8 and 16 on seeds 0 and 1, where each of the three had less error than full layers on both data sets."
    )
    notes = (
        "For comparison, the test errors of other implementations in this setting: on the exact data EMLP 0.16, RPP 0.28, "
        "MLP 3.7; on the modified data EMLP 1.19, RPP 0.28 with well-chosen variances, MLP 4.8. The default equivariant "
        "variance is that for which prior functions are of order one; the dense one and the initial state were chosen on "
        "seeds 100 and 101. Seconds are of one core, for a network's training as it is, not compiled."
    )
    return page(
        __file__, "Test error on Inertia and Modified Inertia", captioned(caption, table(results)), layers, notes
    )


def main() -> None:
    chosen = options(__doc__, RESULTS)
    cases = [(data, network, str(seed)) for seed in SEEDS for data in DATA for network in NETWORKS]
    publish(chosen.out, report(run_all(chosen.out, [] if chosen.report_only else cases, run)))


if __name__ == "__main__":
    main()
