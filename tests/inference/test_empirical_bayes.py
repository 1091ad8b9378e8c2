"""Variances chosen by the evidence, against the maximum of the exact evidence of linear models."""

import math
from dataclasses import replace

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.optimize import minimize

from bayes_rpp import RPPEMLP, SO, BayesianModel, Categorical, Gaussian, LogDensity, RPPLinear, RPPPrior, Scalar, Vector
from inference import EmpiricalBayes
from inference.evidence_ascent import EvidenceAscent
from inference.laplace import exact_target
from inference.laplace_evidence import Expansion
from inference.target import Target
from inference.variance_learning import VarianceLearning
from inference.varied_training import model_at

IN, OUT = (4 * Vector + 2 * Scalar)(SO(3)), (3 * Vector + Scalar)(SO(3))
QUICK = {"epochs": 600, "batch_size": None, "lr": 0.05, "burn_in": 20, "every": 5, "steps": 5, "estimate": False}


def linear_data(dense, count=80, noise=0.1, equivariant=1.0):
    """Drawn from the model itself, with known variances; scaling "none"."""
    layer = RPPLinear(IN, OUT, bias=False).double()
    generator = torch.Generator().manual_seed(3)
    beta = equivariant**0.5 * torch.randn(layer.basis.rank, generator=generator, dtype=torch.float64)
    weight = layer.basis.expand(beta).reshape(OUT.size, IN.size)
    weight = weight + dense**0.5 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    x = torch.randn(count, IN.size, generator=generator, dtype=torch.float64)
    return x, x @ weight.mT + noise**0.5 * torch.randn(count, OUT.size, generator=generator, dtype=torch.float64)


def linear_model(prior=None, likelihood=None):
    prior = prior or RPPPrior(0.3, 0.01, scaling="none")
    likelihood = likelihood or Gaussian(noise_variance=0.3, learned=True)
    return BayesianModel(RPPLinear(IN, OUT, bias=False).double(), prior, likelihood)


def exact_evidence(data, equivariant, dense, noise):
    """log N(vec y; 0, cov), through the eigenvalues of x x^T and projections on the equivariant maps."""
    x, y = data
    basis = RPPLinear(IN, OUT, bias=False).basis.dense()
    size = OUT.size * IN.size
    covariance = dense * torch.eye(size).double() + equivariant * basis @ basis.mT
    features = torch.einsum("bn,om->bomn", x, torch.eye(OUT.size).double()).flatten(0, 1).flatten(1)
    total = features @ covariance @ features.mT + noise * torch.eye(len(features)).double()
    cholesky = torch.linalg.cholesky(total)
    white = torch.linalg.solve_triangular(cholesky, y.reshape(-1, 1), upper=False)
    return float(-0.5 * white.square().sum() - cholesky.diagonal().log().sum() - y.numel() / 2 * math.log(2 * math.pi))


def noise_prior(noise):
    """The log density of log v under the likelihood's prior of a learned noise variance, median 0.3."""
    law = Gaussian(noise_variance=0.3, learned=True).priors(1)["noise_variance"]
    return float(law.log_prob(torch.tensor(noise))) + math.log(noise)


def test_a_linear_model_finds_the_maximum_of_the_exact_evidence():
    data = linear_data(dense=0.02)
    fitted = EmpiricalBayes(curvature="kronecker", **QUICK).fit(linear_model(), data, seed=0, progress=False)
    best = minimize(
        lambda logs: -exact_evidence(data, *np.exp(logs)) - noise_prior(math.exp(logs[2])), np.log([0.3, 0.01, 0.3])
    )
    names = ("equivariant_variance", "dense_variance", "noise_variance")
    found = [math.log(fitted.stats["variances"][name]) for name in names]
    assert np.allclose(found, best.x, atol=0.02)
    assert fitted.stats["log_evidence"] == pytest.approx(exact_evidence(data, *np.exp(found)), abs=0.05)
    prior, likelihood = fitted.model.prior, fitted.model.likelihood
    assert prior.dense_variance == pytest.approx(fitted.stats["variances"]["dense_variance"])
    assert likelihood.noise_variance == pytest.approx(fitted.stats["variances"]["noise_variance"])
    assert not likelihood.learned
    assert set(fitted.samples) == {"beta", "dense"}


