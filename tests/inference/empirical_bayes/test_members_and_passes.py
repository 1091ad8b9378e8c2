"""Several members that share their variances, and passes from fresh weights."""

import math
from dataclasses import replace

import pytest
import torch

from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, RPPPrior, Scalar, Vector
from bayes_rpp.known_variances import model_at
from inference import EmpiricalBayes
from inference.density.unconstrained import UnconstrainedDensity, float64_density
from inference.empirical_bayes.evidence_ascent import EvidenceAscent
from inference.empirical_bayes.learning import VarianceLearning
from inference.laplace.expansion import Expansion
from tests.seeds import shifted

IN, OUT = (4 * Vector + 2 * Scalar)(SO(3)), (3 * Vector + Scalar)(SO(3))
QUICK = {"epochs": 600, "batch_size": None, "lr": 0.05}


def test_members_share_the_variances_that_maximise_their_mean_evidence(linear_data):
    model = BayesianModel(
        RPPEMLP(IN, OUT, SO(3), channels=4 * Vector + 4 * Scalar, layers=1), RPPPrior(), Gaussian(0.1)
    )
    few = QUICK | {"epochs": 40, "snapshots": 1}
    data = tuple(part.float() for part in linear_data(dense=0.02, count=30))
    fitted = EmpiricalBayes(**few, members=3).fit(model, data, seed=1, progress=False)
    each = fitted.stats["log_evidences"]
    assert len(set(each)) == 3
    assert fitted.stats["log_evidence"] == pytest.approx(sum(each) / 3, rel=1e-12)
    assert each == pytest.approx(evidences(fitted, data), rel=1e-12)
    assert {value.shape[:2] for value in fitted.samples.values()} == {(3, 1)}
    assert {value.shape[:2] for value in fitted.history[0].samples.values()} == {(3, 1)}


def test_the_gradient_over_members_is_the_mean_of_theirs(linear_data, linear_model):
    model = linear_model()
    joint = EvidenceAscent(model)
    at = model_at(model, joint.values)
    densities = [UnconstrainedDensity(at, linear_data(dense)) for dense in (0.02, 0.5)]
    expansions = [Expansion.at(density, density.initial([0])[0], "layer") for density in densities]
    joint.adam_steps(expansions, 1, 0.1)
    alone = []
    for expansion in expansions:
        ascent = EvidenceAscent(model)
        alone.append(torch.autograd.grad(ascent.objective(expansion), list(ascent.logs.values())))
    for name, first, second in zip(joint.logs, *alone, strict=True):
        assert float(joint.logs[name].grad) == pytest.approx(-0.5 * float(first + second), rel=1e-10)


def test_a_member_that_diverges_is_left_out(caplog, linear_data, linear_model):
    learning = VarianceLearning(
        EmpiricalBayes(**QUICK, members=3), linear_model(), linear_data(0.02), 0, torch.device("cpu")
    )
    for units in learning.stack.coordinates.values():
        units.data[1] = math.nan
    assert learning.run(progress=False)
    kept = learning.posterior()
    assert {len(value) for value in kept.samples.values()} == {2}
    assert all(value.isfinite().all() for value in kept.samples.values())
    assert "1 of 3 members diverged" in caplog.text


@pytest.mark.statistical
def test_a_member_far_off_does_not_spoil_the_variances_of_all(caplog, linear_data, linear_model):
    """Its evidence overflows, or its matrix is not positive definite."""
    for curvature in ("symmetric", "layer"):
        learning = VarianceLearning(
            EmpiricalBayes(**QUICK | {"epochs": 40}, members=3, curvature=curvature),
            linear_model(),
            linear_data(0.02),
            shifted(),
            torch.device("cpu"),
        )
        for units in learning.stack.coordinates.values():
            units.data[1] = 1e160
        learning.run(progress=False)
        kept = learning.posterior()
        assert {len(value) for value in kept.samples.values()} == {2}
        assert all(1e-4 < value < 10 for value in kept.stats["variances"].values())
        assert math.isfinite(kept.stats["log_evidence"])


