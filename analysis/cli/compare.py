"""What ``bayes-rpp compare`` does."""

from __future__ import annotations

import logging
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import torch

from analysis.cli.fitting.log_levels import log_levels
from analysis.cli.fitting.problem import read_problem
from analysis.cli.outcome import Outcome
from analysis.cli.run_folder import part_to_report
from analysis.comparison.aligned import by_name
from analysis.comparison.compare_groups import SMALL, compare_groups
from analysis.comparison.held_out import compare_posteriors
from analysis.report.run import Run
from bayes_rpp import Group, Trivial, parse_group


def compare(options: Namespace) -> Outcome:
    """Which group the evidence of a table supports; or which of several runs predicts best."""
    for path in options.paths:
        if not path.exists():
            raise FileNotFoundError(f"there is no table or run {path}.")
    folders = [path for path in options.paths if path.is_dir()]
    if folders and len(folders) == len(options.paths):
        return _of_runs(options)
    if len(options.paths) > 1:
        raise ValueError(f"compare takes one table with --groups, or runs, got {', '.join(map(str, options.paths))}.")
    return _of_groups(options)


def _of_runs(options: Namespace) -> Outcome:
    if options.groups:
        raise ValueError("--groups is for a table; runs have their groups.")
    if len(options.paths) < 2:
        raise ValueError("compare takes two runs or more; or one table, with --groups.")
    if len({path.resolve() for path in options.paths}) < len(options.paths):
        raise ValueError("compare takes different runs, and one is named twice.")
    runs = {_name(path, options.paths): Run.load(part_to_report(path)) for path in options.paths}
    first = next(iter(runs.values()))
    for name, run in list(runs.items())[1:]:
        if not (torch.equal(run.x, first.x) and torch.equal(run.y, first.y)):
            raise ValueError(
                f"{name} and {next(iter(runs))} were judged by different rows: fit them to the same DATA with the same "
                "columns, --seed and --test-fraction, or with one --test FILE."
            )
    found = compare_posteriors({name: run.posterior for name, run in runs.items()}, (first.x, first.y))
    values = {"posteriors": by_name(found.dataset), "verdict": list(found.verdict)}
    return Outcome(f"{len(first.x)} held-out rows\n{found}", values)


def _name(path: Path, paths: list[Path]) -> str:
    """A folder's own name, unless another one has it."""
    own = path.resolve().name
    return own if [other.resolve().name for other in paths].count(own) == 1 else str(path)


def _of_groups(options: Namespace) -> Outcome:
    if not options.groups:
        raise ValueError('a table needs --groups to compare, such as --groups "O(3)" none; runs need none.')
    if len(options.groups) < 2 or options.groups[0].lower() == "none":
        raise ValueError(
            f'--groups takes two or more, the largest first, such as "O(3)" none; got {" ".join(options.groups)}.'
        )
    if options.likelihood not in (None, "gaussian", "categorical"):
        raise ValueError(f"compare takes --likelihood gaussian or categorical, got {options.likelihood}.")
    options.group, options.data = options.groups[0], options.paths[0]
    problem = read_problem(options)
    groups = [_group(text, problem.group) for text in options.groups]
    rows = f"{len(problem.train[0])} rows of {problem.table.path}"
    print(f"fitting {len(groups)} models to {rows} ...", file=sys.stderr)
    engine = replace(
        SMALL, members=options.members, epochs=options.epochs, batch_size=options.batch_size, lr=options.lr
    )
    with log_levels({"analysis.comparison.compare": logging.ERROR}):  # its warnings are in the outcome
        found = compare_groups(
            problem.rep_in,
            problem.rep_out,
            groups,
            problem.train,
            problem.test,
            channels=options.channels,
            layers=options.layers,
            engine=engine,
            seed=options.seed,
            device=options.device,
        )
    units = [] if problem.is_of_labels else ["Outputs are in units of their scales: an MSE of 1 is that of a constant."]
    words = "\n".join([str(replace(found.comparison, warnings=())), *units, *found.verdict])
    return Outcome(words, {"models": found.values, "verdict": list(found.verdict)})


def _group(text: str, first: Group) -> Group:
    return Trivial(first.d) if text.lower() == "none" else parse_group(text)
