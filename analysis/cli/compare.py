"""What ``bayes-rpp compare`` does."""

from __future__ import annotations

import logging
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from analysis.cli.fitting.log_levels import log_levels
from analysis.cli.fitting.problem import Problem, read_problem
from analysis.cli.outcome import Outcome
from analysis.cli.run_folder import part_to_report
from analysis.comparison.compare import compare as compare_models
from analysis.comparison.held_out import compare_posteriors
from analysis.comparison.symmetry_candidates import symmetry_candidates
from analysis.report.run import Run
from bayes_rpp import BayesianModel, Categorical, Gaussian, Group, NormalizedNetwork, Standardizer, Trivial, parse_group
from inference import EmpiricalBayes, Posterior
from inference.data import Pair

_NOISE = 0.01  # of the standardised outputs, where the search begins
_REFINEMENTS = 20


class _UntilInterrupted(EmpiricalBayes):
    """An interrupt ends the comparison, and not one of its fits alone."""

    def fit(self, *arguments: Any, **settings: Any) -> Posterior:
        posterior = super().fit(*arguments, **settings)
        if posterior.interrupted:
            raise KeyboardInterrupt("nothing is compared")
        return posterior


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
    return Outcome(f"{len(first.x)} held-out rows\n{found}", _values(found.dataset, found.verdict, "posterior"))


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
    models, train, test = _candidates(problem, groups, options)
    print(f"fitting {len(models)} models to {len(train[0])} rows of {problem.table.path} ...", file=sys.stderr)
    engine = _UntilInterrupted(
        members=options.members,
        epochs=options.epochs,
        batch_size=options.batch_size,
        lr=options.lr,
        refinements=_REFINEMENTS,
    )
    with log_levels({"analysis.comparison.compare": logging.ERROR}):  # its warnings are in the outcome
        found = compare_models(
            models, train, engine=engine, test=test, group=groups[0], seed=options.seed, device=options.device
        )
    verdict = (_verdict(found.dataset, bool(found.warnings)), *found.warnings)
    units = [] if problem.is_of_labels else ["Outputs are in units of their scales: an MSE of 1 is that of a constant."]
    words = "\n".join([str(replace(found, warnings=())), *units, *verdict])
    return Outcome(words, _values(found.dataset, verdict, "model"))


def _group(text: str, first: Group) -> Group:
    return Trivial(first.d) if text.lower() == "none" else parse_group(text)


def _candidates(
    problem: Problem, groups: list[Group], options: Namespace
) -> tuple[dict[str, BayesianModel], Pair, Pair]:
    """A model for each group, and data whose outputs are standardised: by the first group, which is the largest, so
    that all models have the same ones.
    """
    likelihood = Categorical() if problem.is_of_labels else Gaussian(_NOISE, learned=True)
    models = symmetry_candidates(
        problem.rep_in, problem.rep_out, groups, likelihood, channels=options.channels, layers=options.layers
    )
    (x, y), (test_x, test_y) = problem.train, problem.test
    if not problem.is_of_labels:
        outputs = Standardizer.fit(y, problem.rep_out, "y")
        y, test_y = outputs(y), outputs(test_y)
    inputs = Standardizer.fit(x, problem.rep_in, "x")
    wrapped = {}
    for name, model in models.items():
        network: Any = model.network
        own = Standardizer(network.rep_in, inputs.mean, inputs.scale)
        plain = Standardizer(network.rep_out, torch.zeros(problem.rep_out.size), torch.ones(problem.rep_out.size))
        label = "none" if name.startswith("Trivial") else name
        wrapped[label] = BayesianModel(NormalizedNetwork(network, own, plain), model.prior, model.likelihood)
    return wrapped, (x, y), (test_x, test_y)


def _verdict(dataset: xr.Dataset, doubted: bool) -> str:
    """The likeliest model in words."""
    order = dataset.log_evidence.values.argsort()[::-1]
    best, *others = (str(dataset.model.values[k]) for k in order)
    gaps = (float(dataset.log_evidence.max() - dataset.log_evidence.sel(model=name)) for name in others)
    against = ", ".join(f"to {_in_words(name)} by {gap:.1f} nats" for name, gap in zip(others, gaps, strict=True))
    found = f"The evidence prefers {_in_words(best)} {against}"
    return f"{found}, as far as the warnings below allow." if doubted else f"{found}."


def _in_words(name: str) -> str:
    return "no exact symmetry" if name == "none" else name


def _values(dataset: xr.Dataset, verdict: tuple[str, ...], over: str) -> dict[str, Any]:
    names = [name for name in dataset if dataset[name].notnull().any()]
    table = {str(key): {str(n): float(dataset[n].sel({over: key})) for n in names} for key in dataset[over].values}
    return {f"{over}s": table, "verdict": list(verdict)}
