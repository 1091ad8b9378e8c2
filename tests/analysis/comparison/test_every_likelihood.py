"""Sweeps, comparisons and leave-one-out with every likelihood."""

import warnings

import numpy as np
import pytest

from analysis import compare, prior_sweep
from analysis.comparison.log_score import log_scores
from analysis.evidence import loo_of
from inference import HMC, MAP, EmpiricalBayes, Laplace
from tests.arviz_versions import loo
from tests.scenarios.likelihoods import LIKELIHOODS, likelihood_model

each_likelihood = pytest.mark.parametrize("name", LIKELIHOODS)
TRAINING = {"epochs": 30, "lr": 2e-2}


def error_of(name, prediction, y):
    """The name of the error and its value, by hand."""
    if name == "Categorical":
        return "test_error", (prediction.mean.argmax(1) != y).double().mean()
    return "test_mse", (prediction.mean - y).square().mean()


@each_likelihood
def test_a_sweep_of_one_cell_is_a_fit(name):
    """The same weights as MAP finds in units of the prior, to the accuracy of training: the errors are those of it."""
    model, data = likelihood_model(name)
    found = prior_sweep(model, data, dense_variance=[0.25, 0.5], test=data, mode=MAP(**TRAINING))
    assert all(np.isfinite(values).all() for values in found.values())
    key = "test_error" if name == "Categorical" else "test_mse"
    assert {key, key.replace("test", "train")} <= set(found)
    assert set(found) & {"test_error", "test_mse"} == {key}
    np.testing.assert_allclose(found[key], found[key.replace("test", "train")])
    if name != "Gaussian, learned":  # whose noise changes on the way
        posterior = MAP(**TRAINING).fit(model, data, seed=0)
        by_hand = float(error_of(name, posterior.predict(data[0]), data[1])[1])
        assert float(found[key].sel(dense_variance=0.5)) == pytest.approx(by_hand, rel=0.2, abs=0.03)


@each_likelihood
def test_a_comparison_scores_the_predictions(name):
    model, data = likelihood_model(name)
    engine = EmpiricalBayes(**TRAINING) if LIKELIHOODS[name].parameters(3) else Laplace(draws=100, mode=MAP(**TRAINING))
    found = compare({"model": model}, data, engine=engine, test=data)
    posterior, row = found.posteriors["model"], found.dataset.sel(model="model")
    key, value = error_of(name, posterior.predict(data[0]), data[1])
    assert float(row[key]) == pytest.approx(float(value), rel=1e-6)
    scores, _ = log_scores(posterior.log_likelihood(*data))
    assert float(row.test_log_score) == pytest.approx(float(scores.mean()), rel=1e-6)
    plain = posterior.log_likelihood(*data).flatten(0, 1).logsumexp(0) - np.log(posterior.chains * posterior.draws)
    assert float(scores.mean()) == pytest.approx(float(plain.mean()), abs=0.02)
    assert np.isfinite(row.log_evidence)
    assert key.replace("test_", "test ").replace("mse", "MSE") in str(found)


@pytest.mark.parametrize("name", ["a user's", "Poisson"])
def test_leave_one_out_is_that_of_arviz(name):
    """Up to the effective draws of which the smoothing is told: here those of the likelihoods."""
    model, data = likelihood_model(name, num_data=40)
    posterior = HMC(chains=8, draws=200, warmup=100).fit(model, data, seed=0)
    found = loo_of(posterior).details["pointwise"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Estimated shape parameter", UserWarning)  # of few examples each counts
        of_arviz = loo(posterior.to_arviz())
    smooth = of_arviz.pareto_k < 0.5  # beyond, the smoothing is most of the value
    assert smooth.sum() >= 20
    np.testing.assert_allclose(found[smooth], of_arviz.pointwise[smooth], rtol=1e-2, atol=1e-2)
