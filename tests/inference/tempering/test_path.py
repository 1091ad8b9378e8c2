"""Tempered paths, and the curvature along them."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

import inference.tempering.curvature
import inference.tempering.particles
import inference.tempering.path
from inference.density.unconstrained import UnconstrainedDensity
from inference.tempering.curvature import tempered_curvature
from inference.tempering.path import LaplacePath, PriorPath
from tests.error_rate import agrees, z_limit
from tests.scenarios.tempering import (
    NOISE,
    conjugate,
    fitted,
    learned_model,
    linear_model,
    normal,
    positive_density,
    statistical,
)
from tests.seeds import shifted


@pytest.mark.parametrize("problem", [linear_model(), linear_model(parametrization="collapsed"), learned_model()])
def test_prior_path_splits_the_joint_into_prior_and_likelihood(problem):
    path = PriorPath(UnconstrainedDensity(*problem))
    cloud = path.at(path.sample(5, seed=3))
    model, (x, y) = problem
    for place, z in enumerate(cloud.position):
        params = path.density.params(z)
        likelihood = model.log_likelihood(params, x, y)
        torch.testing.assert_close(cloud.gain[place], likelihood, rtol=1e-12, atol=1e-10)
        torch.testing.assert_close(
            cloud.reference[place], path.density.potential(z) + likelihood, rtol=1e-12, atol=1e-9
        )
    slope, value = path.density.gradients(cloud.position)
    torch.testing.assert_close(cloud.energy(1.0), value, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(cloud.slope(1.0), slope, rtol=1e-9, atol=1e-9)
    assert path.gradients == 5


@pytest.mark.parametrize("problem", [linear_model(), learned_model(), positive_density()])
def test_laplace_path_begins_at_the_gaussian_and_ends_at_the_joint(problem):
    posterior = fitted(problem)
    path, gaussian = LaplacePath(posterior), posterior.approximation
    cloud = path.at(path.sample(6, seed=1))
    law = MultivariateNormal(gaussian.mean, covariance_matrix=gaussian.covariance())
    torch.testing.assert_close(-cloud.energy(0.0), law.log_prob(cloud.position), rtol=1e-9, atol=1e-9)
    slope, value = path.density.gradients(cloud.position)
    torch.testing.assert_close(cloud.energy(1.0), value, rtol=1e-12, atol=1e-9)
    leaf = cloud.position.clone().requires_grad_()
    (expected,) = torch.autograd.grad(-law.log_prob(leaf).sum(), leaf)
    torch.testing.assert_close(cloud.slope(0.25), 0.75 * expected + 0.25 * slope, rtol=1e-7, atol=1e-7)


def test_paths_evaluate_some_particles_at_a_time_with_the_same_result(monkeypatch):
    path = PriorPath(UnconstrainedDensity(*linear_model()))
    z = path.sample(10, seed=0)
    whole = path.at(z)
    monkeypatch.setattr(inference.tempering.path, "_NUMBERS_AT_ONCE", 3 * (path.density.size + 12 * 3))
    sizes = []
    parts = path._parts
    monkeypatch.setattr(path, "_parts", lambda some: (sizes.append(len(some)), parts(some))[1])
    pieces = path.at(z)
    assert max(sizes) <= 3
    assert sum(sizes) == 10
    torch.testing.assert_close(pieces.slope(0.5), whole.slope(0.5), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(pieces.energy(0.5), whole.energy(0.5), rtol=1e-12, atol=1e-12)


@statistical
@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
@pytest.mark.parametrize("ratio", [1.0, 1e7])
def test_draws_of_the_prior_have_its_energy_whatever_the_variances(parametrization, ratio):
    """-2 log r + constant is chi-squared with one degree of freedom for each coordinate."""
    path = PriorPath(UnconstrainedDensity(*linear_model(ratio, 1e-4, parametrization)))
    cloud, size = path.at(path.sample(4000, seed=shifted())), path.density.size
    _, precision = conjugate(path.density, 0.0)
    squares = 2 * cloud.reference - size * math.log(2 * math.pi) + torch.linalg.slogdet(precision).logabsdet
    moments = torch.stack([squares - size, (squares - size).square() - 2 * size], dim=1)
    assert agrees(moments, 0.0)


@statistical
def test_draws_of_the_prior_of_the_noise_are_of_its_law_in_free_coordinates():
    path = PriorPath(UnconstrainedDensity(*learned_model()))
    free = path.sample(4000, seed=shifted())[:, -1]
    scores = [(free.mean() - math.log(NOISE - 1e-6)) / (2 / math.sqrt(4000)), (free.var() / 4 - 1) * math.sqrt(2000)]
    assert max(abs(float(score)) for score in scores) < z_limit(2)


@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
@pytest.mark.parametrize("ratio", [1.0, 1e4, 1e7])
def test_curvature_of_a_linear_model_is_that_of_its_posterior_at_every_temperature(parametrization, ratio):
    density = UnconstrainedDensity(*linear_model(ratio, 1e-4, parametrization))
    curvature = tempered_curvature(density, 0.1, normal(3, density.size))
    assert curvature.serves(0.39)
    assert not curvature.serves(0.41)
    for t in (0.1, 0.3, 1.0):
        coordinates, (_, precision) = curvature.coordinates(t), conjugate(density, t)
        root = coordinates.color(torch.eye(density.size, dtype=torch.float64))  # its rows are S e_i
        white = root @ precision @ root.mT
        torch.testing.assert_close(white, torch.eye(density.size, dtype=torch.float64), rtol=0, atol=1e-6)
        torch.testing.assert_close(coordinates.pull(root), root @ root.mT, rtol=1e-9, atol=1e-12)
    assert (white - curvature.coordinates(0.5).color(root) @ precision @ root.mT).abs().max() > 0.1


def test_curvature_of_many_coordinates_goes_by_the_pathways_and_serves_nearby(monkeypatch):
    density = UnconstrainedDensity(*linear_model(1e4, 1e-4, "collapsed", num_data=200))
    monkeypatch.setattr(inference.tempering.curvature, "_LARGEST_DENSE", 1)
    curvature = tempered_curvature(density, 0.5, normal(2, density.size))
    assert curvature.serves(0.55)
    assert not curvature.serves(0.61)
    root = curvature.coordinates(0.5).color(torch.eye(density.size, dtype=torch.float64))
    values = torch.linalg.eigvalsh(root @ conjugate(density, 0.5)[1] @ root.mT)
    assert 0.2 < float(values[0]) <= float(values[-1]) < 5
    wrong = torch.linalg.eigvalsh(root @ conjugate(density, 0.01)[1] @ root.mT)
    assert float(wrong[0]) < 0.1


def test_curvature_in_a_learned_noise_is_positive_where_the_likelihood_is_not_concave():
    density = UnconstrainedDensity(*learned_model())
    z = density.initial([0]).repeat(2, 1)
    z[:, -1] = torch.tensor([-6.0, 6.0], dtype=torch.float64)  # far below and above the residuals
    root = tempered_curvature(density, 0.5, z).coordinates(0.5).color(torch.eye(density.size, dtype=torch.float64))
    assert root.isfinite().all()
    assert float(root[:, -1].square().sum()) < 4  # less than the prior's variance
