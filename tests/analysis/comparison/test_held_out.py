"""Posteriors compared by rows that none of them has seen."""

import math

import pytest
import torch

from analysis import compare_posteriors
from bayes_rpp import MLP, BayesianModel, Gaussian, RPPPrior, Scalar, Trivial
from inference import Posterior
from tests.seeds import shifted


def line(slope, noise=1.0, evidence=None):
    """A posterior that is certain of y = slope x."""
    group = Trivial(1)
    model = BayesianModel(MLP(Scalar(group), Scalar(group), group, layers=0), RPPPrior(), Gaussian(noise))
    values = {name: torch.zeros(1, 1, *value.shape) for name, value in model.initial_params(0).items()}
    values["network.0.weight"] += slope
    return Posterior(model, values, {} if evidence is None else {"log_evidence": evidence})


def pairs(count):
    x, noise = torch.randn(2, count, 1, generator=torch.Generator().manual_seed(shifted(3)))
    return x, x + noise


def test_the_difference_of_scores_is_that_of_log_densities():
    x, y = pairs(400)
    found = compare_posteriors({"true": line(1.0, evidence=-3.0), "wrong": line(2.0)}, (x, y))
    differences = ((y - 2 * x) ** 2 - (y - x) ** 2)[:, 0].double() / 2
    own = found.dataset.sel(posterior="wrong")
    assert float(own.behind) == pytest.approx(float(differences.mean()), rel=1e-5)
    assert float(own.behind_error) == pytest.approx(float(differences.std()) / 20, rel=1e-4)
    assert float(own.mse) == pytest.approx(float((y - 2 * x).square().mean()), rel=1e-5)
    assert float(found.dataset.log_evidence.sel(posterior="true")) == -3
    assert math.isnan(float(found.dataset.behind.sel(posterior="true")))
    assert found.verdict == ("true predicts these 400 rows better than wrong, by over 2 standard errors.",)
    assert "log evidence" in str(found)
    assert "equiv. error" not in str(found)  # no group was declared


def test_equal_posteriors_decide_nothing_and_few_rows_are_said_to_be_few():
    x, y = pairs(20)
    found = compare_posteriors({"one": line(0.5), "two": line(0.5), "far": line(0.5, noise=1e4)}, (x, y))
    assert found.verdict == (
        "one predicts these 20 rows better than far, by over 2 standard errors.",
        "one and two: the difference is within 2 standard errors, and decides nothing.",
        "There are only 20 rows to judge by, so that the standard errors are unsure themselves.",
    )


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="posteriors must be a mapping from names to one Posterior or more"):
        compare_posteriors({}, (torch.zeros(2, 1), torch.zeros(2, 1)))
    with pytest.raises(ValueError, match=r"posteriors\['two'\] and test do not fit"):
        compare_posteriors({"two": line(1.0)}, (torch.zeros(2, 3), torch.zeros(2, 1)))
