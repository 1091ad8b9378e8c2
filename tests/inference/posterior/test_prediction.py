"""Quantiles, intervals, draws, scores and tables of predictions, against closed forms and against draws."""

import math

import pandas as pd
import pytest
import torch
from scipy import stats

from bayes_rpp import (
    SO,
    BayesianModel,
    Bernoulli,
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    LaplaceNoise,
    Poisson,
    RPPLinear,
    RPPPrior,
    Scalar,
    StudentT,
)
from inference import Posterior
from tests.error_rate import agrees
from tests.scenarios.likelihoods import Exponential
from tests.scenarios.numbers import numbers

X = numbers(6, 2)


def posterior_of(likelihood, outputs=2, chains=3, draws=200, **noise):
    """Draws of a linear map of two numbers."""
    network = RPPLinear(
        (2 * Scalar)(SO(3)), (outputs * Scalar)(SO(3)), bias=False, parametrization="collapsed"
    ).double()
    weights = 0.5 * numbers(chains, draws, outputs, 2)
    return Posterior(BayesianModel(network, RPPPrior(), likelihood), {"weight": weights, **noise})


def test_one_draw_has_the_quantiles_of_its_distribution():
    for likelihood, law in (
        (Gaussian((0.04, 0.25)), lambda f: stats.norm(f, [0.2, 0.5])),
        (LaplaceNoise(0.3), lambda f: stats.laplace(f, 0.3)),
        (StudentT(3.0, 0.5), lambda f: stats.t(3.0, f, 0.5)),
        (Poisson(), lambda f: stats.poisson(f.exp())),
    ):
        prediction = posterior_of(likelihood, chains=1, draws=1).predict(X)
        for probability in (0.01, 0.3, 0.95):
            exact = torch.as_tensor(law(prediction.samples[0, 0]).ppf(probability))
            torch.testing.assert_close(prediction.quantile(probability), exact)


def test_quantiles_of_mixtures_are_exceeded_as_often_as_they_say():
    scale = numbers(3, 200).exp()
    for likelihood, noise in (
        (Gaussian(0.2), {}),
        (Gaussian(0.2, learned=True), {"noise_variance": scale}),
        (LaplaceNoise(0.2, learned=True), {"noise_scale": scale}),
        (StudentT(3.0, 0.2), {}),
    ):
        prediction = posterior_of(likelihood, **noise).predict(X)
        laws = [likelihood.distribution(output, {name: value.flatten()[index] for name, value in noise.items()})
            for index, output in enumerate(prediction.samples.flatten(0, 1))]  # fmt: skip
        for probability in (0.05, 0.5, 0.9):
            found = prediction.quantile(probability)
            if not isinstance(likelihood, StudentT):
                below = torch.stack([law.base_dist.cdf(found) for law in laws]).mean(0)
                torch.testing.assert_close(below, torch.full_like(below, probability), rtol=1e-6, atol=1e-8)
            drawn = torch.cat([prediction.sample(seed)[:, :, :1].flatten(0, 1) for seed in range(5)])
            assert agrees((drawn < found[:1]).double().flatten(1), torch.full((2,), probability).double())


def test_quantiles_of_counts_are_the_least_that_reach_the_probability():
    prediction = posterior_of(Poisson()).predict(X)
    rates = prediction.samples.exp().flatten(0, 1)
    for probability in (0.05, 0.5, 0.9):
        found = prediction.quantile(probability)
        reached, before = (stats.poisson(rates).cdf(found - step).mean(0) for step in (0, 1))
        assert (reached >= probability).all()
        assert (before < probability).all()


def test_intervals_with_and_without_noise():
    posterior = posterior_of(Gaussian(0.09), chains=10, draws=1)
    prediction = posterior.predict(X)
    wide, narrow = prediction.interval(0.9), prediction.interval(0.9, noise=False)
    assert (wide.lower < narrow.lower).all()
    assert (narrow.upper < wide.upper).all()
    torch.testing.assert_close(narrow.lower, prediction.samples[:, 0].quantile(0.05, dim=0))
    torch.testing.assert_close(prediction.std, prediction.variance.sqrt())
    (same,) = (posterior_of(Gaussian(0.09), chains=1, draws=1).predict(X),)
    torch.testing.assert_close(
        same.interval(0.9).upper - same.mean, torch.full_like(same.mean, 0.3 * stats.norm.ppf(0.95))
    )


def test_the_log_score_is_the_log_of_the_mean_density():
    for likelihood in (Gaussian(0.2), Categorical()):
        posterior = posterior_of(likelihood)
        y = torch.tensor([0, 1, 0, 1, 1, 0]) if isinstance(likelihood, Categorical) else numbers(6, 2)
        each = posterior.log_likelihood(X, y).flatten(0, 1)
        torch.testing.assert_close(posterior.predict(X).log_score(y), each.logsumexp(0) - math.log(600))


def test_tables_of_numbers_of_yes_or_no_and_of_labels():
    prediction = posterior_of(Gaussian(0.2)).predict(X)
    table = prediction.to_dataframe(["a", "b"], 0.5)
    assert list(table) == [name + end for name in "ab" for end in ("", "_std", "_lower", "_upper")]
    inside = torch.as_tensor(table[["b_lower", "b", "b_upper"]].to_numpy().copy())
    torch.testing.assert_close(inside[:, 1], prediction.mean[:, 1])
    torch.testing.assert_close(inside[:, 0], prediction.quantile(0.25)[:, 1])
    assert list(posterior_of(Bernoulli()).predict(X).to_dataframe()) == ["y0", "y0_std", "y1", "y1_std"]
    labels = posterior_of(Categorical()).predict(X).to_dataframe(["no", "yes"])
    assert list(labels) == ["label", "p(no)", "p(yes)"]
    pd.testing.assert_series_equal(labels.label == "yes", labels["p(yes)"] > 0.5, check_names=False)


def test_what_a_prediction_cannot_say_is_refused():
    numbers_of, labels = posterior_of(Gaussian(0.2)).predict(X), posterior_of(Categorical()).predict(X)
    for call, error, message in (
        (lambda: numbers_of.quantile(1.0), ValueError, "between 0 and 1, got 1.0"),
        (lambda: numbers_of.interval(90), ValueError, "between 0 and 1, got 90"),
        (lambda: labels.interval(), TypeError, r"Categorical.* no quantiles here: `sample` draws them"),
        (lambda: posterior_of(Exponential()).predict(X).quantile(0.5), TypeError, "no quantiles here"),
        (lambda: numbers_of.log_score(numbers(5, 2)), ValueError, "y has 5 rows, but the prediction is of 6 inputs"),
        (lambda: numbers_of.log_score(numbers(6, 3)), ValueError, "the network has 2 outputs"),
        (lambda: numbers_of.to_dataframe(["y", "y_std"]), ValueError, "two columns would be called 'y_std'"),
        (lambda: numbers_of.to_dataframe("ab"), ValueError, "names must be a list, got the text 'ab'"),
        (lambda: numbers_of.to_dataframe(["a"]), ValueError, "there are 2 outputs, but 1 names: a"),
        (lambda: posterior_of(Gaussian(0.2)).predict(X, keep_samples=False).std.sum() and posterior_of(Gaussian(0.2))
            .predict(X, keep_samples=False).interval(), ValueError, "keep_samples=False"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()
    pieces = posterior_of(HeteroscedasticGaussian(1)).predict(X)
    assert pieces.interval(0.9).lower.shape == (6, 1)
