"""Problems that the tests of tempering share."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import constraints

from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, LogDensity, RPPPrior, Scalar, Vector
from inference import MAP, Laplace
from tests.seeds import shifted

statistical = pytest.mark.statistical


NOISE = 0.2


def generator(seed=0):
    return torch.Generator().manual_seed(shifted(seed))


def normal(*shape, seed=0):
    """Numbers of a problem, which is the same under every shift: the length of a path depends on the data."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def linear_model(ratio=10.0, dense=0.1, parametrization="residual", likelihood=None, num_data=12):
    net = RPPEMLP(Vector + Scalar, Vector, SO(3), layers=0, parametrization=parametrization).double()
    prior = RPPPrior(equivariant_variance=ratio * dense, dense_variance=dense, scaling="none")
    x, weight, noise = normal(num_data, 4), normal(3, 4, seed=1), normal(num_data, 3, seed=2)
    return BayesianModel(net, prior, likelihood or Gaussian(NOISE)), (x, x @ weight.mT + 0.4 * noise)


def learned_model():
    return linear_model(likelihood=Gaussian(NOISE, learned=True))


def conjugate(density, t):
    """Mean and precision of prior times likelihood^t, by the dense Jacobian of the outputs and Hessian of the prior."""
    model, (x, y), origin = density.model, density.pair, torch.zeros(density.size, dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda z: model.output(density.params(z), x).flatten())(origin)
    prior = torch.func.hessian(lambda z: -model.log_prior(density.params(z)))(origin)
    precision = prior + t / NOISE * jacobian.mT @ jacobian
    return torch.linalg.solve(precision, t / NOISE * jacobian.mT @ y.flatten()), precision


def draws(mean, precision, count, seed=0):
    root = torch.linalg.cholesky(precision)
    return mean + torch.linalg.solve_triangular(root.mT, drawn(len(mean), count, seed=seed), upper=True).mT


def fitted(problem):
    return Laplace(mode=MAP(epochs=20), draws=1).fit(*problem, seed=0)


def positive_density():
    example = {"rate": torch.tensor([1.0, 2.0], dtype=torch.float64)}
    log_density = LogDensity(
        lambda p: (3 * p["rate"].log() - 2 * p["rate"]).sum(), example, {"rate": constraints.positive}
    )
    return log_density, None
