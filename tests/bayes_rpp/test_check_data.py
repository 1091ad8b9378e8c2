"""The door of a model: which data it refuses, and what it says."""

import math

import pytest
import torch

from bayes_rpp import MLP, BayesianModel, Gaussian, O, RPPPrior, Scalar, T, Vector


def model():
    network = MLP(Scalar + Vector, T(2), O(3), channels=5, layers=1)
    return BayesianModel(network, RPPPrior(), Gaussian(0.3))


@pytest.mark.parametrize("which", ["x", "y"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused_with_their_index(which, bad):
    x, y = torch.ones(6, 4), torch.ones(6, 9)
    {"x": x, "y": y}[which][3, 2] = bad
    with pytest.raises(ValueError, match=rf"{which} holds 1 NaN or infinite number\(s\), the first at index \(3, 2\)"):
        model().check_data(x, y)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(3, 4), torch.zeros(2, 9), "x has 3 examples and y has 2"),
        (torch.zeros(0, 4), torch.zeros(0, 9), "there must be some"),
        (torch.zeros(3, 5), torch.zeros(3, 9), r"x has shape \(3, 5\), but rep_in = .* expected \(batch, 4\)"),
        (torch.zeros(3, 2, 4), torch.zeros(3, 9), r"x has shape \(3, 2, 4\)"),
        (torch.zeros(3, 4), torch.zeros(3, 8), r"y has shape \(3, 8\), but the network has 9 outputs"),
    ],
)
def test_data_that_do_not_fit_are_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        model().check_data(x, y)
