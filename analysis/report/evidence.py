"""Whether the training data of a run support its group exactly, by evidence."""

from __future__ import annotations

from typing import Any

from analysis.comparison.compare_groups import SMALL, GroupComparison, compare_groups
from analysis.report.run import Run
from bayes_rpp import Categorical, Gaussian, Trivial


def check_has_evidence(run: Run) -> None:
    """Raise ValueError if there is nothing whose evidence could be compared."""
    model = run.posterior.bayesian_model
    network: Any = model.network
    if isinstance(network.group, Trivial):
        raise ValueError("--evidence compares the run's group with no exact symmetry, and this run was fitted without.")
    if run.posterior.data is None:
        raise ValueError("--evidence needs the training data, and this run was saved without them; fit it again.")
    if not isinstance(model.likelihood, Gaussian | Categorical):
        name = type(model.likelihood).__name__
        raise ValueError(f"--evidence is for runs with Gaussian noise or labels, and this one has {name}.")


def evidence_of(run: Run) -> GroupComparison:
    """The run's group, exactly, beside a network that prefers it; both small, and fitted to the run's training data."""
    network: Any = run.posterior.bayesian_model.network
    groups = [network.group, Trivial(network.group.d)]
    data = run.posterior.data
    assert data is not None
    return compare_groups(network.rep_in, network.rep_out, groups, data, (run.x, run.y), engine=SMALL)
