"""A linear problem whose evidence is known, and methods that anneal quickly."""

from __future__ import annotations

import math

import torch
from torch.distributions import MultivariateNormal

from analysis.evidence.annealing import (
    AnnealedImportanceSampling,
    TemperedSMC,
)
from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, RPPPrior, Scalar
from inference import MAP, Laplace
from tests.error_rate import agrees, t_limit

NOISE = 0.2


SHORT = Laplace(mode=MAP(epochs=20), draws=1)


RUNS = 200


def ais(**settings):
    """With trajectories that are long enough for a linear model."""
    return AnnealedImportanceSampling(**{"trajectory_length": math.pi / 2, **settings})


def smc(**settings):
    return TemperedSMC(**{"trajectory_length": math.pi / 2, **settings})


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear_problem(ratio=10.0, dense=0.1, parametrization="collapsed", rep_in=2 * Scalar, rep_out=Scalar):
    """A linear layer, of three parameters by default, and data that no equivariant map has made."""
    net = RPPEMLP(rep_in, rep_out, SO(3), layers=0, parametrization=parametrization).double()
    prior = RPPPrior(equivariant_variance=ratio * dense, dense_variance=dense, scaling="none")
    x = normal(10, net.rep_in.size)
    y = x @ normal(net.rep_out.size, net.rep_in.size, seed=1).mT + 0.3 + 0.4 * normal(10, net.rep_out.size, seed=2)
    return BayesianModel(net, prior, Gaussian(NOISE)), (x, y)


def exact_evidence(model, x, y):
    """log N(y; 0, Phi Sigma Phi^T + v I), from the dense Jacobian and covariance of the prior."""
    example, features, sigma = model.initial_params(0), [], []
    zero = {name: torch.zeros_like(value) for name, value in example.items()}
    jacobian = torch.func.jacrev(lambda p: model.output(p, x).flatten())(zero)
    for name, law in model.prior_distributions.items():
        size = example[name].numel()
        features.append(jacobian[name].reshape(y.numel(), size))
        eye = torch.eye(size, dtype=torch.float64).reshape(size, *example[name].shape)
        sigma.append(torch.linalg.inv(law.precision_times(eye).reshape(size, size)))
    phi = torch.cat(features, 1)
    covariance = phi @ torch.block_diag(*sigma) @ phi.mT + NOISE * torch.eye(y.numel(), dtype=torch.float64)
    return float(MultivariateNormal(torch.zeros(y.numel()).double(), covariance).log_prob(y.flatten()))


def unbiased(evidence, truth):
    """Whether the expectation of the estimate is the truth, by 200 independent runs."""
    logs = evidence.details["log_weights"].reshape(RUNS, -1)
    ratios = (logs.logsumexp(1) - math.log(logs.shape[1]) - truth).exp()
    return agrees(ratios[:, None], 1.0)


def within_its_error(evidence, truth):
    """By particles or islands that are independent."""
    independent = len(evidence.details["log_weights"])
    return abs(evidence.value - truth) < t_limit(1, independent - 1) * evidence.standard_error
