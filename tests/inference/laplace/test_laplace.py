"""Laplace is exact where the posterior is Gaussian."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, LogDensity, RPPPrior, Scalar, Vector
from inference import MAP, Laplace
from tests.error_rate import z_limit
from tests.seeds import shifted

SHORT = MAP(epochs=20)
NOISE = 0.2
SHAPES = {
    3: (2 * Scalar, Scalar),
    24: (2 * Vector + Scalar, Vector),
    60: (3 * Vector + 2 * Scalar, Vector + 2 * Scalar),
}


def linear_problem(size, equivariant, dense, parametrization, num_data=40):
    """A linear RPP layer with ``size`` effective coordinates, and data from no symmetric map."""
    generator = torch.Generator().manual_seed(size)
    net = RPPEMLP(*SHAPES[size], SO(3), layers=0, parametrization=parametrization).double()
    x, weight, noise = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in (
            (num_data, net.rep_in.size),
            (net.rep_out.size, net.rep_in.size),
            (num_data, net.rep_out.size),
        )
    )
    prior = RPPPrior(equivariant_variance=equivariant, dense_variance=dense, scaling="none")
    return BayesianModel(net, prior, Gaussian(noise_variance=NOISE)), (x, x @ weight.mT + 0.5 + 0.4 * noise)


def bases(model):
    """Q and I for the weight and the bias, as one map from (beta, B, bias beta, bias B) to (vec W, b)."""
    layer = model.network.network[0]
    q, p = layer.basis.dense(), layer.bias_basis.dense()
    eye = [torch.eye(len(each), dtype=torch.float64) for each in (q, p)]
    return torch.block_diag(torch.cat([q, eye[0]], 1), torch.cat([p, eye[1]], 1)), (q, p)


def inverse(matrix):
    """By Gauss-Jordan elimination, in whatever precision the array has."""
    work = np.concatenate([matrix, np.eye(len(matrix), dtype=matrix.dtype)], axis=1)
    for k in range(len(matrix)):
        work[k] /= work[k, k]
        others = np.arange(len(matrix)) != k
        work[others] -= work[others, k : k + 1] * work[k]
    return work[:, len(matrix) :]


def conjugate(model, x, y, equivariant, dense, parametrization, noise=NOISE):
    """Mean and covariance of the posterior, by S^1/2 (I + S^1/2 Phi^T Phi S^1/2 / v)^-1 S^1/2 in extended precision: in
    double precision its error is 4e-7 standard deviations for the broadest prior below.
    """
    identity = torch.eye(y.shape[1], dtype=torch.float64)
    features = torch.cat([torch.cat([torch.kron(identity, row[None]), identity], dim=1) for row in x])
    total, (q, p) = bases(model)
    features, q, p, total = (part.numpy().astype(np.longdouble) for part in (features, q, p, total))
    equivariant, dense = np.longdouble(equivariant), np.longdouble(dense)
    if parametrization == "collapsed":
        gain, projector = np.sqrt(equivariant + dense) - np.sqrt(dense), scipy.linalg.block_diag(q @ q.T, p @ p.T)
        root = gain * projector + np.sqrt(dense) * np.eye(len(projector))
    else:
        features = features @ total
        variances = [[equivariant] * each.shape[1] + [dense] * each.shape[0] for each in (q, p)]
        root = np.diag(np.sqrt(np.array(variances[0] + variances[1])))
    white = features @ root
    covariance = root @ inverse(np.eye(len(root)) + white.T @ white / noise) @ root
    mean = covariance @ features.T @ y.numpy().reshape(-1) / noise
    return torch.from_numpy(mean.astype(np.float64)), torch.from_numpy(covariance.astype(np.float64))


def is_the_gaussian(approximation, mean, covariance, tolerance=1e-8):
    """Whether mean and covariance agree, in units of the standard deviations."""
    deviation = covariance.diagonal().sqrt()
    off = ((approximation.covariance() - covariance) / (deviation[:, None] * deviation)).abs().max()
    away = ((approximation.mean - mean) / deviation).abs().max()
    return bool(max(off, away) < tolerance)


@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
@pytest.mark.parametrize("size", list(SHAPES))
@pytest.mark.parametrize("ratio", [1.0, 1e2, 1e7])
@pytest.mark.parametrize("dense", [0.1, 2e-7])
def test_linear_regression_has_its_conjugate_posterior(size, parametrization, ratio, dense):
    model, data = linear_problem(size, ratio * dense, dense, parametrization)
    posterior = Laplace(mode=SHORT, draws=2).fit(model, data, seed=0)
    setting = (model, *data, ratio * dense, dense, parametrization)
    assert is_the_gaussian(posterior.approximation, *conjugate(*setting))
    assert not is_the_gaussian(posterior.approximation, *conjugate(*setting, noise=1.0001 * NOISE))


def test_leaving_the_prior_out_is_noticed():
    model, data = linear_problem(24, 1.0, 0.1, "collapsed")
    posterior = Laplace(mode=SHORT, draws=2).fit(model, data, seed=0)
    exact = conjugate(model, *data, 1.0, 0.1, "collapsed")
    without = type(posterior.approximation)(posterior.approximation.mean, [(slice(0, 24), posterior.precision.data[0])])
    assert is_the_gaussian(posterior.approximation, *exact)
    assert not is_the_gaussian(without, *exact)


@pytest.mark.parametrize("ratio", [1.0, 1e7])
def test_sum_of_the_pathways_has_the_covariance_of_the_collapsed_weight(ratio):
    found = {}
    for parametrization in ("residual", "collapsed"):
        model, data = linear_problem(24, ratio * 0.01, 0.01, parametrization)
        found[parametrization] = Laplace(mode=SHORT, draws=2).fit(model, data, seed=0).approximation
    total, _ = bases(model)
    summed = total @ found["residual"].covariance() @ total.mT
    collapsed = found["collapsed"]
    assert is_the_gaussian(collapsed, total @ found["residual"].mean, summed, tolerance=1e-8)


def test_temperature_multiplies_the_covariance():
    model, data = linear_problem(24, 1.0, 0.1, "collapsed")
    mean, covariance = conjugate(model, *data, 1.0, 0.1, "collapsed")
    warm = Laplace(mode=SHORT, draws=2, temperature=3.0).fit(model, data, seed=0)
    assert is_the_gaussian(warm.approximation, mean, 3 * covariance)


def correlated_density(size=6):
    generator = torch.Generator().manual_seed(4)
    root = torch.randn(size, 2 * size, generator=generator, dtype=torch.float64)
    precision, mean = root @ root.mT, torch.randn(size, generator=generator, dtype=torch.float64)

    def log_density(params):
        z = torch.cat([params["a"], params["b"].flatten()]) - mean
        return -0.5 * z @ precision @ z + 1.5

    example = {"a": torch.zeros(2, dtype=torch.float64), "b": torch.zeros(2, 2, dtype=torch.float64)}
    return LogDensity(log_density, example), mean, precision


def test_gaussian_log_densities_are_exact():
    model, mean, precision = correlated_density()
    posterior = Laplace(mode=SHORT, draws=2).fit(model, None, seed=0)
    assert is_the_gaussian(posterior.approximation, mean, torch.linalg.inv(precision), tolerance=1e-10)
    assert posterior.mode_log_joint == pytest.approx(1.5, abs=1e-12)
    diagonal = Laplace("diagonal", mode=SHORT, draws=2).fit(model, None, seed=0)
    torch.testing.assert_close(diagonal.approximation.variances(), 1 / precision.diagonal())
    layer = Laplace("layer", mode=SHORT, draws=2).fit(model, None, seed=0)
    blocks = torch.block_diag(precision[:2, :2], precision[2:, 2:])
    assert layer.structure.names == (("a",), ("b",))
    assert is_the_gaussian(layer.approximation, mean, torch.linalg.inv(blocks), tolerance=1e-7)


def test_evidence_of_a_gaussian_density_is_one_line():
    model, _, precision = correlated_density()
    posterior = Laplace(mode=SHORT, draws=2).fit(model, None, seed=0)
    gaussian = posterior.approximation
    evidence = posterior.mode_log_joint + gaussian.dimension / 2 * math.log(2 * math.pi) - gaussian.log_determinant / 2
    exact = 1.5 + 3 * math.log(2 * math.pi) - 0.5 * torch.logdet(precision)
    torch.testing.assert_close(evidence, exact, rtol=1e-12, atol=0)


def test_mode_is_that_of_the_free_coordinates():
    """Gamma(3, 2) has its mode at 1, but log of it has the mode of r^3 exp(-2 r): 3/2, with curvature 3."""
    log_density = LogDensity(
        lambda p: torch.distributions.Gamma(*torch.tensor([3.0, 2.0]).double()).log_prob(p["rate"]),
        {"rate": torch.tensor(0.3, dtype=torch.float64)},
        {"rate": torch.distributions.constraints.positive},
    )
    posterior = Laplace(mode=SHORT, draws=50).fit(log_density, None, seed=0)
    assert float(posterior.mode["rate"]) == pytest.approx(1.5, rel=1e-9)
    assert float(posterior.precision.total[0]) == pytest.approx(3.0, rel=1e-9)
    assert (posterior.samples["rate"] > 0).all()


@pytest.mark.statistical
def test_draws_have_the_moments_of_the_gaussian():
    model, data = linear_problem(24, 1.0, 0.1, "collapsed")
    count = 4000
    posterior = Laplace(mode=SHORT, draws=count).fit(model, data, seed=shifted(7))
    assert (posterior.chains, posterior.draws) == (1, count)
    draws = posterior.density.free(posterior.samples)[0]
    mean, covariance = conjugate(model, *data, 1.0, 0.1, "collapsed")
    threshold = z_limit(24 + 24 * 25 // 2)

    def largest_score(covariance):
        white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (draws - mean).mT, upper=False)
        of_mean = white.mean(1) * math.sqrt(count)
        second = (white @ white.mT / count - torch.eye(24).double()) * math.sqrt(count)
        of_second = second / (1 + torch.eye(24)).sqrt()  # a square has variance 2, a product 1
        return max(of_mean.abs().max(), of_second.abs().max())

    assert largest_score(covariance) < threshold
    assert largest_score(1.5 * covariance) > threshold
