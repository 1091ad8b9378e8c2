"""Pyro's guides: exact where the posterior is in their family, and as good as the family elsewhere."""

import dataclasses
import functools
import logging
import math
from statistics import NormalDist

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoIAFNormal,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    init_to_value,
)
from torch.distributions import Gamma, constraints

from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, LogDensity, RPPPrior, Scalar, Vector
from inference import MAP, Posterior, PyroGuide
from inference.density.unconstrained import UnconstrainedDensity
from tests.error_rate import z_limit
from tests.seeds import shifted

QUICK = PyroGuide(AutoNormal, steps=4, draws=5)
AUTOMATIC = [
    AutoNormal,
    AutoDiagonalNormal,
    AutoMultivariateNormal,
    functools.partial(AutoLowRankMultivariateNormal, rank=2),
    functools.partial(AutoIAFNormal, hidden_dim=[40]),
    AutoDelta,
]


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


@pytest.fixture
def gamma():
    """Gamma(3, 2) over a positive number."""
    example = {"rate": torch.tensor(1.0, dtype=torch.float64)}
    return LogDensity(lambda p: Gamma(3.0, 2.0).log_prob(p["rate"]), example, {"rate": constraints.positive})


@pytest.fixture
def regression():
    """A small linear layer in float64, vector + scalar -> scalar, and data: the posterior is Gaussian."""
    generator = torch.Generator().manual_seed(shifted(5))
    network = RPPEMLP(Vector + Scalar, Scalar, SO(3), layers=0).double()
    x = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    weight = torch.randn(4, 1, generator=generator, dtype=torch.float64)
    y = x @ weight + 0.3 * torch.randn(30, 1, generator=generator, dtype=torch.float64)
    prior = RPPPrior(equivariant_variance=1.0, dense_variance=0.1, scaling="none")
    return BayesianModel(network, prior, Gaussian(noise_variance=0.2)), (x, y)


@pytest.mark.statistical
def test_full_rank_guide_recovers_the_exact_posterior_of_linear_regression(regression):
    model, data = regression
    mean, precision = quadratic(model, data)
    watched = Watched(AutoMultivariateNormal)
    posterior = PyroGuide(watched, steps=1200, lr=0.05, particles=2, draws=1000).fit(model, data, seed=shifted())
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
    posterior = PyroGuide(AutoLaplaceApproximation, steps=1000, lr=0.2, draws=1000).fit(model, data, seed=shifted())
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
    assert fitted == pytest.approx({"shape": 3.0, "rate": 2.0}, rel=0.05)
    assert posterior.stats["elbo"] == pytest.approx(0.0, abs=0.01)
    assert posterior.stats["guide"] == "guide"
    assert float(posterior.samples["rate"].mean()) == pytest.approx(1.5, rel=0.1)


@pytest.mark.statistical
def test_a_log_density_has_its_jacobian(gamma):
    """log rate of Gamma(3, 2): a log-normal guide stays within its KL of it, and near its first moment."""
    posterior = PyroGuide(AutoNormal, steps=800, lr=0.05, particles=4, draws=2000).fit(gamma, None, seed=shifted())
    rate = posterior.samples["rate"]
    logarithm = float(torch.digamma(torch.tensor(3.0, dtype=torch.float64))) - math.log(2)
    assert float(rate.log().mean()) == pytest.approx(logarithm, abs=0.08)  # without a Jacobian: digamma(2) - log 2
    assert -0.05 < posterior.stats["elbo"] < 0.01


@pytest.mark.parametrize("guide", AUTOMATIC, ids=lambda g: getattr(g, "func", g).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_automatic_guides_stay_in_the_constraints_and_the_type_of_a_model(regression, guide, dtype):
    plain, data = regression
    noise = Gaussian(noise_variance=0.4, learned=True, floor=0.3)
    model = BayesianModel(plain.network.to(dtype), plain.prior, noise)
    posterior = PyroGuide(guide, steps=5, draws=20).fit(model, data, seed=0)
    expected = {name: (1, 20, *value.shape) for name, value in model.initial_params(0).items()}
    assert {name: tuple(value.shape) for name, value in posterior.samples.items()} == expected
    assert {value.dtype for value in posterior.samples.values()} == {dtype}
    assert torch.get_default_dtype() == torch.float32
    assert not any(value.requires_grad for value in posterior.samples.values())
    assert (posterior.samples["noise_variance"] > 0.3).all()


@pytest.mark.parametrize("guide", AUTOMATIC, ids=lambda g: getattr(g, "func", g).__name__)
def test_automatic_guides_stay_in_the_constraints_of_a_log_density(guide):
    example = {"p": torch.full((3,), 1 / 3), "rate": torch.ones(2), "z": torch.zeros(2, 2)}
    bounds = {"p": constraints.simplex, "rate": constraints.positive}
    density = LogDensity(lambda p: sum(v.square().sum() * -0.5 for v in p.values()), example, bounds)
    samples = PyroGuide(guide, steps=5, draws=20).fit(density, None, seed=0).samples
    assert {name: value.shape for name, value in samples.items()} == {
        "p": (1, 20, 3),
        "rate": (1, 20, 2),
        "z": (1, 20, 2, 2),
    }
    torch.testing.assert_close(samples["p"].sum(-1), torch.ones(1, 20))
    assert (samples["rate"] > 0).all()


def test_automatic_guides_start_at_the_models_initial_state(make_small_model, bodies):
    """Pyro's own start, zero, is a saddle of a network: nothing but the last bias would move."""
    model = make_small_model(bodies)
    near = PyroGuide(AutoDelta, steps=1, lr=1e-12, draws=1).fit(model, bodies.train, seed=3).samples
    for name, value in model.initial_params(3).items():
        torch.testing.assert_close(near[name][0, 0], value)
    zeros = {name: torch.zeros_like(value) for name, value in model.initial_params(3).items()}
    own = functools.partial(AutoDelta, init_loc_fn=init_to_value(values=zeros))
    chosen = PyroGuide(own, steps=1, lr=1e-12, draws=1).fit(model, bodies.train, seed=3).samples
    assert all(float(value.abs().max()) < 1e-6 for value in chosen.values())


def test_parameter_store_and_random_state_are_left_alone(make_linear_problem):
    model, data = make_linear_problem()
    store = pyro.get_param_store()
    try:
        mine = pyro.param("AutoNormal.locs.network.0.dense", torch.tensor([2.0]), constraint=constraints.positive)
        torch.manual_seed(1)
        first = QUICK.fit(model, data, seed=4).samples
        torch.manual_seed(2)
        state = torch.get_rng_state()
        again, other = (QUICK.fit(model, data, seed=seed).samples for seed in (4, 5))
        assert torch.equal(torch.get_rng_state(), state)
        assert list(store.keys()) == ["AutoNormal.locs.network.0.dense"]
        assert torch.equal(store["AutoNormal.locs.network.0.dense"], mine)
    finally:
        store.clear()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["network.0.dense"], other["network.0.dense"])


