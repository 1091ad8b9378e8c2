"""The law of the parts given the sums, and of exact posteriors in both parametrizations."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal

from inference import Posterior
from tests.error_rate import z_limit
from tests.scenarios.parametrizations import (
    COUNT,
    LINEAR,
    close,
    collapse,
    coordinates_of,
    linear,
    make,
    numbers,
    prior_draws,
    recover,
)
from tests.seeds import shifted


def check_law(draws, mean, sigma):
    """Independent draws (count, size) have this mean and covariance."""
    count, scale = len(draws), sigma.diagonal().sqrt()
    centred, correlation = (draws - mean) / scale, sigma / torch.outer(scale, scale)
    first = centred.mean(0) * count**0.5
    second = (centred.mT @ centred / count - correlation) * count**0.5 / (1 + correlation**2).sqrt()
    scores = torch.cat([first, second[tuple(torch.triu_indices(*second.shape))]])
    assert scores.abs().max() < z_limit(len(scores))


@pytest.mark.statistical
@pytest.mark.parametrize("ratio", [1.0, 1e3, 1e7])
@linear
def test_recovered_coordinates_have_their_law_given_the_sum(case, ratio):
    model = make(case, "collapsed", dense=1 / ratio)
    alone = prior_draws(model, (), seed=4)
    samples = {name: value.expand(4, COUNT // 4, *value.shape) for name, value in alone.items()}
    twin, parts = recover(model, samples, shifted())
    for name in alone:
        names = coordinates_of(twin, name)
        if names:
            law = conditional(model, twin, name, names, alone[name])
            check_law(torch.cat([parts[n].flatten(0, 1) for n in names], dim=-1), law.mean, law.covariance_matrix)


def exact_posterior(model, x, y):
    """Mean and covariance of a linear model's parameters, in the order of its parameters."""
    laws = model.prior_distributions
    zero = {name: torch.zeros(law.event_shape).double() for name, law in laws.items()}
    slopes = torch.func.jacrev(lambda params: model.output(params, x).flatten())(zero)
    design = torch.cat([slope.flatten(1) for slope in slopes.values()], dim=1)
    blocks = [-torch.autograd.functional.hessian(law.log_prob, zero[name]) for name, law in laws.items()]
    prior = torch.block_diag(*(b.reshape(2 * [laws[n].numel]) for n, b in zip(laws, blocks, strict=True)))
    sigma = torch.linalg.inv(design.mT @ design / 0.2 + prior)
    return sigma @ design.mT @ y.flatten() / 0.2, (sigma + sigma.mT) / 2


def draws_of(model, mean, sigma):
    draws = mean + numbers(COUNT, len(mean)) @ torch.linalg.cholesky(sigma).mT
    laws = model.prior_distributions
    pieces = draws.split([law.numel for law in laws.values()], dim=1)
    return {name: piece.reshape(4, -1, *laws[name].event_shape) for name, piece in zip(laws, pieces, strict=True)}


def flat(samples):
    return torch.cat([value.flatten(0, 1).flatten(1) for value in samples.values()], dim=1)


def regression(case, ratio):
    x, outputs = numbers(30, LINEAR[case][1]), LINEAR[case][2]
    y = x @ numbers(LINEAR[case][1], outputs, seed=1) / 3 + 0.4 * numbers(30, outputs, seed=2) + 0.5
    return make(case, "collapsed", dense=1 / ratio), x, y


@pytest.mark.statistical
@pytest.mark.parametrize("ratio", [1.0, 1e1, 1e3, 1e5, 1e7])
@linear
def test_the_exact_posterior_of_the_sums_becomes_that_of_the_parts(case, ratio):
    model, x, y = regression(case, ratio)
    samples = draws_of(model, *exact_posterior(model, x, y))
    twin, parts = recover(model, samples, shifted(1))
    check_law(flat(parts), *exact_posterior(twin, x, y))


@pytest.mark.statistical
@pytest.mark.parametrize("ratio", [1.0, 1e7])
@linear
def test_the_exact_posterior_of_the_parts_becomes_that_of_the_sums(case, ratio):
    x, y = regression(case, ratio)[1:]
    model = make(case, "residual", dense=1 / ratio)
    twin, sums = collapse(model, draws_of(model, *exact_posterior(model, x, y)))
    check_law(flat(sums), *exact_posterior(twin, x, y))


