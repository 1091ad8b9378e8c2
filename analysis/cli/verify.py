"""What ``bayes-rpp verify`` does."""

from __future__ import annotations

from argparse import Namespace

from analysis.cli.fitting.problem import read_problem
from analysis.cli.run_folder import part_to_report
from analysis.report.run import Run
from analysis.verification.verify_symmetry import verify_symmetry
from bayes_rpp import Rep


def verify(options: Namespace) -> None:
    """Say which generators of the group are symmetries of a table, or of the mean prediction of a run; and if one is
    not, which sign, swap or block of the representations was mistaken.
    """
    if options.data.is_dir():
        if any(value is not None for value in (options.group, options.rep_in, options.rep_out)):
            raise ValueError("a run has a group and representations: give them with a table only.")
        run = Run.load(part_to_report(options.data))
        posterior, network = run.posterior, run.posterior.bayesian_model.network
        rep_in, rep_out = network.rep_in, network.rep_out
        assert isinstance(rep_in, Rep)
        assert isinstance(rep_out, Rep)
        print(verify_symmetry(lambda x: posterior.outputs(x).mean((0, 1)), run.x, rep_in=rep_in, rep_out=rep_out))
        return
    if options.group is None:
        raise ValueError("a table needs --group, --rep-in and --rep-out: what is to be verified.")
    problem = read_problem(options)
    if problem.is_of_labels:
        raise ValueError("labels have no representation to verify: fit them, and verify the run.")
    print(verify_symmetry(problem.train, rep_in=problem.rep_in, rep_out=problem.rep_out, seed=options.seed))