def test_posterior_predicts_is_saved_and_goes_to_arviz(make_small_model, bodies, tmp_path):
    model = make_small_model(bodies, Gaussian(0.2, learned=True))
    before = {name: value.detach().clone() for name, value in model.network.named_parameters()}
    posterior = dataclasses.replace(QUICK, steps=150).fit(model, bodies.train, seed=0)
    assert all(torch.equal(value, before[name]) for name, value in model.network.named_parameters())
    assert all(value.grad is None for value in model.network.parameters())
    assert posterior.predict(bodies.test.x).samples.shape == (1, 5, 12, 9)
    loaded = Posterior.load(posterior.save(tmp_path / "run"))
    assert all(torch.equal(loaded.samples[name], value) for name, value in posterior.samples.items())
    assert loaded.stats == posterior.stats
    assert posterior.to_arviz().posterior["network.1.beta"].shape[:2] == (1, 5)
    assert {"engine": "PyroGuide", "guide": "AutoNormal", "seed": 0, "steps": 150}.items() <= posterior.stats.items()
    history = posterior.stats["elbo_history"]
    assert len(history) == 75  # every other
    assert history[0] < posterior.stats["elbo"]


def test_interrupt_stops_the_optimisation_and_draws(make_linear_problem, monkeypatch, caplog):
    model, data = make_linear_problem()
    likelihood, calls = type(model).output, []

    def interrupted(self, params, x):
        calls.append(1)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return likelihood(self, params, x)

    monkeypatch.setattr(type(model), "output", interrupted)
    stop = 10
    with caplog.at_level(logging.WARNING):
        posterior = PyroGuide(AutoDelta, steps=100, draws=3).fit(model, data, seed=0)
    assert posterior.draws == 3
    assert posterior.stats["steps"] == len(posterior.stats["elbo_history"]) < 10
    assert "of 100; drawing from the guide" in caplog.text
    store = dict(pyro.get_param_store().items())
    calls.clear()
    stop = 2  # the first is that from which the guide takes its sites
    with pytest.raises(KeyboardInterrupt):
        PyroGuide(AutoDelta, steps=100, draws=3).fit(model, data, seed=0)
    assert dict(pyro.get_param_store().items()) == store


def test_a_guide_that_diverges_names_the_step():
    density = LogDensity(lambda p: -p["z"].square().sum(), {"z": torch.zeros(2)})
    with pytest.raises(RuntimeError, match=r"guide diverged in step \d of 50: .* try a smaller lr than 1e\+30"):
        PyroGuide(AutoNormal, steps=50, lr=1e30).fit(density, None, seed=0)


def test_guides_of_other_sites_and_no_guides_are_refused(make_linear_problem):
    model, data = make_linear_problem()

    def partial_guide(x, y):
        pyro.sample("network.0.beta", dist.Normal(0.0, 1.0).expand([2]).to_event(1))

    with pytest.raises(ValueError, match=r"one sample site for each parameter, \{.*'network\.0\.dense'.*it has \{"):
        PyroGuide(lambda model: partial_guide).fit(model, data, seed=0)
    with pytest.raises(TypeError, match="guide must return a guide"):
        PyroGuide(lambda model: None).fit(model, data, seed=0)
    with pytest.raises(TypeError, match=r"guide must be a class or function .* got 'AutoNormal'"):
        PyroGuide("AutoNormal")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"steps": 0}, "steps must be an integer of at least 1, got 0"),
        ({"particles": 1.5}, r"particles must be an integer of at least 1, got 1\.5"),
        ({"draws": 0}, "draws must be an integer of at least 1, got 0"),
        ({"lr": 0.0}, r"lr must be positive and finite, got 0\.0"),
        ({"lr": float("nan")}, "lr must be positive and finite, got nan"),
    ],
)
def test_wrong_settings_are_refused_by_name(setting, message):
    with pytest.raises(ValueError, match=message):
        PyroGuide(AutoNormal, **setting)
