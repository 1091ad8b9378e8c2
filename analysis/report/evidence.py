"""Whether the training data of a run support its group exactly, by evidence."""

from __future__ import annotations

from typing import Any

from analysis.comparison.compare_groups import SMALL, GroupComparison, compare_groups
from analysis.report.run import Run
from bayes_rpp import Categorical, Gaussian, Standardizer, Trivial

_FAR = 2  # times the mean square error


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
    found = compare_groups(network.rep_in, network.rep_out, groups, data, (run.x, run.y), engine=SMALL)
    return GroupComparison(found.comparison, (*found.verdict, *_beside(run, found)))


def _beside(run: Run, found: GroupComparison) -> list[str]:
    """Whether the run predicts much better than the small networks, or much worse."""
    if not run.y.is_floating_point():
        return []
    assert run.posterior.data is not None
    network: Any = run.posterior.bayesian_model.network
    outputs = Standardizer.fit(run.posterior.data[1], network.rep_out, "y")
    mean = run.posterior.predict(run.x, keep_samples=False).mean
    own = float((outputs(mean) - outputs(run.y)).square().mean())
    small = float(found.comparison.dataset.test_mse.min())
    both = f"(a mean square error of {own:.2g}, and {small:.2g} of theirs, where a constant has 1)"
    if own < small / _FAR:
        return [f"This run predicts far better than these small networks do {both}: they may be too small to tell."]
    if small < own / _FAR:
        return [f"One of these small networks predicts far better than this run {both}: it has learned too little."]
    return []
