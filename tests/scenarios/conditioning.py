"""Linear problems whose condition numbers are known."""

from __future__ import annotations

import math

import pytest
import torch

from bayes_rpp import (
    RPPEMLP,
    SO,
    BayesianModel,
    Gaussian,
    RPPPrior,
    Scalar,
    Vector,
)
from inference.density.unconstrained import UnconstrainedDensity
from inference.metrics.preconditioned import PreconditionedDensity
from tests.seeds import shifted

NOISE = 0.2


USELESS = 1e5, 1.0  # sigma_a^2, sigma_b^2 of a prior that data of unit scale overrule


STRONG = 2.0, 2e-7  # of one that they hardly touch off the symmetric maps


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


both = pytest.mark.parametrize("parametrization", ["residual", "collapsed"])


def other(parametrization):
    return {"residual": "collapsed", "collapsed": "residual"}[parametrization]


def linear_problem(parametrization, variances=(1.0, 0.1), num_data=40, group=None):
    """A linear RPP layer, vector + scalar -> vector, in float64, and data from no symmetric map."""
    generator = torch.Generator().manual_seed(shifted())
    net = RPPEMLP(Vector + Scalar, Vector, group or SO(3), layers=0, parametrization=parametrization).double()

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x = normal(num_data, 4)
    y = x @ normal(3, 4).mT + 0.5 + math.sqrt(NOISE) * normal(num_data, 3)
    equivariant, dense = variances
    pathways = [equivariant, dense] if isinstance(group, list) else None
    prior = RPPPrior(equivariant, dense, scaling="none", pathway_variances=pathways)
    return BayesianModel(net, prior, Gaussian(noise_variance=NOISE)), (x, y)


def exact_posterior(model, data, variances):
    """Mean and precision of all parameters, in the model's order."""
    (x, y), (equivariant, dense) = data, variances
    layer, identity = model.network.network[0], torch.eye(3, dtype=torch.float64)
    features = torch.cat([torch.cat([torch.kron(identity, row[None]), identity], dim=1) for row in x])
    q, p = layer.basis.dense(), layer.bias_basis.dense()
    if layer.parametrization == "residual":
        blocks = [torch.cat([each, torch.eye(len(each), dtype=torch.float64)], dim=1) for each in (q, p)]
        features = features @ torch.block_diag(*blocks)
        parts = [[equivariant] * each.shape[1] + [dense] * each.shape[0] for each in (q, p)]
        prior = torch.diag(torch.tensor(parts[0] + parts[1], dtype=torch.float64))
    else:
        prior = torch.block_diag(*(equivariant * each @ each.mT for each in (q, p)))
        prior = prior + dense * torch.eye(len(prior), dtype=torch.float64)
    precision = torch.linalg.inv(prior) + features.mT @ features / NOISE
    return torch.linalg.solve(precision, features.mT @ y.reshape(-1) / NOISE), precision


def condition(matrix):
    values = torch.linalg.eigvalsh(matrix)
    return float(values[-1] / values[0])


def space_of(model, data, metric, temperature=1.0):
    density = UnconstrainedDensity(model, data, temperature)
    z = density.initial([3])
    return PreconditionedDensity(density, metric, z), z[0]
