"""Pyro's guides: exact where the posterior is in their family, and as good as the family elsewhere."""

import functools
import math
from statistics import NormalDist

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoLaplaceApproximation,
    AutoMultivariateNormal,
    AutoNormal,
    init_to_value,
)
from torch.distributions import Gamma, constraints, kl_divergence

from bayes_rpp import BayesianModel, Gaussian, LogDensity
from inference import MAP, PyroGuide
from inference.density.unconstrained import UnconstrainedDensity
from tests.error_rate import z_limit
from tests.seeds import shifted


class Watched:
    """Makes guides of a class, and remembers the last."""

    def __init__(self, guide):
        self.guide = guide

    def __call__(self, model):
        self.last = self.guide(model)
        return self.last


def quadratic(model, data):
    """Mean and precision of a Gaussian posterior over the parameters as one vector."""
    density = UnconstrainedDensity(model, data)
    origin = torch.zeros(density.size, dtype=density.dtype)
    precision = torch.func.hessian(density.potential)(origin)
    return -torch.linalg.solve(precision, torch.func.grad(density.potential)(origin)), precision


def divergence(mean, covariance, exact_mean, precision):
    """KL(N(mean, covariance) || N(exact_mean, precision^-1)), in nats."""
    step, product = mean - exact_mean, precision @ covariance
    return 0.5 * float(product.trace() - len(mean) - product.logdet() + step @ precision @ step)


def standard_normal(draws):
    """Whether independent draws, (draw, n), have means 0 and variances 1."""
    count, size = draws.shape
    scores = torch.cat([draws.mean(0) * count**0.5, (draws.square().mean(0) - 1) * (count / 2) ** 0.5])
    return bool(scores.abs().max() < z_limit(2 * size))


@pytest.mark.statistical
def test_full_rank_guide_recovers_the_exact_posterior_of_linear_regression(regression):
    model, data = regression
    mean, precision = quadratic(model, data)
    watched = Watched(AutoMultivariateNormal)
    posterior = PyroGuide(watched, steps=2000, lr=0.05, particles=2, draws=1000).fit(model, data, seed=shifted())
    law = watched.last.get_posterior()
    fitted = divergence(law.mean.detach(), law.covariance_matrix.detach(), mean, precision)
    best_diagonal = divergence(mean, torch.diag(1 / precision.diagonal()), mean, precision)
    assert fitted < 0.1 < 0.1 * best_diagonal
    # ELBO = log evidence - KL, and Laplace's formula for the evidence is exact here
    density = UnconstrainedDensity(model, data)
    evidence = -density.potential(mean) + 0.5 * (len(mean) * math.log(2 * math.pi) - precision.logdet())
    assert posterior.stats["elbo"] == pytest.approx(float(evidence) - fitted, abs=0.05)
    # the draws are the guide's
    draws = density.free({name: value[0] for name, value in posterior.samples.items()})
    whitened = torch.linalg.solve_triangular(law.scale_tril.detach(), (draws - law.mean.detach()).mT, upper=False)
    assert standard_normal(whitened.mT)


@pytest.mark.statistical
@pytest.mark.parametrize("guide", [AutoNormal, AutoDiagonalNormal])
def test_mean_field_guides_have_the_exact_mean_and_the_conditional_variances(regression, guide):
    """The nearest N(m, diag(s)) in KL(q || p) to a Gaussian has its mean, and s_i = 1 / precision_ii (Bishop 10.1)."""
    model, data = regression
    mean, precision = quadratic(model, data)
    watched = Watched(guide)
    PyroGuide(watched, steps=1200, lr=0.05, particles=2, draws=1).fit(model, data, seed=shifted())
    levels = [0.5, NormalDist().cdf(1.0)]
    quantiles = watched.last.quantiles(levels, *data)
    middle, above = (
        UnconstrainedDensity(model, data).free({name: quantiles[name][k].detach() for name in model.constraints})
        for k in (0, 1)
    )
    exact = precision.diagonal().rsqrt()
    best = divergence(mean, exact.square().diag(), mean, precision)
    assert divergence(middle, (above - middle).square().diag(), mean, precision) - best < 0.1 < 0.1 * best
    assert float(((above - middle) / exact).log().abs().max()) < 0.15
    marginal = torch.linalg.inv(precision).diagonal().sqrt()
    assert float(((above - middle) / marginal).min()) < 0.5  # and not the posterior's own deviations