@pytest.mark.statistical
def test_the_problem_of_the_engines_tests_too(make_linear_problem):
    model, (x, y) = make_linear_problem("collapsed")
    twin, parts = recover(model, draws_of(model, *exact_posterior(model, x, y)), shifted(1))
    mean, sigma = exact_posterior(make_linear_problem("residual")[0], x, y)
    check_law(flat(parts), mean, sigma)
    assert [*parts] == [*twin.prior_distributions]


@pytest.mark.statistical
@pytest.mark.parametrize("ratio", [1.0, 1e1, 1e3, 1e5, 1e7])
def test_a_share_of_one_without_noise_is_seen(ratio):
    model, x, y = regression("a group", ratio)
    samples = draws_of(model, *exact_posterior(model, x, y))
    twin, parts = recover(model, samples, shifted(1))
    basis = model.network.network[0].basis
    projected = basis.coordinates(samples["network.0.weight"].flatten(2))
    wrong = parts | {
        "network.0.beta": projected,
        "network.0.dense": samples["network.0.weight"] - basis.expand(projected).unflatten(-1, (4, 7)),
    }
    close(collapse(twin, wrong)[1]["network.0.weight"], samples["network.0.weight"])
    with pytest.raises(AssertionError):
        check_law(flat(wrong), *exact_posterior(twin, x, y))


@pytest.mark.statistical
@pytest.mark.parametrize("temperature", [0.0, 0.25, 4.0])
def test_tempered_posteriors_become_tempered_posteriors(temperature):
    """exp(log joint / T) of a linear model has the same mean and T times the covariance; at 0 it is the mode."""
    model, x, y = regression("a chain", 1e2)
    mean, sigma = exact_posterior(model, x, y)
    cold = mean.expand(COUNT, -1) if temperature == 0 else mean + (flat(draws_of(model, 0 * mean, temperature * sigma)))
    laws = model.prior_distributions
    pieces = cold.split([law.numel for law in laws.values()], dim=1)
    samples = {name: p.reshape(4, -1, *laws[name].event_shape) for name, p in zip(laws, pieces, strict=True)}
    posterior = Posterior(model, samples, {"temperature": temperature}).in_parametrization("residual", shifted())
    mean, sigma = exact_posterior(posterior.model, x, y)
    if temperature == 0:
        close(flat(posterior.samples), mean.expand(COUNT, -1), 1e-8)
    else:
        check_law(flat(posterior.samples), mean, temperature * sigma)


def conditional(model, twin, name, names, value):
    """The law of a layer's coordinates given a sum, by dense matrices: coordinates (r,), mean and covariance."""
    law, dense = model.prior_distributions[name], float(model.prior_distributions[name].dense_variance)
    kept = [(basis.dense(), float(v)) for basis, v in zip(law.bases, law.pathway_variances, strict=True) if basis.rank]
    assert [float(twin.prior_distributions[n].dense_variance) for n in names] == [v for _, v in kept]
    q = torch.cat([basis for basis, _ in kept], dim=1)
    prior = torch.cat([torch.full(basis.shape[1:], v).double() for basis, v in kept])
    sigma = dense * torch.eye(law.numel).double() + q * prior @ q.mT
    gain = torch.linalg.solve(sigma, q * prior).mT
    given = prior.diag() - gain @ q * prior
    return MultivariateNormal(gain @ value.flatten(), (given + given.mT) / 2)


@linear
def test_log_joints_differ_by_the_log_density_of_the_parts_given_the_sums(case):
    model, x, y = make(case, "residual"), numbers(6, LINEAR[case][1]), numbers(6, LINEAR[case][2], seed=1)
    params = prior_draws(model, ())
    collapsed, sums = collapse(model, {name: value[None, None] for name, value in params.items()})
    sums = {name: value[0, 0] for name, value in sums.items()}
    given = torch.zeros(()).double()
    for name in sums:
        names = coordinates_of(model, name)
        if names:
            law = conditional(collapsed, model, name, names, sums[name])
            given = given + law.log_prob(torch.cat([params[n] for n in names]))
    assert given != 0
    close(model.log_joint(params, x, y) - collapsed.log_joint(sums, x, y), given, 1e-8)
