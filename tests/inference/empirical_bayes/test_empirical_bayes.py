"""Variances chosen by the evidence, against the maximum of the exact evidence of linear models."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch

from bayes_rpp import RPPEMLP, SO, BayesianModel, Categorical, Gaussian, LogDensity, RPPPrior, Scalar, Vector
from bayes_rpp.known_variances import model_at
from inference import EmpiricalBayes
from inference.density.unconstrained import UnconstrainedDensity
from inference.empirical_bayes.evidence_ascent import EvidenceAscent
from inference.laplace.expansion import Expansion
from tests.seeds import shifted

IN, OUT = (4 * Vector + 2 * Scalar)(SO(3)), (3 * Vector + Scalar)(SO(3))
QUICK = {"epochs": 600, "batch_size": None, "lr": 0.05}


@pytest.mark.statistical
def test_a_linear_model_finds_the_maximum_of_the_exact_evidence(broken, linear_model, exact_evidence, best_logs):
    fitted = EmpiricalBayes(curvature="kronecker", **QUICK).fit(linear_model(), broken, seed=shifted(), progress=False)
    names = ("equivariant_variance", "dense_variance", "noise_variance")
    found = [math.log(fitted.stats["variances"][name]) for name in names]
    assert np.allclose(found, best_logs, atol=0.02)
    assert fitted.stats["log_evidence"] == pytest.approx(exact_evidence(broken, *np.exp(found)), abs=0.05)
    prior, likelihood = fitted.model.prior, fitted.model.likelihood
    assert prior.dense_variance == pytest.approx(fitted.stats["variances"]["dense_variance"])
    assert likelihood.noise_variance == pytest.approx(fitted.stats["variances"]["noise_variance"])
    assert not likelihood.learned
    assert set(fitted.samples) == {"beta", "dense"}


@pytest.mark.statistical
def test_the_dense_variance_falls_and_grows_to_the_maximum_of_the_exact_evidence(
    linear_data, linear_model, log_posterior, best_of
):
    """From 1e-2 with an exact symmetry, where 2e-4 explains the data, and from 1e-4 with a broken one, to 0.28."""
    for truth, start in ((0.0, 1e-2), (0.3, 1e-4)):
        data = linear_data(dense=truth)
        best = best_of(data, (0.7, max(truth, 1e-4), 0.1))
        model = linear_model(RPPPrior(0.3, start, scaling="none"))
        fitted = EmpiricalBayes(curvature="full", refinements=10, **QUICK).fit(
            model, data, seed=shifted(), progress=False
        )
        names = ("equivariant_variance", "dense_variance", "noise_variance")
        found = [math.log(fitted.stats["variances"][name]) for name in names]
        assert log_posterior(data, best) - log_posterior(data, found) < 0.1, truth
        assert abs(math.log(start) - found[1]) > 10 * abs(best[1] - found[1]), truth


def test_layers_may_have_variances_of_their_own(linear_data):
    net = RPPEMLP(IN, OUT, SO(3), channels=12, layers=1).double()
    model = BayesianModel(net, RPPPrior(), Gaussian(noise_variance=0.3, learned=True))
    short = {**QUICK, "epochs": 60}
    fitted = EmpiricalBayes(per_layer=True, **short).fit(model, linear_data(dense=0.02), seed=0, progress=False)
    learned = fitted.stats["variances"]
    assert {"dense_variance[network.0.linear]", "dense_variance[network.1]"} < set(learned)
    assert learned["dense_variance[network.0.linear]"] != learned["dense_variance[network.1]"]
    assert fitted.predict(torch.randn(3, IN.size).double()).mean.shape == (3, OUT.size)


@pytest.mark.statistical
def test_a_hyperprior_counts_with_the_evidence(linear_data, linear_model):
    data = linear_data(dense=0.02)
    narrow = RPPPrior(0.3, dist.LogNormal(math.log(1e-3), 0.01), scaling="none")
    fitted = EmpiricalBayes(curvature="kronecker", **QUICK).fit(
        linear_model(narrow), data, seed=shifted(), progress=False
    )
    assert fitted.stats["variances"]["dense_variance"] == pytest.approx(1e-3, rel=0.1)
    assert fitted.model.prior.dense_variance == fitted.stats["variances"]["dense_variance"]


def test_the_ascent_follows_the_slope_of_its_objective(linear_data, linear_model):
    """The hyperprior's part by hand: a step of gradient ascent from where the evidence is flat."""
    model = linear_model(RPPPrior(0.3, dist.LogNormal(-2.0, 1.0), scaling="none"), Gaussian(noise_variance=0.3))
    ascent = EvidenceAscent(model)
    assert set(ascent.logs) == {"equivariant_variance", "dense_variance"}
    assert float(ascent.logs["dense_variance"].detach()) == pytest.approx(-2.0)
    fixed = model_at(model, ascent.values)
    density = UnconstrainedDensity(fixed, linear_data(dense=0.02))
    expansion = Expansion.at(density, density.initial([0])[0], "full")
    difference = ascent.objective(expansion) - expansion.log_evidence()
    assert float(difference.detach()) == pytest.approx(
        float(dist.Normal(-2.0, 1.0).log_prob(torch.tensor(-2.0))), abs=1e-6
    )


def test_the_same_seed_gives_the_same_bits_and_snapshots_are_kept(linear_data):
    net = RPPEMLP(IN, OUT, SO(3), channels=12, layers=1)
    model = BayesianModel(net, RPPPrior(), Gaussian(noise_variance=0.3, learned=True))
    data = tuple(part.float() for part in linear_data(dense=0.02))
    engine = EmpiricalBayes(epochs=30, batch_size=20, snapshots=2)
    first, second = (engine.fit(model, data, seed=4, progress=False) for _ in range(2))
    assert all(torch.equal(first.samples[name], second.samples[name]) for name in first.samples)
    assert first.stats["variances"] == second.stats["variances"]
    assert [snapshot.epoch for snapshot in first.history] == [10, 20]
    assert first.samples["network.0.linear.beta"].dtype == torch.float32


def test_labels_have_no_noise_to_learn(linear_data):
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
        ({"passes": 0}, "passes must be an integer of at least 1"),
        ({"refinements": -1}, "refinements must be an integer of at least 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        EmpiricalBayes(**settings)


def test_bad_models_are_refused(linear_data, linear_model):
    engine = EmpiricalBayes(**QUICK)
    with pytest.raises(TypeError, match="needs a BayesianModel"):
        engine.fit(LogDensity(lambda p: -p["z"].square().sum(), {"z": torch.zeros(2)}), None, seed=0)
    with pytest.raises(ValueError, match="one noise variance for all outputs"):
        engine.fit(linear_model(None, Gaussian(0.3, learned=True, per_output=True)), linear_data(0.1), seed=0)
