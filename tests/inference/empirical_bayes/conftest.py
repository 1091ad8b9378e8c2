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
    """log N(vec y; 0, F S F^T + noise I), F = x kron I, by the determinant lemma and Woodbury's identity."""
    basis, size = RPPLinear(IN, OUT, bias=False).basis.dense(), OUT.size * IN.size

    def log_evidence(data, equivariant, dense, noise):
        x, y = data
        covariance = dense * torch.eye(size).double() + equivariant * basis @ basis.mT
        gram = torch.kron(torch.eye(OUT.size).double(), x.mT @ x)  # vec W is row-major
        precision = torch.linalg.inv(covariance) + gram / noise
        b = (y.mT @ x).reshape(-1) / noise
        determinant = covariance.logdet() + precision.logdet() + y.numel() * math.log(noise)
        square = y.square().sum() / noise - b @ torch.linalg.solve(precision, b)
        return float(-0.5 * (square + determinant + y.numel() * math.log(2 * math.pi)))

    return log_evidence


@pytest.fixture(scope="session")
def broken(linear_data):
    """Data in which the symmetry is broken a little."""
    return linear_data(dense=0.02)


@pytest.fixture(scope="session")
def log_posterior(exact_evidence):
    """The exact evidence of log variances, a learned noise the last, with the prior of that: log-normal, median 0.3."""

    def value(data, logs):
        law, noise = Gaussian(noise_variance=0.3, learned=True).priors(1)["noise_variance"], math.exp(logs[2])
        return exact_evidence(data, *np.exp(logs)) + float(law.log_prob(torch.tensor(noise))) + logs[2]

    return value


@pytest.fixture(scope="session")
def best_of(log_posterior):
    """The log variances that data prefer."""

    def best(data, start=(0.3, 0.01, 0.3)):
        return minimize(lambda logs: -log_posterior(data, logs), np.log(start)).x

    return best


@pytest.fixture(scope="session")
def best_logs(broken, best_of):
    """What ``broken`` prefers."""
    return best_of(broken)