@pytest.mark.statistical
def test_auto_delta_is_the_map(regression):
    plain, data = regression
    model = BayesianModel(plain.network, plain.prior, Gaussian(noise_variance=0.2, learned=True))
    delta = PyroGuide(AutoDelta, steps=1000, lr=0.2, draws=2).fit(model, data, seed=shifted())
    mode = MAP(epochs=1000, batch_size=None, lr=0.2).fit(model, data, seed=shifted(1))
    for name, value in mode.samples.items():
        torch.testing.assert_close(delta.samples[name][:, :1], value, rtol=1e-4, atol=1e-5)
        assert torch.equal(delta.samples[name][:, 0], delta.samples[name][:, 1])


@pytest.mark.statistical
def test_laplace_guide_is_exact_for_linear_regression(regression):
    model, data = regression
    mean, precision = quadratic(model, data)
    posterior = PyroGuide(AutoLaplaceApproximation, steps=500, lr=0.2, draws=1000).fit(model, data, seed=shifted())
    draws = UnconstrainedDensity(model, data).free({name: value[0] for name, value in posterior.samples.items()})
    assert standard_normal((draws - mean) @ torch.linalg.cholesky(precision))
    assert not standard_normal((draws - mean) @ torch.linalg.cholesky(2 * precision))


def test_laplace_guide_away_from_a_mode_says_so():
    saddle = LogDensity(lambda p: p["z"].square().sum().cos(), {"z": torch.full((2,), 1.8, dtype=torch.float64)})
    start = init_to_value(values={"z": torch.full((2,), 1.0, dtype=torch.float64)})
    guide = functools.partial(AutoLaplaceApproximation, init_loc_fn=start)
    with pytest.raises(RuntimeError, match="after 1 steps the guide is at no mode"):
        PyroGuide(guide, steps=1, lr=1e-6, draws=1).fit(saddle, None, seed=0)


@pytest.mark.statistical
def test_a_hand_written_guide_of_a_log_density_finds_the_law_that_it_can_be(gamma):
    """The family holds the target, Gamma(3, 2), and the normalised density has log evidence zero."""

    def guide():
        shape = pyro.param("shape", torch.tensor(1.0, dtype=torch.float64), constraint=constraints.positive)
        rate = pyro.param("rate_of_q", torch.tensor(1.0, dtype=torch.float64), constraint=constraints.positive)
        pyro.sample("rate", dist.Gamma(shape, rate))
        fitted.update(shape=shape.item(), rate=rate.item())

    fitted = {}
    posterior = PyroGuide(lambda model: guide, steps=800, lr=0.05, particles=4, draws=2000).fit(
        gamma, None, seed=shifted()
    )
    law, truth = (Gamma(*numbers) for numbers in ((fitted["shape"], fitted["rate"]), (3.0, 2.0)))
    gap = float(kl_divergence(law, truth))
    assert gap < 0.01
    # The log ratio of nearly equal densities has about twice the KL as its variance; the mean is over 2,000 draws.
    assert abs(posterior.stats["elbo"] + gap) < 1.5 * z_limit() * math.sqrt(2 * gap / 2000) + 1e-4
    assert posterior.stats["guide"] == "guide"
    assert float(posterior.samples["rate"].mean()) == pytest.approx(1.5, rel=0.1)


@pytest.mark.statistical
def test_a_log_density_has_its_jacobian(gamma):
    """log rate of Gamma(3, 2): a log-normal guide stays within its KL of it, and near its first moment, which would be
    digamma(2) - log 2 without a Jacobian."""
    posterior = PyroGuide(AutoNormal, steps=800, lr=0.05, particles=4, draws=2000).fit(gamma, None, seed=shifted())
    rate = posterior.samples["rate"]
    logarithm = float(torch.digamma(torch.tensor(3.0, dtype=torch.float64))) - math.log(2)
    assert float(rate.log().mean()) == pytest.approx(logarithm, abs=0.25)  # half way to that without a Jacobian
    assert -0.1 < posterior.stats["elbo"] < 0.03  # the KL is 0.027
