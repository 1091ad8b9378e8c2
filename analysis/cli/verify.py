"""What ``bayes-rpp verify`` does."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict

from analysis.cli.fitting.problem import read_problem
from analysis.cli.outcome import Outcome
from analysis.cli.run_folder import part_to_report
from analysis.report.run import Run
from analysis.verification.report import SymmetryReport
from analysis.verification.verify_symmetry import verify_symmetry
from bayes_rpp import Rep


def verify(options: Namespace) -> Outcome:
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
        mean = lambda x: posterior.outputs(x).mean((0, 1))  # noqa: E731
        return _outcome(verify_symmetry(mean, run.x, rep_in=rep_in, rep_out=rep_out))
    if options.group is None:
        raise ValueError("a table needs --group, --rep-in and --rep-out: what is to be verified.")
    problem = read_problem(options)
    if problem.is_of_labels:
        raise ValueError("labels have no representation to verify: fit them, and verify the run.")
    return _outcome(verify_symmetry(problem.train, rep_in=problem.rep_in, rep_out=problem.rep_out, seed=options.seed))


def _outcome(report: SymmetryReport) -> Outcome:
    values = {
        "generators": [asdict(generator) for generator in report.generators],
        "suspects": [asdict(suspect) for suspect in report.suspects],
        "floor": report.floor,
        "surrogate_error": report.surrogate_error,
        "untried": report.untried,
        "rep_in": str(report.rep_in),
        "rep_out": str(report.rep_out),
        "group": str(report.rep_in.group),
        "points": report.points,
    }
    return Outcome(str(report), values)
