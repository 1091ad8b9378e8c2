"""Problems and models that several tests of the engines share."""

import math

import pytest
import torch

from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, LogDensity, RPPPrior, Scalar, Vector
from bayes_rpp.datasets import inertia
from tests.seeds import shifted


@pytest.fixture
def make_linear_problem():
    """A single RPP layer in float64, (2 vectors, 1 scalar) -> vector, and data from a map that breaks the symmetry."""

    def make(parametrization="residual", likelihood=None, num_data=30):
        generator = torch.Generator().manual_seed(shifted(5))
        network = RPPEMLP(2 * Vector + Scalar, Vector, SO(3), layers=0, parametrization=parametrization).double()
        x = torch.randn(num_data, 7, generator=generator, dtype=torch.float64)
        weight = torch.randn(3, 7, generator=generator, dtype=torch.float64) / math.sqrt(7)
        y = x @ weight.mT + 0.3 * torch.randn(num_data, 3, generator=generator, dtype=torch.float64) + 0.5
        prior = RPPPrior(equivariant_variance=1.0, dense_variance=0.1, scaling="none")
        return BayesianModel(network, prior, likelihood or Gaussian(noise_variance=0.2)), (x, y)

    return make


@pytest.fixture
def make_small_model():
    """An RPPEMLP with one small hidden layer for the inertia data."""

    def make(data, likelihood=None, network=RPPEMLP, dtype=torch.float32, **options):
        net = network(data.rep_in, data.rep_out, data.group, channels=16, layers=1, **options).to(dtype)
        return BayesianModel(net, RPPPrior(), likelihood or Gaussian(noise_variance=0.2))

    return make


@pytest.fixture(scope="session")
def bodies():
    """A few examples of modified inertia."""
    return inertia(train=30, test=12, symmetry_breaking=0.3, seed=1)


@pytest.fixture
def slope():
    """A log density with gradient one: every step of Adam moves z up by exactly its learning rate."""
    return LogDensity(lambda params: params["z"].sum(), {"z": torch.zeros(2, dtype=torch.float64)})
