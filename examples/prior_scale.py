"""The scale of functions drawn from the default prior, over groups, widths and depths, before and after.

Networks from standard normal inputs; the median over 51 draws of the prior of the mean square of the outputs. "Before" is
a variance of 10 over one fan-in for a whole layer, the default of old files, which they keep. Every finished case is kept
in results/prior_scale.json, so that the script resumes where it was stopped.

    python examples/prior_scale.py                # ten minutes on one core
    python examples/prior_scale.py --report-only  # only the page of what is there
"""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path

import torch
from recording.result_pages import captioned, options, page, publish, rows_of
from recording.resumed_runs import Results, Row, run_all

from bayes_rpp import (
    EMLP,
    MLP,
    RPPEMLP,
    SO,
    BayesianModel,
    D,
    Gaussian,
    O,
    RPPPrior,
    S,
    Scalar,
    SO13p,
    T,
    Vector,
    Z,
)
from bayes_rpp.prior_draws import prior_draws

RESULTS = Path(__file__).parent / "results" / "prior_scale.json"
CASES = {
    "O(3)": (O(3), 5 * Scalar + 5 * Vector, T(2)),
    "SO(3)": (SO(3), 2 * Vector, Vector),
    "S(4)": (S(4), Vector, Vector),
    "Z(4)": (Z(4), Vector, Vector),
    "SO13p": (SO13p(), 4 * Vector, Scalar),
    "D(4)": (D(4), Vector, Vector),
}
WIDTHS, DEPTHS = (32, 64, 128, 256, 512, 1024), (1, 2, 3)
KINDS = {
    "RPP": (RPPEMLP, RPPPrior()),
    "RPP, before": (partial(RPPEMLP, bilinear="full"), RPPPrior(10.0, 3e-4, scaling="layer_fan_in")),
    "EMLP": (EMLP, RPPPrior()),
    "MLP": (MLP, RPPPrior()),
}
DRAWS, INPUTS = 51, 64


def run(kind: str, group_name: str, layers: str, channels: str) -> Row:
    group, rep_in, rep_out = CASES[group_name]
    network_class, prior = KINDS[kind]
    network = network_class(rep_in, rep_out, group, channels=int(channels), layers=int(layers))
    model = BayesianModel(network, prior, Gaussian(1.0))
    x = torch.randn(INPUTS, network.rep_in.size, generator=torch.Generator().manual_seed(0))
    squares = []
    for seed in range(DRAWS):
        params = {name: value[0] for name, value in prior_draws(model, 1, seed).items()}
        with torch.no_grad():
            squares.append(model.output(params, x).square().mean())
    quantiles = torch.stack(squares).quantile(torch.tensor([0.1, 0.5, 0.9]))
    return dict(zip(("lower", "median", "upper"), quantiles.tolist(), strict=True))


def table(results: Results, kind: str) -> str:
    rows = []
    for group, layers in product(CASES, DEPTHS):
        found = [results.get(f"{kind}/{group}/{layers}/{channels}") for channels in WIDTHS]
        if any(found):
            rows.append((group, str(layers), *(f"{row['median']:.2g}" if row else "" for row in found)))
    return rows_of(("group", "hidden layers", *(f"{channels} channels" for channels in WIDTHS)), rows)


def report(results: Results) -> str:
    def span(kind: str) -> str:
        medians = [row["median"] for key, row in results.items() if key.startswith(f"{kind}/")]
        return f"from {min(medians):.2g} to {max(medians):.2g}"

    parts = []
    for kind, about in {
        "RPP": "RPP networks under the default prior",
        "RPP, before": "RPP networks under the former default, which files of that time keep",
        "EMLP": "EMLP under the default prior",
        "MLP": "MLP under the default prior",
    }.items():
        caption = f"{about}: the median mean square lies {span(kind)}."
        parts += [f"## {kind}", captioned(caption, table(results, kind))]
    explanation = (
        f"The mean square of a network's outputs at {INPUTS} standard normal inputs, and its median over {DRAWS} draws of "
        "the weights from the prior. A prior of standardised data has functions of order one, whatever the width, the "
        "depth or the group."
    )
    return page(__file__, "The scale of prior functions", explanation, *parts)


def main() -> None:
    chosen = options(__doc__, RESULTS)
    cases = [tuple(map(str, case)) for case in product(KINDS, CASES, DEPTHS, WIDTHS)]
    publish(chosen.out, report(run_all(chosen.out, [] if chosen.report_only else cases, run)))


if __name__ == "__main__":
    main()
