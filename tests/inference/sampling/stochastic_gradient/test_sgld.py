"""SGLD has the stationary distribution that its equation has."""

import math

import pytest
import torch

from bayes_rpp import BayesianModel, Gaussian, LogDensity
from inference import SGLD, Cyclical, Polynomial
from inference.density.unconstrained import UnconstrainedDensity
from inference.sampling.random_streams import ChainRandom
from inference.sampling.stochastic_gradient.sgld import SGLDChains
from tests.error_rate import agrees, z_limit
from tests.seeds import shifted


def gaussian(*precisions):
    precision = torch.tensor(precisions, dtype=torch.float64)
    return LogDensity(lambda p: -0.5 * (precision * p["z"].square()).sum(), {"z": torch.zeros_like(precision)})


def z_scores(draws, mean, precision, step_size):
    """How many standard errors the means and the variances of independent coordinates, draws (chain, draw, coordinate),
    are away from those of theta <- theta - e l (theta - mean) + sqrt(2 e) xi: autocorrelation (1 - e l)^k, and of
    squares the square of it.
    """
    variance, correlation = 1 / (precision * (1 - step_size * precision / 2)), 1 - step_size * precision
    centred, (count, length) = draws - mean, draws.shape[:2]
    lags = torch.arange(1, length)[:, None]

    def effective(correlation):
        weight = (1 - lags / length) * correlation**lags
        return count * length / (1 + 2 * weight.sum(0))

    of_mean = centred.mean((0, 1)) * (effective(correlation) / variance).sqrt()
    of_variance = (centred.square().mean((0, 1)) / variance - 1) * (effective(correlation**2) / 2).sqrt()
    return torch.cat([of_mean, of_variance])


def standard_normal(scores):
    return bool(scores.abs().max() < z_limit(len(scores)))


class NoiseWithoutSquareRoot(SGLD):
    def update(self, chains, gradient, noise, step):
        return chains._replace(position=chains.position - self.step_size * gradient + 2 * self.step_size * noise)


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("engine", "right"),
    [(SGLD, True), (NoiseWithoutSquareRoot, False), (lambda *a, **k: SGLD(*a, temperature=2.0, **k), False)],
    ids=["sgld", "noise without square root", "temperature 2"],
)
def test_gaussians_have_the_variance_of_the_discretised_equation(engine, right):
    precision = torch.tensor([1.0, 4.0, 20.0, 32.0], dtype=torch.float64)  # e l = 0.05, 0.2, 1 and 1.6
    samples = (
        engine(0.05, chains=256, draws=400, warmup=300).fit(gaussian(*precision), None, seed=shifted(1)).samples["z"]
    )
    scores = z_scores(samples, 0.0, precision, 0.05)
    assert standard_normal(scores) is right
    if right:  # the score can tell: the variance of the posterior itself is 1 / l
        assert samples.var((0, 1))[2] * 20 > 1.5


@pytest.mark.statistical
def test_temperature_multiplies_the_variance_of_small_steps():
    samples = (
        SGLD(0.05, chains=256, draws=400, warmup=300, temperature=2.0).fit(gaussian(1.0), None, seed=shifted(2)).samples
    )
    assert standard_normal(z_scores(samples["z"], 0.0, torch.tensor([0.5], dtype=torch.float64), 0.05))


def exact_posterior(model, x, y, noise_variance):
    """Mean and covariance of (vec(W), b) of y = W x + b + noise, by dense matrices."""
    layer, identity = model.network.network[0], torch.eye(3, dtype=torch.float64)
    q, q_bias = layer.basis.dense(), layer.bias_basis.dense()
    prior = torch.block_diag(q @ q.mT, q_bias @ q_bias.mT) + 0.1 * torch.eye(24, dtype=torch.float64)
    features = torch.cat([torch.cat([torch.kron(identity, row[None]), identity], dim=1) for row in x])
    precision = torch.linalg.inv(prior) + features.mT @ features / noise_variance
    return torch.linalg.solve(precision, features.mT @ y.reshape(-1)) / noise_variance, precision


def regression_scores(samples, model, data, noise_variance, step_size):
    """z scores along the eigenvectors of the posterior's precision, where the coordinates are independent."""
    mean, precision = exact_posterior(model, *data, noise_variance)
    eigenvalues, vectors = torch.linalg.eigh(precision)
    assert step_size * eigenvalues[-1] < 1.6
    draws = torch.cat([samples["network.0.weight"].flatten(2), samples["network.0.bias"]], dim=2)
    return z_scores(draws @ vectors, mean @ vectors, eigenvalues, step_size)


@pytest.mark.statistical
def test_linear_rpp_regression_has_the_exact_posterior_mean_and_covariance(make_linear_problem):
    model, data = make_linear_problem("collapsed")
    step_size = 1.3 / float(torch.linalg.eigvalsh(exact_posterior(model, *data, 0.2)[1])[-1])
    samples = SGLD(step_size, chains=256, draws=120, warmup=100).fit(model, data, seed=shifted()).samples
    assert standard_normal(regression_scores(samples, model, data, 0.2, step_size))
    assert not standard_normal(regression_scores(samples, model, data, 0.25, step_size))


