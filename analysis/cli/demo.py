"""What ``bayes-rpp demo`` does."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from functools import partial

import torch

from analysis.cli.fitting.engines import engine_of
from analysis.cli.fitting.training import deciding, train
from analysis.cli.outcome import Outcome
from analysis.cli.report import outcome_of
from analysis.cli.run_folder import RunFolder
from analysis.report.files import check_report_replaceable
from analysis.report.write_report import write_report
from analysis.symmetry.equivariance import equivariance_error
from bayes_rpp import RPPEMLP, BayesianModel, Gaussian, NormalizedNetwork, RPPPrior
from bayes_rpp.datasets import inertia
from inference.atomic_write import check_writable


def demo(options: Namespace) -> Outcome:
    """Fit ensembles to two kinds of inertia data, symmetric and not, and report on both."""
    engine, runs, reference = engine_of(options, snapshots=max(0, min(4, options.epochs - 1))), {}, {}
    cases = {"inertia": 0.0, "modified inertia": 0.3}
    check_writable(options.out)
    check_report_replaceable(options.out)
    rules = {"force": options.force, "resume": None, "reported_in": (options.out,)}
    folders = {
        label: RunFolder(options.out / label.replace(" ", "-"), deciding(options), 0, **rules) for label in cases
    }
    for label, breaking in cases.items():
        print(f"fitting {options.members} members to {label} ...", file=sys.stderr)
        data = inertia(train=1000, test=1000, symmetry_breaking=breaking, seed=options.seed)
        inner = RPPEMLP(data.rep_in, data.rep_out, data.group, channels=options.channels, layers=options.layers)
        network = NormalizedNetwork.fit(inner, *data.train)
        model = BayesianModel(network, RPPPrior(), Gaussian(noise_variance=0.2))
        runs[label] = folders[label].fit(partial(train, engine, model, data.train, options, {}), data.test)
        if breaking:
            offset = network.outputs.mean  # reports are about it, see Run.centred
            function = partial(_about, data.function, offset)
            true = equivariance_error(function, data.test.x, rep_in=data.rep_in, rep_out=data.rep_out)
            reference[label] = float(true)
    return outcome_of(*write_report(runs, options.out, reference), options.out, reference)


def _about(function: Callable[[torch.Tensor], torch.Tensor], offset: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return function(x) - offset.to(x)
