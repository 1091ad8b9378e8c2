"""HMC has the exact posterior of linear RPP regression, whose mean and covariance dense algebra gives."""

import arviz
import pytest
import torch
import xarray

from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, RPPPrior, Scalar, Vector
from inference import HMC
from tests.error_rate import agrees
from tests.seeds import shifted

NOISE, CHAINS, DRAWS = 0.2, 96, 64
SHAPES = {
    3: (2 * Scalar, Scalar),
    24: (2 * Vector + Scalar, Vector),
    60: (3 * Vector + 2 * Scalar, Vector + 2 * Scalar),
}
# coordinates of (W, b), sigma_a^2, sigma_b^2, parametrization, metric
CASES = [
    (3, 1.0, 1.0, "collapsed", "identity"),
    (3, 1e2, 1e-1, "residual", "pathway"),
    (24, 10.0, 0.1, "collapsed", "diagonal"),
    (24, 1e3, 1e-2, "collapsed", "full"),
    (24, 1e4, 1e-3, "residual", None),
    (24, 1.0, 1.0, "collapsed", "pathway"),
    (60, 1e4, 1e-3, "residual", "pathway"),
    (60, 1e4, 1e-3, "collapsed", "layer"),
]


def linear_problem(size, equivariant, dense, parametrization):
    """A linear RPP layer with ``size`` effective coordinates, and data from no symmetric map.

    They are the same under every shift: how far a trajectory carries depends on how the inputs lie.
    """
    generator = torch.Generator().manual_seed(size)
    net = RPPEMLP(*SHAPES[size], SO(3), layers=0, parametrization=parametrization).double()

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x = normal(4 if size == 3 else 100, net.rep_in.size)
    y = x @ normal(net.rep_out.size, net.rep_in.size).mT + 0.5 + 0.4 * normal(len(x), net.rep_out.size)
    prior = RPPPrior(equivariant_variance=equivariant, dense_variance=dense, scaling="none")
    return BayesianModel(net, prior, Gaussian(noise_variance=NOISE)), (x, y)


def exact_posterior(model, data, equivariant, dense):
    """Mean and covariance of all parameters, in the model's order."""
    x, y = data
    layer, identity = model.network.network[0], torch.eye(y.shape[1], dtype=torch.float64)
    features = torch.cat([torch.cat([torch.kron(identity, row[None]), identity], dim=1) for row in x])
    q, p = layer.basis.dense(), layer.bias_basis.dense()
    if layer.parametrization == "residual":
        blocks = [torch.cat([each, torch.eye(len(each), dtype=torch.float64)], dim=1) for each in (q, p)]
        features = features @ torch.block_diag(*blocks)
        variances = [[equivariant] * each.shape[1] + [dense] * each.shape[0] for each in (q, p)]
        prior = torch.diag(torch.tensor(variances[0] + variances[1], dtype=torch.float64))
    else:
        prior = torch.block_diag(*(equivariant * each @ each.mT for each in (q, p)))
        prior = prior + dense * torch.eye(len(prior), dtype=torch.float64)
    covariance = torch.linalg.inv(torch.linalg.inv(prior) + features.mT @ features / NOISE)
    return covariance @ features.mT @ y.reshape(-1) / NOISE, covariance


def pairs(draws):
    """The products of all pairs of coordinates, the mean of each chain."""
    i, j = torch.triu_indices(draws.shape[-1], draws.shape[-1])
    return (torch.einsum("cdi,cdj->cij", draws, draws) / draws.shape[1])[:, i, j]


def upper(matrix):
    return matrix[tuple(torch.triu_indices(len(matrix), len(matrix)))]


def least_effective_size(draws):
    """Of the squares of all coordinates."""
    squares = {f"z{i}": (("chain", "draw"), draws[..., i].square().numpy()) for i in range(draws.shape[-1])}
    return min(float(size) for size in arviz.ess(xarray.Dataset(squares), method="mean").values())


def standardised(posterior, mean, covariance):
    draws = torch.cat([value.flatten(2) for value in posterior.samples.values()], dim=2)
    return (draws - mean) / covariance.diagonal().sqrt()


@pytest.mark.statistical
@pytest.mark.parametrize(("size", "equivariant", "dense", "parametrization", "metric"), CASES)
def test_means_variances_and_correlations_are_exact(size, equivariant, dense, parametrization, metric):
    model, data = linear_problem(size, equivariant, dense, parametrization)
    mean, covariance = exact_posterior(model, data, equivariant, dense)
    engine = HMC(chains=CHAINS, warmup=60, draws=DRAWS, metric=metric)
    posterior = engine.fit(model, data, seed=shifted(), progress=False)
    draws = standardised(posterior, mean, covariance)
    deviation = covariance.diagonal().sqrt()
    correlation = covariance / deviation / deviation[:, None]
    assert least_effective_size(draws) > 1000
    per_chain = torch.cat([draws.mean(1), pairs(draws)], dim=1)
    assert agrees(per_chain, torch.cat([torch.zeros_like(mean), upper(correlation)]))
    # One number sees all directions at once, the narrowest among them.
    directions = torch.linalg.cholesky(torch.linalg.inv(correlation))
    distance = (draws @ directions).square().sum(-1).mean(1)
    assert agrees(distance[:, None], float(len(mean)))
    assert not agrees(distance[:, None], 1.3 * len(mean))


@pytest.mark.statistical
def test_temperature_multiplies_the_covariance_and_is_caught():
    model, data = linear_problem(24, 10.0, 0.1, "residual")
    mean, covariance = exact_posterior(model, data, 10.0, 0.1)
    engine = HMC(chains=CHAINS, warmup=60, draws=DRAWS, temperature=2.0)
    draws = standardised(engine.fit(model, data, seed=shifted(), progress=False), mean, covariance)
    deviation = covariance.diagonal().sqrt()
    correlation = upper(covariance / deviation / deviation[:, None])
    assert agrees(draws.mean(1), 0.0)
    assert agrees(pairs(draws), 2 * correlation)
    assert not agrees(pairs(draws), correlation)


@pytest.mark.statistical
def test_a_tempered_posterior_is_tempered_in_the_other_parametrization_too():
    model, data = linear_problem(24, 10.0, 0.1, "collapsed")
    engine = HMC(chains=CHAINS, warmup=60, draws=DRAWS, temperature=3.0)
    posterior = engine.fit(model, data, seed=shifted(), progress=False).in_parametrization("residual", seed=shifted(1))
    mean, covariance = exact_posterior(posterior.model, data, 10.0, 0.1)
    draws = standardised(posterior, mean, covariance)
    deviation = covariance.diagonal().sqrt()
    assert agrees(pairs(draws), 3 * upper(covariance / deviation / deviation[:, None]))
