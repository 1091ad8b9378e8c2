"""Problems that the tests of guides share."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Gamma, constraints

from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, LogDensity, RPPPrior, Scalar, Vector
from tests.seeds import shifted


@pytest.fixture
def gamma():
    """Gamma(3, 2) over a positive number."""
    example = {"rate": torch.tensor(1.0, dtype=torch.float64)}
    return LogDensity(lambda p: Gamma(3.0, 2.0).log_prob(p["rate"]), example, {"rate": constraints.positive})


@pytest.fixture
def regression():
    """A small linear layer in float64, vector + scalar -> scalar, and data: the posterior is Gaussian."""
    generator = torch.Generator().manual_seed(shifted(5))
    network = RPPEMLP(Vector + Scalar, Scalar, SO(3), layers=0).double()
    x = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    weight = torch.randn(4, 1, generator=generator, dtype=torch.float64)
    y = x @ weight + 0.3 * torch.randn(30, 1, generator=generator, dtype=torch.float64)
    prior = RPPPrior(equivariant_variance=1.0, dense_variance=0.1, scaling="none")
    return BayesianModel(network, prior, Gaussian(noise_variance=0.2)), (x, y)