def test_an_exact_symmetry_lets_the_dense_variance_vanish():
    fitted = EmpiricalBayes(curvature="symmetric", **QUICK).fit(
        linear_model(), linear_data(dense=0.0), seed=0, progress=False
    )
    assert fitted.stats["variances"]["dense_variance"] < 2e-4  # from 1e-2; the noise allows for little more
    path = [update["variances"]["dense_variance"] for update in fitted.stats["path"]]
    assert path[-1] < path[len(path) // 2] < path[0]


def test_a_broken_symmetry_makes_it_grow():
    fitted = EmpiricalBayes(curvature="symmetric", **QUICK).fit(
        linear_model(RPPPrior(0.3, 1e-4, scaling="none")), linear_data(dense=0.3), seed=0, progress=False
    )
    assert 0.15 < fitted.stats["variances"]["dense_variance"] < 0.6  # of about 160 weights that came from 0.3


def test_layers_may_have_variances_of_their_own():
    net = RPPEMLP(IN, OUT, SO(3), channels=12, layers=1).double()
    model = BayesianModel(net, RPPPrior(), Gaussian(noise_variance=0.3, learned=True))
    short = {**QUICK, "epochs": 60}
    fitted = EmpiricalBayes(per_layer=True, **short).fit(model, linear_data(dense=0.02), seed=0, progress=False)
    learned = fitted.stats["variances"]
    assert {"dense_variance[network.0.linear]", "dense_variance[network.1]"} < set(learned)
    assert learned["dense_variance[network.0.linear]"] != learned["dense_variance[network.1]"]
    assert fitted.predict(torch.randn(3, IN.size).double()).mean.shape == (3, OUT.size)


def test_a_hyperprior_counts_with_the_evidence():
    data = linear_data(dense=0.02)
    narrow = RPPPrior(0.3, dist.LogNormal(math.log(1e-3), 0.01), scaling="none")
    fitted = EmpiricalBayes(curvature="kronecker", **QUICK).fit(linear_model(narrow), data, seed=0, progress=False)
    assert fitted.stats["variances"]["dense_variance"] == pytest.approx(1e-3, rel=0.1)
    assert fitted.model.prior.dense_variance == fitted.stats["variances"]["dense_variance"]


def test_the_ascent_follows_the_slope_of_its_objective():
    """The hyperprior's part by hand: a step of gradient ascent from where the evidence is flat."""
    model = linear_model(RPPPrior(0.3, dist.LogNormal(-2.0, 1.0), scaling="none"), Gaussian(noise_variance=0.3))
    ascent = EvidenceAscent(model, lr=0.1)
    assert set(ascent.logs) == {"equivariant_variance", "dense_variance"}
    assert float(ascent.logs["dense_variance"].detach()) == pytest.approx(-2.0)
    fixed = model_at(model, ascent.values)
    target = Target(fixed, linear_data(dense=0.02))
    expansion = Expansion.at(target, target.initial([0])[0], "full")
    difference = ascent.objective(expansion) - expansion.log_evidence()
    assert float(difference.detach()) == pytest.approx(
        float(dist.Normal(-2.0, 1.0).log_prob(torch.tensor(-2.0))), abs=1e-6
    )


def test_the_same_seed_gives_the_same_bits_and_snapshots_are_kept():
    net = RPPEMLP(IN, OUT, SO(3), channels=12, layers=1)
    model = BayesianModel(net, RPPPrior(), Gaussian(noise_variance=0.3, learned=True))
    data = tuple(part.float() for part in linear_data(dense=0.02))
    engine = EmpiricalBayes(epochs=30, batch_size=20, every=5, steps=2, snapshots=2)
    first, second = (engine.fit(model, data, seed=4, progress=False) for _ in range(2))
    assert all(torch.equal(first.samples[name], second.samples[name]) for name in first.samples)
    assert first.stats["variances"] == second.stats["variances"]
    assert [snapshot.epoch for snapshot in first.history] == [10, 20]
    assert first.samples["network.0.linear.beta"].dtype == torch.float32


def test_labels_have_no_noise_to_learn():
    net = RPPEMLP(IN, 3 * Scalar(SO(3)), SO(3), channels=8, layers=1).double()
    x, y = linear_data(dense=0.02)
    short = {**QUICK, "epochs": 40}
    fitted = EmpiricalBayes(**short).fit(
        BayesianModel(net, RPPPrior(), Categorical()), (x, y[:, :3].argmax(1)), seed=0, progress=False
    )
    assert set(fitted.stats["variances"]) == {"equivariant_variance", "dense_variance"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"curvature": "kfac"}, "curvature must be one of"),
        ({"steps": 0}, "steps must be an integer of at least 1"),
        ({"passes": 0}, "passes must be an integer of at least 1"),
        ({"every": 0}, "every must be an integer of at least 1"),
        ({"evidence_lr": 0.0}, "evidence_lr must be positive"),
        ({"epochs": 20, "burn_in": 50}, "leaves no update"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        EmpiricalBayes(**settings)


def test_bad_models_are_refused():
    engine = EmpiricalBayes(**QUICK)
    with pytest.raises(TypeError, match="needs a BayesianModel"):
        engine.fit(LogDensity(lambda p: -p["z"].square().sum(), {"z": torch.zeros(2)}), None, seed=0)
    with pytest.raises(ValueError, match="one noise variance for all outputs"):
        engine.fit(linear_model(None, Gaussian(0.3, learned=True, per_output=True)), linear_data(0.1), seed=0)


def test_members_share_the_variances_that_maximise_their_mean_evidence():
    model = BayesianModel(
        RPPEMLP(IN, OUT, SO(3), channels=4 * Vector + 4 * Scalar, layers=1), RPPPrior(), Gaussian(0.1)
    )
    few = QUICK | {"epochs": 40, "steps": 1, "snapshots": 1}
    data = tuple(part.float() for part in linear_data(dense=0.02, count=30))
    fitted = EmpiricalBayes(**few, members=3).fit(model, data, seed=1, progress=False)
    each = fitted.stats["log_evidences"]
    assert len(set(each)) == 3
    assert fitted.stats["log_evidence"] == pytest.approx(sum(each) / 3, rel=1e-12)
    assert each == pytest.approx(evidences(fitted, data), rel=1e-12)
    assert {value.shape[:2] for value in fitted.samples.values()} == {(3, 1)}
    assert {value.shape[:2] for value in fitted.history[0].samples.values()} == {(3, 1)}


def test_the_gradient_over_members_is_the_mean_of_theirs():
    model = linear_model()
    joint = EvidenceAscent(model, 0.1)
    at = model_at(model, joint.values)
    targets = [Target(at, linear_data(dense)) for dense in (0.02, 0.5)]
    expansions = [Expansion.at(target, target.initial([0])[0], "layer") for target in targets]
    joint.climb(expansions, 1)
    alone = []
    for expansion in expansions:
        ascent = EvidenceAscent(model, 0.1)
        alone.append(torch.autograd.grad(ascent.objective(expansion), list(ascent.logs.values())))
    for name, first, second in zip(joint.logs, *alone, strict=True):
        assert float(joint.logs[name].grad) == pytest.approx(-0.5 * float(first + second), rel=1e-10)


def test_a_member_that_diverges_is_left_out(caplog):
    learning = VarianceLearning(
        EmpiricalBayes(**QUICK, members=3), linear_model(), linear_data(0.02), 0, torch.device("cpu")
    )
    for units in learning.stack.units.values():
        units.data[1] = math.nan
    assert learning.run(progress=False)
    kept = learning.posterior()
    assert {len(value) for value in kept.samples.values()} == {2}
    assert all(value.isfinite().all() for value in kept.samples.values())
    assert "1 of 3 members diverged" in caplog.text


def test_a_member_far_off_does_not_spoil_the_variances_of_all(caplog):
    """Its evidence overflows, or its matrix is not positive definite."""
    for curvature in ("symmetric", "layer"):
        learning = VarianceLearning(
            EmpiricalBayes(**QUICK | {"epochs": 40}, members=3, curvature=curvature),
            linear_model(),
            linear_data(0.02),
            0,
            torch.device("cpu"),
        )
        for units in learning.stack.units.values():
            units.data[1] = 1e160
        learning.run(progress=False)
        kept = learning.posterior()
        assert {len(value) for value in kept.samples.values()} == {2}
        assert all(1e-4 < value < 10 for value in kept.stats["variances"].values())
        assert math.isfinite(kept.stats["log_evidence"])


def test_weights_begin_no_wider_than_the_variances_that_they_are_to_have():
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


def test_of_a_failed_second_pass_the_first_is_kept(monkeypatch, caplog):
    model, data = linear_model(), linear_data(dense=0.02)
    short, run = QUICK | {"epochs": 40}, VarianceLearning.run
    first = EmpiricalBayes(**short).fit(model, data, seed=0, progress=False)
    runs = []

    def failing(self, progress):
        runs.append(self)
        if len(runs) == 2:
            raise RuntimeError("the training diverged")
        return run(self, progress)

    monkeypatch.setattr(VarianceLearning, "run", failing)
    kept = EmpiricalBayes(**short, passes=3).fit(model, data, seed=0, progress=False)
    assert kept.stats["variances"] == first.stats["variances"]
    assert "keeping what pass 1 of 3 has trained" in caplog.text


def test_a_second_pass_begins_with_the_variances_of_the_first_and_with_the_weights_of_the_model():
    """As if the model had come with them, but for the noise, which starts anew."""
    net = RPPEMLP(IN, OUT, SO(3), channels=4 * Vector + 4 * Scalar, layers=1)
    model, data = BayesianModel(net, RPPPrior(), Gaussian(0.3, learned=True)), linear_data(dense=0.0)
    data = tuple(part.float() for part in data)
    engine = EmpiricalBayes(epochs=30, batch_size=20, every=5, steps=4, per_layer=True)
    first = engine.fit(model, data, seed=4, progress=False)
    twice = replace(engine, passes=2).fit(model, data, seed=4, progress=False)
    prior = first.bayesian_model.prior
    again = engine.fit(BayesianModel(net, prior, model.likelihood), data, seed=4, progress=False)
    for name, value in again.samples.items():
        torch.testing.assert_close(twice.samples[name], value, rtol=1e-4, atol=1e-6)
    assert twice.stats["variances"] == pytest.approx(again.stats["variances"], rel=1e-4)
    assert twice.stats["variances"] != first.stats["variances"]
    updates = twice.stats["path"]
    assert [update["pass"] for update in updates] == [0, 0, 0, 1, 1, 1]
    assert [update["variances"] for update in updates[:3]] == [update["variances"] for update in first.stats["path"]]


def test_of_an_interrupted_second_pass_the_first_is_kept(monkeypatch):
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
    assert epochs == [20, 25, 30, 35, 20, 25, 30]
    assert kept.stats["variances"] == first.stats["variances"]
    assert all(torch.equal(kept.samples[name], value) for name, value in first.samples.items())


def evidences(posterior, data):
    """From the returned weights, under the returned variances."""
    target = exact_target(posterior.bayesian_model, data, 1.0, torch.device("cpu"))
    with torch.no_grad():
        return [
            float(Expansion.at(target, z, "symmetric").log_evidence())
            for z in target.latest(posterior, len(posterior.stats["log_evidences"]))
        ]
