"""What ``bayes-rpp fit`` does."""

from __future__ import annotations

import sys
from argparse import Namespace
from functools import partial

from analysis.cli.fitting.problem import Problem, read_problem
from analysis.cli.fitting.training import deciding, engine_of, size_of, train
from analysis.cli.fitting.understood import understood
from analysis.cli.run_folder import RunFolder
from bayes_rpp import EMLP, MLP, RPPEMLP, BayesianModel, Categorical, Gaussian, NormalizedNetwork, RPPPrior
from inference.checkpoint import digest

_NETWORKS = {"rpp": RPPEMLP, "emlp": EMLP, "mlp": MLP}


def fit(options: Namespace) -> None:
    """Fit a posterior to a user's data, and save it with the held-out part of them."""
    engine = engine_of(options, options.engine)
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
    folder.fit(partial(train, engine, model, problem.train, options, columns), problem.test)
    print(f"the run is in {options.out}; see it with: bayes-rpp report {options.out}")


def model_of(options: Namespace, problem: Problem) -> BayesianModel:
    """The network of the options between standardised data, their prior, and the likelihood."""
    network = _NETWORKS[options.network](
        problem.rep_in, problem.rep_out, problem.group, channels=options.channels, layers=options.layers
    )
    variances = {"equivariant_variance": options.equivariant_variance, "dense_variance": options.dense_variance}
    prior = RPPPrior(**{name: value for name, value in variances.items() if value is not None})
    if problem.is_of_labels:
        if options.noise_variance is not None:
            raise ValueError("--noise-variance is for numbers; labels have none.")
        return BayesianModel(NormalizedNetwork.fit(network, problem.train[0]), prior, Categorical())
    normalized = NormalizedNetwork.fit(network, *problem.train)
    noise = 1.0 if options.noise_variance is None else options.noise_variance  # see training.train
    return BayesianModel(normalized, prior, Gaussian(noise))
