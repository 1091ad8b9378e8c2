"""What ``bayes-rpp fit`` does."""

from __future__ import annotations

import sys
from argparse import Namespace
from functools import partial

from analysis.cli.fitting.engines import engine_of, size_of
from analysis.cli.fitting.models import model_of
from analysis.cli.fitting.problem import read_problem
from analysis.cli.fitting.training import deciding, train
from analysis.cli.fitting.understood import understood, warnings_of
from analysis.cli.outcome import Outcome
from analysis.cli.run_folder import RunFolder
from analysis.tables.columns import shown
from inference.checkpoint import digest


def fit(options: Namespace) -> Outcome:
    """Fit a posterior to a user's data, and save it with the held-out part of them."""
    engine = engine_of(options)
    problem = read_problem(options)
    table = problem.table
    assert table.y is not None
    model = model_of(options, problem)
    given = {"DATA": f"of digest {digest(table.x, table.y)}"}
    given |= {} if options.test is None else {"--test": f"of digest {digest(*problem.test)}"}
    folder = RunFolder(
        options.out, deciding(options) | given, size_of(model, engine), force=options.force, resume=options.resume
    )
    print(understood(problem, model), file=sys.stderr)
    columns = {"x": table.x_names, "y": table.y_names, "classes": table.classes}
    run = folder.fit(partial(train, engine, model, problem.train, options, columns), problem.test)
    names, deviation = table.y_names, run.noise_deviation()
    noise = {} if deviation is None else dict(zip(names, deviation.expand(len(names)).tolist(), strict=True))
    deviations = [f"{name} {value:.3g}" for name, value in noise.items()]
    of_noise = [f"standard deviation of the noise: {shown(deviations)}"] if noise else []
    words = f"the run is in {options.out}; see it with: bayes-rpp report {options.out}"
    rows = {"train": len(problem.train[0]), "test": len(problem.test[0]), "dropped": table.dropped}
    values = {"run": str(options.out), "rows": rows, "columns": columns, "noise": noise}
    return Outcome("\n".join([*of_noise, words]), values | {"warnings": warnings_of(problem, model.likelihood)})
