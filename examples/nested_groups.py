"""Groups inside groups: RPP with one group, O(3), and with the chain O(3) > O(2) about the z axis, on three data sets.

Inertia is O(3)-equivariant; the modified one only under the subgroup that keeps the z axis; the generic one under
neither. The table says how much of the weights lies in which pathway, and what the chain does to the test error.
Setting and resuming as in inertia_table.py; results/nested_groups.json keeps every run.

    python examples/nested_groups.py                # about an hour on one core
    python examples/nested_groups.py --report-only  # only the page of what is there
"""

from __future__ import annotations

import statistics
from pathlib import Path

from recording.result_pages import captioned, options, page, publish
from recording.resumed_runs import Results, Row, run_all

from analysis import equivariance_error, pathway_shares
from bayes_rpp import RPPEMLP, BayesianModel, Gaussian, O, O2eR3, RPPPrior
from bayes_rpp.datasets import inertia
from inference import MAP

RESULTS = Path(__file__).parent / "results" / "nested_groups.json"
CHAINS = {"O(3)": [O(3)], "O(3) > O2eR3": [O(3), O2eR3()]}
DATA = {"O(3)": (0.0, "axis"), "O2eR3": (0.3, "axis"), "neither": (0.3, "generic")}
GROUPS = (O(3), O2eR3())
SEEDS = (0, 1, 2)


def run(symmetry: str, chain: str, seed: str) -> Row:
    breaking, kind = DATA[symmetry]
    data = inertia(train=1000, test=1000, symmetry_breaking=breaking, kind=kind, seed=int(seed))
    net = RPPEMLP(data.rep_in, data.rep_out, CHAINS[chain], channels=384, layers=3, bilinear="full")
    model = BayesianModel(net, RPPPrior(10.0, 3e-4, scaling="layer_fan_in"), Gaussian(noise_variance=0.2))
    posterior = MAP(epochs=500, lr=3e-3, batch_size=500).fit(model, data.train, seed=int(seed))
    last = pathway_shares(posterior).isel(chain=0, draw=0, layer=-1)
    return {
        "test_mse": float((posterior.predict(data.test.x).mean - data.test.y).square().mean()),
        **{f"error under {group}": float(equivariance_error(posterior, data.test.x, group).mean()) for group in GROUPS},
        **{f"share of {name}": float(last.sel(pathway=name)) for name in last.pathway.values},
    }


def table(results: Results) -> str:
    lines = [
        "| data keep | pathways | test MSE (each seed) | error under O(3) | under O2eR3 | last layer: O(3), O2eR3, dense |",
        "|---|---|---|---|---|---|",
    ]
    for symmetry in DATA:
        for chain in CHAINS:
            rows = [results[key] for seed in SEEDS if (key := f"{symmetry}/{chain}/{seed}") in results]
            if not rows:
                continue
            mean = {name: statistics.mean(row[name] for row in rows) for name in rows[0]}
            each = ", ".join(f"{row['test_mse']:.3f}" for row in rows)
            first = mean.get("share of equivariant", mean.get("share of O(3)", 0.0))
            shares = f"{first:.3f}, {mean.get('share of O2eR3', 0.0):.3f}, {mean['share of dense']:.3f}"
            errors = f"{mean['error under O(3)']:.2g} | {mean['error under O2eR3']:.2g}"
            lines.append(f"| {symmetry} | {chain} | {mean['test_mse']:.3f} ({each}) | {errors} | {shares} |")
    return "\n".join(lines)


def report(results: Results) -> str:
    caption = (
        "RPP networks with one group, O(3), and with the chain O(3) > O2eR3, on data that keep O(3), only the symmetry of "
        "the z axis (O2eR3), or neither; setting of the paper, one network a seed. The error under O2eR3 stays small "
        "exactly where the data keep that group, with and without the chain. The last column is the share of the last "
        "layer's weight in each pathway."
    )
    notes = (
        "Where the data keep O2eR3, the chain's test error is a third lower on two seeds of three; seed 0 is worse with "
        "the chain on all three data sets, so that the means are alike. The default, `dense_variance` for every pathway "
        "after the first, follows from seeds 100 and 101, where the smallest of the variances tried (0.055, 0.01, 0.002, "
        "0.0005; not all on 101) was the best."
    )
    return page(__file__, "Groups inside groups", captioned(caption, table(results)), notes)


def main() -> None:
    chosen = options(__doc__, RESULTS)
    cases = [(symmetry, chain, str(seed)) for seed in SEEDS for symmetry in DATA for chain in CHAINS]
    publish(chosen.out, report(run_all(chosen.out, [] if chosen.report_only else cases, run)))


if __name__ == "__main__":
    main()
