"""MAP reaches modes that are known in closed form."""

import pytest
import torch
from torch.distributions import Dirichlet, Gamma, constraints

from bayes_rpp import BayesianModel, Gaussian, LogDensity, RPPPrior
from inference import MAP

FULL_BATCH = MAP(epochs=1000, batch_size=None, lr=0.1)


def posterior_mean(model, x, y, dense_variance=0.1, noise_variance=0.2):
    """E[vec(W), b | x, y] of y = W x + b + noise, by dense matrices: Sigma Phi^T (Phi Sigma Phi^T + v I)^-1 y."""
    layer, identity = model.network.network[0], torch.eye(3, dtype=torch.float64)
    q, q_bias = layer.basis.dense(), layer.bias_basis.dense()
    prior = torch.block_diag(q @ q.mT, q_bias @ q_bias.mT)
    prior = prior + dense_variance * torch.eye(len(prior), dtype=torch.float64)
    features = torch.cat([torch.cat([torch.kron(identity, row[None]), identity], dim=1) for row in x])
    covariance = features @ prior @ features.mT + noise_variance * torch.eye(len(features), dtype=torch.float64)
    return prior @ features.mT @ torch.linalg.solve(covariance, y.reshape(-1))


def weight_and_bias(posterior):
    """vec(W) and b of the layer as it acts: from the network's outputs at 0 and at the unit vectors."""
    outputs = posterior.predict(torch.cat([torch.zeros(1, 7), torch.eye(7)]).double()).mean
    return torch.cat([(outputs[1:] - outputs[0]).mT.reshape(-1), outputs[0]])


@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_map_of_linear_regression_is_the_posterior_mean(make_linear_problem, parametrization):
    model, data = make_linear_problem(parametrization)
    posterior = FULL_BATCH.fit(model, data, seed=3)
    fitted = weight_and_bias(posterior)
    torch.testing.assert_close(fitted, posterior_mean(model, *data), rtol=0, atol=1e-10)
    # The comparison can tell: a prior with another dense variance, or the same with less noise, has another mean.
    assert (fitted - posterior_mean(model, *data, dense_variance=0.05)).abs().max() > 1e-2
    assert (fitted - posterior_mean(model, *data, noise_variance=0.1)).abs().max() > 1e-2


def test_map_shares_the_equivariant_part_between_the_pathways_in_the_ratio_of_their_variances(make_linear_problem):
    model, data = make_linear_problem("residual")
    samples = FULL_BATCH.fit(model, data, seed=4).samples
    beta, dense = samples["network.0.beta"][0, 0], samples["network.0.dense"][0, 0]
    in_dense = model.network.network[0].basis.coordinates(dense.reshape(-1))
    torch.testing.assert_close(in_dense, 0.1 * beta, rtol=0, atol=1e-10)


def test_learned_noise_is_at_the_mode_of_the_constrained_density(make_linear_problem):
    """No Jacobian: the gradient of the joint density in the noise variance itself vanishes."""
    model, (x, y) = make_linear_problem(likelihood=Gaussian(noise_variance=0.5, learned=True))
    params = {name: value[0, 0] for name, value in FULL_BATCH.fit(model, (x, y), seed=0).samples.items()}
    gradient = torch.func.grad(lambda p: model.log_joint(p, x, y))(params)
    assert all((g.abs() < 1e-8).all() for g in gradient.values())
    assert 1 / params["noise_variance"] > 1  # with a Jacobian, the gradient would be minus this


def test_mode_of_a_gamma_density_has_no_jacobian():
    density = LogDensity(
        lambda p: Gamma(3.0, 2.0).log_prob(p["rate"]),
        {"rate": torch.tensor(0.3, dtype=torch.float64)},
        {"rate": constraints.positive},
    )
    mode = MAP(epochs=800, lr=0.05).fit(density, None, seed=0).samples["rate"]
    assert mode.shape == (1, 1)
    assert float(mode) == pytest.approx(1.0, abs=1e-6)  # (3 - 1) / 2; with a Jacobian it is 3 / 2


def test_mode_of_a_dirichlet_density_lies_on_the_simplex():
    concentration = torch.tensor([2.0, 3.0, 4.0], dtype=torch.float64)
    density = LogDensity(
        lambda p: Dirichlet(concentration).log_prob(p["p"]),
        {"p": torch.full((3,), 1 / 3, dtype=torch.float64)},
        {"p": constraints.simplex},
    )
    mode = MAP(epochs=800, lr=0.05).fit(density, None, seed=1).samples["p"][0, 0]
    torch.testing.assert_close(mode, (concentration - 1) / 6, rtol=0, atol=1e-10)


def test_learned_noise_arrives_wherever_it_starts():
    """From three orders of magnitude below and above, in the steps of an ordinary training: the first residuals, a
    thousand times too large for the noise, must slow down neither the noise
    nor the weights.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 3, generator=generator)
    clean = x @ torch.randn(3, 2, generator=generator)
    noise = 1e-2
    y = clean + noise**0.5 * torch.randn(400, 2, generator=generator)
    for start in (1e-3 * noise, 1e3 * noise):
        for likelihood in (Gaussian(start, learned=True, floor=1e-8), Gaussian((start, start), learned=True)):
            model = BayesianModel(torch.nn.Linear(3, 2), RPPPrior(), likelihood, num_outputs=2)
            posterior = MAP(epochs=500, batch_size=100).fit(model, (x, y), seed=0)
            left = (posterior.predict(x).mean - y).square().mean(0)
            learned = posterior.samples["noise_variance"][0, 0]
            torch.testing.assert_close(left, torch.full((2,), noise), rtol=0.2, atol=0)
            torch.testing.assert_close(learned, left.mean() if learned.ndim == 0 else left, rtol=0.03, atol=0)