class WithoutMinibatchFactor(BayesianModel):
    def log_likelihood(self, params, x, y):
        return super().log_likelihood(params, x, y) * len(x) / 30  # of 30 examples


@pytest.mark.statistical
@pytest.mark.parametrize(("kind", "right"), [(BayesianModel, True), (WithoutMinibatchFactor, False)])
def test_minibatch_counts_for_all_data(make_linear_problem, kind, right):
    """With thirty copies of one example every minibatch has the gradient of all data, and no noise of its own."""
    model, (x, y) = make_linear_problem("collapsed", likelihood=Gaussian(noise_variance=5.0))
    model = kind(model.network, model.prior, model.likelihood)
    one = 1.8 * x[:1] / x[:1].norm()  # its length decides how stiff the posterior is
    data = one.expand(30, -1).contiguous(), y[:1].expand(30, -1).contiguous()
    engine = SGLD(0.04, batch_size=10, chains=256, draws=150, warmup=200)
    assert (
        standard_normal(regression_scores(engine.fit(model, data, seed=shifted()).samples, model, data, 5.0, 0.04))
        is right
    )


@pytest.mark.statistical
def test_minibatches_of_different_examples_leave_mean_and_variance_nearly_right(make_linear_problem):
    model, data = make_linear_problem("collapsed")
    engine = SGLD(1e-3, batch_size=15, chains=256, draws=20, warmup=100, thin=10)
    samples = engine.fit(model, data, seed=shifted()).samples
    mean, precision = exact_posterior(model, *data, 0.2)
    draws = torch.cat([samples["network.0.weight"].flatten(2), samples["network.0.bias"]], dim=2)
    variance = torch.linalg.inv(precision).diagonal()
    assert ((draws.mean((0, 1)) - mean) / variance.sqrt()).abs().max() < 0.15
    assert 0.95 < float((draws.var((0, 1)) / variance).mean()) < 1.1


def test_every_chain_sees_every_example_once_in_each_pass_in_its_own_order(make_linear_problem):
    model, (x, y) = make_linear_problem(num_data=12)
    random = ChainRandom(UnconstrainedDensity(model, (x, y)), [1, 2], batch_size=4)
    batches = [random.batch() for _ in range(6)]
    for passed in (batches[:3], batches[3:]):
        inputs, outputs = (torch.cat(parts, dim=1) for parts in zip(*passed, strict=True))
        for chain in range(2):
            found = (inputs[chain, :, None] == x).all(2).nonzero()[:, 1]
            assert found.sort().values.tolist() == list(range(12))
            assert torch.equal(outputs[chain], y[found])
        assert not torch.equal(inputs[0], inputs[1])
    assert not torch.equal(batches[0][0], batches[3][0])


@pytest.mark.statistical
@pytest.mark.parametrize("schedule", [Polynomial(decay_steps=100), Cyclical(cycles=2)])
def test_schedules_reach_the_gaussian(schedule):
    engine = SGLD(0.1, schedule=schedule, chains=256, draws=600, warmup=400)
    samples = engine.fit(gaussian(1.0), None, seed=shifted()).samples["z"]
    if isinstance(schedule, Cyclical):
        samples = samples.unflatten(1, (2, 300))[:, :, 100:].flatten(1, 2)  # once the noise has come back
    assert agrees(samples.square().mean(1), 1.0, allowance=0.06)  # a step e multiplies the variance by 1 / (1 - e / 2)


def test_step_sizes_follow_their_schedules():
    polynomial = SGLD(0.1, schedule=Polynomial(decay=0.6, decay_steps=10))
    assert [polynomial.step_size_at(k) for k in (0, 10, 70)] == pytest.approx([0.1, 0.1 * 2**-0.6, 0.1 * 8**-0.6])
    cyclical = SGLD(0.1, schedule=Cyclical(cycles=2), draws=4, warmup=4, thin=3)  # two cycles of eight steps
    assert [cyclical.step_size_at(k) for k in (0, 4, 8, 12)] == pytest.approx([0.1, 0.05, 0.1, 0.05])
    assert cyclical.step_size_at(7) == pytest.approx(0.05 * (1 + math.cos(math.pi * 7 / 8)))
    assert [k for k in range(16) if cyclical.explores(k)] == [0, 1, 8, 9]
    assert [k for k in range(16) if cyclical.keeps(k)] == [4, 7, 12, 15]


def test_cycles_begin_without_noise():
    engine = SGLD(0.1, schedule=Cyclical(cycles=2), draws=4, warmup=4)
    z, gradient, noise = torch.randn(3, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    explored, drawn = (engine.update(SGLDChains(z), gradient, noise, step).position for step in (4, 6))
    assert torch.equal(explored, z - 0.1 * gradient)
    torch.testing.assert_close(drawn, z - 0.05 * gradient + math.sqrt(0.1) * noise)
