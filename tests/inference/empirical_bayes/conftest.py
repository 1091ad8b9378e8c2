"""A linear model, data that it makes, and the exact evidence of its variances."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from bayes_rpp import SO, BayesianModel, Gaussian, RPPLinear, RPPPrior, Scalar, Vector

IN, OUT = (4 * Vector + 2 * Scalar)(SO(3)), (3 * Vector + Scalar)(SO(3))


@pytest.fixture(scope="session")
def linear_data():
    """Drawn from the model itself, with known variances; scaling "none".

    They are the same under every shift: how far an ascent comes in so many steps depends on the data.
    """

    def draw(dense, count=80, noise=0.1, equivariant=1.0):
        layer = RPPLinear(IN, OUT, bias=False).double()
        generator = torch.Generator().manual_seed(3)
        beta = equivariant**0.5 * torch.randn(layer.basis.rank, generator=generator, dtype=torch.float64)
        weight = layer.basis.expand(beta).reshape(OUT.size, IN.size)
        weight = weight + dense**0.5 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        x = torch.randn(count, IN.size, generator=generator, dtype=torch.float64)
        return x, x @ weight.mT + noise**0.5 * torch.randn(count, OUT.size, generator=generator, dtype=torch.float64)

    return draw


@pytest.fixture(scope="session")
def linear_model():
    """One layer, whose variances and noise are to be learned."""

    def make(prior=None, likelihood=None):
        prior = prior or RPPPrior(0.3, 0.01, scaling="none")
        likelihood = likelihood or Gaussian(noise_variance=0.3, learned=True)
        return BayesianModel(RPPLinear(IN, OUT, bias=False).double(), prior, likelihood)

    return make


@pytest.fixture(scope="session")
def exact_evidence():
    """log N(vec y; 0, cov), through projections on the equivariant maps."""

    def log_evidence(data, equivariant, dense, noise):
        x, y = data
        basis = RPPLinear(IN, OUT, bias=False).basis.dense()
        size = OUT.size * IN.size
        covariance = dense * torch.eye(size).double() + equivariant * basis @ basis.mT
        features = torch.einsum("bn,om->bomn", x, torch.eye(OUT.size).double()).flatten(0, 1).flatten(1)
        total = features @ covariance @ features.mT + noise * torch.eye(len(features)).double()
        cholesky = torch.linalg.cholesky(total)
        white = torch.linalg.solve_triangular(cholesky, y.reshape(-1, 1), upper=False)
        constant = y.numel() / 2 * math.log(2 * math.pi)
        return float(-0.5 * white.square().sum() - cholesky.diagonal().log().sum() - constant)

    return log_evidence


@pytest.fixture(scope="session")
def broken(linear_data):
    """Data in which the symmetry is broken a little."""
    return linear_data(dense=0.02)


@pytest.fixture(scope="session")
def best_logs(broken, exact_evidence):
    """The logarithms of the three variances, of a learned noise the last, that the evidence of ``broken`` prefers."""

    def noise_prior(noise):
        """The log density of log v under the likelihood's prior of a learned noise variance, median 0.3."""
        law = Gaussian(noise_variance=0.3, learned=True).priors(1)["noise_variance"]
        return float(law.log_prob(torch.tensor(noise))) + math.log(noise)

    def loss(logs):
        return -exact_evidence(broken, *np.exp(logs)) - noise_prior(math.exp(logs[2]))

    return minimize(loss, np.log([0.3, 0.01, 0.3])).x
