"""Annealing integrates over variances that have hyperpriors."""

from __future__ import annotations

import math

import pytest
import torch
from pyro.distributions import HalfCauchy, LogNormal
from scipy.integrate import quad
from scipy.stats import kstest

from bayes_rpp import BayesianModel, RPPPrior
from bayes_rpp.prior_draws import prior_draws
from tests.error_rate import ERROR_RATE
from tests.scenarios.annealing import (
    exact_evidence,
    linear_problem,
    smc,
    within_its_error,
)
from tests.seeds import shifted

HYPER = LogNormal(-1.0, 1.0), HalfCauchy(0.3)


def hyper_problem(law, parametrization):
    model, data = linear_problem(parametrization=parametrization)
    return BayesianModel(model.network, RPPPrior(1.0, law, scaling="none"), model.likelihood), data


@pytest.mark.statistical
@pytest.mark.parametrize("law", HYPER, ids=lambda law: type(law).__name__)
@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_draws_of_the_prior_are_of_the_variance_and_of_the_weights_given_it(law, parametrization):
    model, _ = hyper_problem(law, parametrization)
    draws = prior_draws(model, 4000, seed=shifted())
    assert set(draws) == set(model.initial_params(0))
    v = draws["dense_variance"]
    laws = model.distributions(draws)
    unit = {name: laws[name].whiten(draws[name]).flatten(1) for name in model.hierarchical}
    columns = [law.cdf(v)[:, None], *(torch.special.ndtr(value) for value in unit.values())]
    levels = torch.cat(columns, 1)
    bound = ERROR_RATE / levels.shape[1]
    assert all(kstest(column.numpy(), "uniform").pvalue > bound for column in levels.T)


@pytest.mark.statistical
@pytest.mark.parametrize("dense_limit", [1500, 2])
@pytest.mark.parametrize("law", HYPER, ids=lambda law: type(law).__name__)
@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_variances_with_hyperpriors_are_integrated_over(law, parametrization, dense_limit, monkeypatch):
    """The exact evidence is a one-dimensional integral over v of Gaussian ones."""
    monkeypatch.setattr("inference.tempering.curvature._LARGEST_DENSE", dense_limit)
    model, (x, y) = hyper_problem(law, parametrization)

    def given(log_v):
        v = math.exp(log_v)
        fixed = BayesianModel(model.network, model.prior.with_variances({"dense_variance": v}), model.likelihood)
        return math.exp(exact_evidence(fixed, x, y)) * v * float(law.log_prob(torch.tensor(v)).exp())

    exact = math.log(quad(given, -12, 8, limit=200)[0])
    found = smc(particles=3072, islands=16, temperatures=8).estimate(model, (x, y), seed=shifted())
    assert within_its_error(found, exact)
    assert found.standard_error < 0.2
