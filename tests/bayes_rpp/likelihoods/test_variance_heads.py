"""Variances as outputs keep the symmetry if a piece has a single one."""

import torch

from analysis import equivariance_error
from bayes_rpp import EMLP, SO, BayesianModel, HeteroscedasticGaussian, RPPPrior, Scalar, Vector
from inference import MAP
from tests.scenarios.likelihoods import numbers


def densities(pieces, rep_out):
    """log p(y | x) and log p(g y | g x), of an equivariant network."""
    net = EMLP(Vector + Scalar, rep_out, SO(3), channels=20, layers=1).double()
    model = BayesianModel(net, RPPPrior(), HeteroscedasticGaussian(pieces))
    params, (x, y) = model.initial_params(seed=0), (numbers(20, 4), numbers(20, 4, seed=1))
    g = (Vector + Scalar)(SO(3)).rho(SO(3).sample(1, seed=0)[0].double())
    pairs = ((x, y), (x @ g.mT, y @ g.mT))
    return [model.log_likelihood_per_example(params, *pair) for pair in pairs]


def test_one_variance_for_each_piece_is_symmetric_and_one_for_each_coordinate_is_not():
    plain, moved = densities((3, 1), Vector + Scalar + 2 * Scalar)
    torch.testing.assert_close(moved, plain, rtol=1e-8, atol=1e-8)
    shared, moved = densities(4, Vector + Scalar + Scalar)
    torch.testing.assert_close(moved, shared, rtol=1e-8, atol=1e-8)
    plain, moved = densities((1, 1, 1, 1), Vector + Scalar + 4 * Scalar)
    assert (moved - plain).abs().max() > 0.01


def test_a_fit_finds_where_the_noise_is_and_the_error_is_of_all_outputs():
    x = numbers(400, 4)
    deviation = (0.5 * x[:, 3:]).exp()
    y = torch.cat([x[:, :3], x[:, 3:]], dim=1) + deviation * numbers(400, 4, seed=1)
    net = EMLP(Vector + Scalar, Vector + Scalar + Scalar, SO(3), channels=40, layers=1).double()
    model = BayesianModel(net, RPPPrior(), HeteroscedasticGaussian(4))
    posterior = MAP(epochs=300, lr=1e-2).fit(model, (x, y), seed=0)
    found = posterior.predict(x).aleatoric[:, 0].log()
    truth = 2 * deviation.log()[:, 0]
    assert torch.corrcoef(torch.stack([found, truth]))[0, 1] > 0.9
    assert equivariance_error(posterior, x).shape == (1, 1)
    assert float(equivariance_error(posterior, x).max()) < 1e-6