def test_weights_begin_no_wider_than_the_variances_that_they_are_to_have(linear_data):
    net = RPPEMLP(IN, OUT, SO(3), channels=12, layers=1)
    model = BayesianModel(net, RPPPrior(), Gaussian(0.3))
    data = tuple(part.float() for part in linear_data(dense=0.0))
    engine, narrow = EmpiricalBayes(epochs=20), {"equivariant_variance": 1.0, "dense_variance": 1e-10}
    weights = {}
    for values in ({}, narrow):
        learning = VarianceLearning(engine, model, data, 0, torch.device("cpu"), values)
        weights[bool(values)] = learning.stack.params()["network.0.linear.dense"]
    prior = RPPPrior(**narrow).distributions(net)["network.0.linear.dense"]
    assert float(weights[True].square().mean()) == pytest.approx(float(prior.dense_variance), rel=1e-5)
    assert float(weights[False].square().mean()) > 100 * float(prior.dense_variance)


def test_of_a_failed_second_pass_the_first_is_kept(monkeypatch, caplog, linear_data, linear_model):
    model, data = linear_model(), linear_data(dense=0.02)
    short, run = QUICK | {"epochs": 40}, VarianceLearning.run
    first = EmpiricalBayes(**short).fit(model, data, seed=0, progress=False)
    runs = []

    def failing(self, *arguments):
        runs.append(self)
        if len(runs) == 2:
            raise RuntimeError("the training diverged")
        return run(self, *arguments)

    monkeypatch.setattr(VarianceLearning, "run", failing)
    kept = EmpiricalBayes(**short, passes=3).fit(model, data, seed=0, progress=False)
    assert kept.stats["variances"] == first.stats["variances"]
    assert "keeping what pass 1 of 3 has trained" in caplog.text


@pytest.mark.statistical
def test_a_second_pass_begins_with_the_variances_of_the_first_and_with_the_weights_of_the_model(linear_data):
    """As if the model had come with them, but for the noise, which starts anew."""
    net = RPPEMLP(IN, OUT, SO(3), channels=4 * Vector + 4 * Scalar, layers=1)
    model, data = BayesianModel(net, RPPPrior(), Gaussian(0.3, learned=True)), linear_data(dense=0.0)
    data = tuple(part.float() for part in data)
    engine = EmpiricalBayes(epochs=30, batch_size=20, per_layer=True)
    first = engine.fit(model, data, seed=shifted(4), progress=False)
    twice = replace(engine, passes=2).fit(model, data, seed=shifted(4), progress=False)
    prior = first.bayesian_model.prior
    again = engine.fit(BayesianModel(net, prior, model.likelihood), data, seed=shifted(4), progress=False)
    for name, value in again.samples.items():
        torch.testing.assert_close(twice.samples[name], value, rtol=1e-4, atol=1e-6)
    assert twice.stats["variances"] == pytest.approx(again.stats["variances"], rel=1e-4)
    assert twice.stats["variances"] != first.stats["variances"]
    updates = twice.stats["path"]
    assert [update["pass"] for update in updates] == [0, 0, 1, 1]
    assert [update["variances"] for update in updates[:2]] == [update["variances"] for update in first.stats["path"]]


def test_of_an_interrupted_second_pass_the_first_is_kept(monkeypatch, linear_data, linear_model):
    model, data = linear_model(), linear_data(dense=0.02)
    short = QUICK | {"epochs": 40}
    first = EmpiricalBayes(**short).fit(model, data, seed=0, progress=False)
    update, epochs = VarianceLearning._update, []

    def interrupted(self, epoch):
        epochs.append(epoch)
        if epochs.count(30) == 2:
            raise KeyboardInterrupt
        update(self, epoch)

    monkeypatch.setattr(VarianceLearning, "_update", interrupted)
    kept = EmpiricalBayes(**short, passes=3).fit(model, data, seed=0, progress=False)
    assert epochs == [20, 30, 20, 30]
    assert (kept.interrupted, first.interrupted) == (True, False)
    assert kept.stats["variances"] == first.stats["variances"]
    assert all(torch.equal(kept.samples[name], value) for name, value in first.samples.items())


def evidences(posterior, data):
    """From the returned weights, under the returned variances."""
    density = float64_density(posterior.bayesian_model, data, 1.0, torch.device("cpu"))
    with torch.no_grad():
        return [
            float(Expansion.at(density, z, "symmetric").log_evidence())
            for z in density.latest(posterior, len(posterior.stats["log_evidences"]))
        ]
