"""The evidence of models whose variances were learned, against the integral on a grid."""

import math
from dataclasses import replace

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.special import logsumexp

from analysis import compare
from analysis.evidence.integrated import integrated_evidence
from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, RPPPrior, Scalar, Trivial, Vector
from inference import EmpiricalBayes, Posterior
from inference.exact.linear_network import linear_gaussian
from inference.laplace import find_mode as mode_search
from tests.seeds import shifted

IN, OUT = 2 * Vector + Scalar, Vector
LEARNING = EmpiricalBayes(epochs=400, batch_size=None, lr=0.1, curvature="full", refinements=20)


def integrated(model, chosen, data, width):
    """log of the integral of the exact evidence over the logarithms of variances with hyperpriors, on a grid."""
    fitted = BayesianModel(
        model.network,
        model.prior.with_variances({k: v for k, v in chosen.items() if k != "noise_variance"}),
        Gaussian(0.25),
    )
    line, _ = linear_gaussian(fitted, data)
    laws, priors = model.prior.parameter_priors(model.network), {**model.hyperpriors, **model.likelihood.priors(3)}
    widths = {name: 1.0 if name == "noise_variance" else width for name in chosen}
    grids = [math.log(v) + widths[name] * np.linspace(-1, 1, 25) for name, v in chosen.items()]
    values = []
    for logs in np.stack(np.meshgrid(*grids, indexing="ij"), -1).reshape(-1, len(grids)):
        at = {name: torch.tensor(log).double().exp() for name, log in zip(chosen, logs, strict=True)}
        known = replace(line, noise=torch.ones_like(line.noise) * at.get("noise_variance", 0.25))
        density = sum(float(priors[name].log_prob(v)) + float(v.log()) for name, v in at.items())
        values.append(float(known.log_evidence({name: law.at(at) for name, law in laws.items()})) + density)
    return logsumexp(values) + sum(math.log(grid[1] - grid[0]) for grid in grids)


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("truth", "likelihood", "reps", "width"),
    [
        ("SO2eR3", Gaussian(0.3, learned=True), (IN, OUT), 8.0),
        ("Trivial(3)", Gaussian(0.25), (6 * Vector, 4 * Vector), 1.5),
    ],
)
def test_the_evidence_is_integrated_over_the_variances_that_were_chosen(
    truth, likelihood, reps, width, candidates, drawn_from
):
    """Over a variance and the noise, and over two variances, each of 24 coordinates or more, that data determine."""
    data = drawn_from(candidates(reps=reps)[truth], 40, seed=shifted(1))
    model = candidates(RPPPrior(dist.LogNormal(0.0, 2.0), dist.LogNormal(-1.0, 2.0)), likelihood, reps=reps)[truth]
    found = compare({truth: model}, data, engine=LEARNING, seed=shifted(), progress=False)
    posterior = found.posteriors[truth]
    chosen = posterior.stats["variances"]
    value = float(found.dataset.log_evidence[0])
    assert len(chosen) == 2
    assert found.warnings == ()
    assert value == pytest.approx(integrated(model, chosen, data, width), abs=0.1)
    assert value < posterior.stats["log_evidence"] - 1


@pytest.mark.statistical
def test_a_variance_without_hyperprior_costs_nothing_and_is_warned_of(drawn_from, candidates):
    """An exact symmetry: with a dense variance that may vanish the residual model is as good, with a prior it loses."""
    both, data = [SO(3), Trivial(3)], drawn_from(candidates()["SO(3)"], 640, seed=shifted(1))
    free, proper = (
        compare(candidates(prior, groups=both), data, engine=LEARNING, seed=shifted(), progress=False)
        for prior in (RPPPrior(1.0, 1e-5), None)
    )
    assert free.dataset.log_bayes_factor.sel(model="Trivial(3)") > -0.5
    assert proper.dataset.log_bayes_factor.sel(model="Trivial(3)") < -1
    assert any(
        w.startswith("Trivial(3): equivariant_variance, dense_variance has no hyperprior") for w in free.warnings
    )
    assert not any("hyperprior" in w for w in proper.warnings)
    assert free.dataset.attrs["evidence"] == "Laplace, full, at the best variances"


@pytest.mark.statistical
def test_of_several_members_the_one_with_the_largest_evidence_counts(symmetric, monkeypatch):
    """Of a network, whose members end in different optima; in whatever order they come."""
    monkeypatch.setitem(mode_search._BUDGET, "diagonal", (1, 20))  # what is found depends on the start, mode or not
    network = RPPEMLP(IN(SO(3)), OUT(SO(3)), SO(3), channels=4 * Vector + 4 * Scalar, layers=1).double()
    model = BayesianModel(network, RPPPrior(), Gaussian(0.25))
    engine = EmpiricalBayes(members=3, epochs=30, lr=0.03)
    found = engine.fit(model, symmetric, seed=shifted(), progress=False)
    each = found.stats["log_evidences"]
    values = []
    for order in ([0, 1, 2], [2, 0, 1], [each.index(max(each))]):
        samples = {name: value[order] for name, value in found.samples.items()}
        stats = found.stats | {"log_evidences": [each[member] for member in order]}
        posterior = Posterior(found.model, samples, stats, data=found.data)
        values.append(integrated_evidence(model, posterior, engine, "cpu").value)
    assert values == pytest.approx([values[0]] * 3, abs=1e-9)
    worst = each.index(min(each))
    samples = {name: value[worst : worst + 1] for name, value in found.samples.items()}
    alone = Posterior(found.model, samples, found.stats | {"log_evidences": [0.0]}, data=found.data)
    assert integrated_evidence(model, alone, engine, "cpu").value != pytest.approx(values[0], abs=1e-3)


@pytest.mark.statistical
def test_learning_that_stops_early_is_reported(symmetric, candidates):
    hasty = replace(LEARNING, epochs=12, refinements=0)
    models = candidates(None, Gaussian(30.0, learned=True), [SO(3)])  # a hundred times the noise that there is
    found = compare(models, symmetric, engine=hasty, seed=shifted(), progress=False)
    assert any("below the maximum of the evidence" in warning for warning in found.warnings)
