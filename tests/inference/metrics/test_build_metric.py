"""Metrics made from a model's curvature whiten its posterior, for every kind of model, or say why they cannot."""

import math
import re

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

from bayes_rpp import (
    RPPEMLP,
    SO,
    BayesianModel,
    Categorical,
    Gaussian,
    Likelihood,
    LogDensity,
    NormalizedNetwork,
    O,
    O2eR3,
    RPPPrior,
    Scalar,
    Vector,
)
from inference import SGLD, memory
from inference.curvature.gauss_newton import gauss_newton_rows, probe_rows
from inference.density.unconstrained import UnconstrainedDensity
from inference.metrics.build_metric import build_metric
from tests.error_rate import agrees
from tests.seeds import shifted

NAMES = ["diagonal", "layer", "full", "pathway"]
both = pytest.mark.parametrize("parametrization", ["residual", "collapsed"])


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def eye(size):
    return torch.eye(size, dtype=torch.float64)


def matrix(metric, size):
    """S."""
    return metric.color(eye(size)).mT


def covariance_of_prior(model):
    """Dense, in the model's order."""
    blocks = []
    for law in model.prior_distributions.values():
        size = math.prod(law.event_shape)
        block = law.dense_variances.double().expand(size).diag()
        for basis, variance in zip(law.bases, law.coordinate_variances, strict=True):
            block = block + basis.dense() * variance @ basis.dense().mT
        blocks.append(block)
    return torch.block_diag(*blocks)


def small_target(parametrization, group, likelihood, temperature=1.0, num_data=40):
    net = RPPEMLP(Vector + Scalar, Vector, group, layers=0, parametrization=parametrization).double()
    prior = RPPPrior(5.0, 0.02, scaling="none", pathway_variances=[5.0, 0.6] if isinstance(group, list) else None)
    x, y = normal(num_data, 4), normal(num_data, 3, seed=1)
    return UnconstrainedDensity(BayesianModel(net, prior, likelihood), (x, y), temperature)


@both
@pytest.mark.parametrize("name", ["full", "layer", "pathway"])
@pytest.mark.parametrize("group", [O(3), [O(3), O2eR3()]], ids=["group", "chain"])
def test_without_data_the_prior_becomes_white(parametrization, name, group):
    density = small_target(parametrization, group, Gaussian(noise_variance=1e14))
    metric = build_metric(name, density, density.initial([0, 1]))
    inverse = torch.linalg.inv(matrix(metric, density.size))
    white = inverse @ covariance_of_prior(density.model) @ inverse.mT
    torch.testing.assert_close(white, eye(density.size), rtol=0, atol=1e-9)


def precision_of(density):
    """The Hessian of U of a linear model, the same everywhere."""
    return torch.func.hessian(density.potential)(torch.zeros(density.size).double())


@both
@pytest.mark.parametrize("name", ["full", "layer"])
def test_a_dense_metric_whitens_the_exact_posterior(parametrization, name):
    density = small_target(parametrization, [O(3), O2eR3()], Gaussian(noise_variance=1e-3))
    dense = matrix(build_metric(name, density, density.initial([0, 1, 2])), density.size)
    values = torch.linalg.eigvalsh(dense.mT @ precision_of(density) @ dense)
    assert float(values.max() / values.min()) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(values, torch.ones(density.size).double(), rtol=0, atol=1e-6)


@both
@pytest.mark.parametrize("name", NAMES)
def test_the_temperature_scales_a_metric_as_it_does_the_posterior(parametrization, name):
    cold, hot = (
        small_target(parametrization, [O(3), O2eR3()], Gaussian(noise_variance=0.1), temperature)
        for temperature in (1.0, 3.0)
    )
    z = cold.initial([0, 1])
    roots = [matrix(build_metric(name, density, z), density.size) for density in (cold, hot)]
    torch.testing.assert_close(roots[1], math.sqrt(3) * roots[0], rtol=1e-9, atol=1e-12)


@pytest.mark.statistical
def test_the_diagonal_metric_is_about_the_diagonal():
    """256 probes know each entry to 9 percent, at most: six standard errors are far from a factor of two."""
    density = small_target("collapsed", O(3), Gaussian(noise_variance=0.1))
    precision = precision_of(density)
    found = matrix(build_metric("diagonal", density, density.initial([0])), density.size).diagonal() ** -2
    assert (found / precision.diagonal()).log().abs().max() < math.log(2)


@pytest.mark.statistical
def test_probes_are_unbiased_and_know_the_diagonal():
    density = small_target("residual", O(3), Gaussian(noise_variance=0.1), 2.0)
    z, probes = density.initial([0]), 4000
    exact = torch.cat(list(gauss_newton_rows(density, z))).square().sum(0)
    of_prior = torch.linalg.inv(covariance_of_prior(density.model)) / 2
    torch.testing.assert_close(exact, (precision_of(density) - of_prior).diagonal())
    rows = torch.cat(list(probe_rows(density, z, probes, torch.Generator().manual_seed(shifted()))))
    squares = probes * rows.square()
    assert agrees(squares, exact)
    assert not agrees(squares, 1.5 * exact)


def network_model(kind, bodies):
    options = {"channels": 16, "layers": 1}
    net = RPPEMLP(bodies.rep_in, bodies.rep_out, bodies.group, **options)
    if kind == "normalised, collapsed":
        net = RPPEMLP(bodies.rep_in, bodies.rep_out, bodies.group, **options, parametrization="collapsed")
        net = NormalizedNetwork.fit(net, *bodies.train)
    per_output = kind == "a noise for each output"
    return BayesianModel(net, RPPPrior(), Gaussian(0.2, learned=kind != "plain", per_output=per_output))


@pytest.mark.parametrize("kind", ["plain", "normalised, collapsed", "a noise for each output"])
@pytest.mark.parametrize("name", NAMES)
def test_networks_with_bilinear_layers_and_learned_noise_have_whole_metrics(bodies, kind, name):
    density = UnconstrainedDensity(network_model(kind, bodies), bodies.train)
    z = density.initial([0, 1, 2])
    if kind != "plain":
        assert list(density.shapes)[-1] == "noise_variance"
        z[:, -9:] = 6.0  # where the noise is far too broad
    metric = build_metric(name, density, z)
    vectors = normal(3, density.size).float()
    assert sum(span.stop - span.start for span in metric.spans) == density.size
    colored = metric.color(vectors)
    assert (colored.shape, colored.dtype) == (vectors.shape, torch.float32)
    assert colored.isfinite().all()
    torch.testing.assert_close(metric.whiten(colored), vectors, rtol=1e-2, atol=1e-2)
    products = (colored * vectors.flip(0)).sum(1), (vectors * metric.pull(vectors.flip(0))).sum(1)
    torch.testing.assert_close(*products, rtol=1e-3, atol=1e-3 * float(products[0].abs().max()))


@pytest.mark.parametrize("free", [-20.0, 0.0, 8.0])
@pytest.mark.parametrize("name", NAMES)
def test_a_noise_for_each_output_has_a_metric_wherever_it_starts(make_linear_problem, name, free):
    model, data = make_linear_problem(likelihood=Gaussian(0.2, learned=True, per_output=True, floor=1e-4))
    density = UnconstrainedDensity(model, data)
    z = density.initial([0])
    z[:, -3:] = free
    assert build_metric(name, density, z).color(normal(2, density.size)).isfinite().all()


@both
@pytest.mark.parametrize("name", NAMES)
def test_broad_priors_and_few_examples_have_a_metric_in_single_precision(parametrization, name):
    net = RPPEMLP(3 * Vector + 4 * Scalar, 3 * Vector + 4 * Scalar, SO(3), layers=0, parametrization=parametrization)
    model = BayesianModel(net, RPPPrior(1e5, 1.0, scaling="none"), Gaussian(noise_variance=1e-3))
    density = UnconstrainedDensity(model, (30 * normal(8, 13).float(), normal(8, 13, seed=1).float()))
    metric = build_metric(name, density, density.initial([0, 1]))
    assert metric.color(normal(2, density.size).float()).isfinite().all()


def test_class_probabilities_have_a_metric(make_linear_problem):
    model, (x, y) = make_linear_problem(likelihood=Categorical())
    density = UnconstrainedDensity(model, (x, y.argmax(1)))
    for name in NAMES:
        assert build_metric(name, density, density.initial([0])).color(normal(1, density.size)).isfinite().all()


def test_a_log_density_has_the_identity_alone():
    density = UnconstrainedDensity(LogDensity(lambda p: -p["z"].square().sum(), {"z": torch.zeros(3)}), None)
    assert build_metric(None, density, torch.zeros(1, 3)) is None
    assert build_metric("identity", density, torch.zeros(1, 3)) is None
    for name in NAMES:
        with pytest.raises(TypeError, match=f'metric="{name}" needs the outputs of a BayesianModel'):
            build_metric(name, density, torch.zeros(1, 3))


@pytest.mark.parametrize("name", ["full", "layer"])
def test_a_dense_metric_that_would_be_too_large_is_refused_with_its_bytes(monkeypatch, name):
    monkeypatch.setattr(memory, "LARGEST_MATRIX", 8 * 10**2)
    density = small_target("collapsed", O(3), Gaussian(noise_variance=0.1))
    message = f"{density.size} coordinates in one block needs a matrix of {8 * density.size**2:,} bytes"
    with pytest.raises(ValueError, match=rf"metric='{name}'.*{re.escape(message)}.*Use metric='diagonal' or 'pathway'"):
        build_metric(name, density, density.initial([0]))
    assert build_metric("pathway", density, density.initial([0])) is not None


@pytest.mark.statistical
@pytest.mark.parametrize(("name", "step_size"), [("full", 0.5), ("diagonal", 0.3)])
def test_preconditioned_sgld_has_the_variance_of_the_discretised_equation(name, step_size):
    density, spaces = small_target("collapsed", O(3), Gaussian(noise_variance=0.1), num_data=250), []

    class Watched(SGLD):
        def begin(self, preconditioned, u, random):
            spaces.append(preconditioned)
            return super().begin(preconditioned, u, random)

    engine = Watched(step_size, chains=400, warmup=150, draws=25, thin=3, metric=name)
    posterior = engine.fit(density.model, density.pair, seed=shifted(), progress=False)
    u = spaces[0].whiten(density.free(posterior.samples))
    dense = matrix(spaces[0].metric, density.size)
    values, vectors = torch.linalg.eigh(dense.mT @ precision_of(density) @ dense)
    slope = torch.func.grad(density.potential)(torch.zeros(density.size).double())
    mode = -torch.linalg.solve(precision_of(density), slope)
    along = (u - spaces[0].whiten(mode)) @ vectors
    variance = 1 / (values * (1 - step_size * values / 2))
    if name == "full":
        torch.testing.assert_close(variance, torch.full_like(variance, 4 / 3))
    per_chain = torch.cat([along.mean(1), along.square().mean(1)], dim=1)
    truth = torch.cat([torch.zeros_like(variance), variance])

    assert values.min() > 0.1  # or the warm-up would be too short
    assert agrees(per_chain, truth)
    assert not agrees(
        per_chain, torch.cat([torch.zeros_like(variance), 1 / values])
    )  # what it would be for small steps


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["plain", "normalised, collapsed", "a noise for each output"])
def test_chains_walk_in_every_metric_in_the_precision_of_the_model(bodies, name, kind):
    model = network_model(kind, bodies)
    posterior = SGLD(1e-6, chains=2, warmup=0, draws=2, metric=name).fit(model, bodies.train, seed=0, progress=False)
    assert {value.dtype for value in posterior.samples.values()} == {torch.float32}
    assert all(value.isfinite().all() for value in posterior.samples.values())


@pytest.mark.parametrize("name", NAMES)
def test_more_starts_than_examples_have_a_metric(make_linear_problem, name):
    model, data = make_linear_problem(num_data=3)
    density = UnconstrainedDensity(model, data)
    metric = build_metric(name, density, density.initial([0, 1, 2, 3, 4]))
    assert metric.color(normal(2, density.size)).isfinite().all()


class OverdispersedCounts(Likelihood):
    """Counts with a learned number without dimensions: in single precision torch has no forward mode for it."""

    def parameters(self, num_outputs):
        return {"failures": torch.tensor(2.0)}

    def priors(self, num_outputs):
        return {"failures": dist.LogNormal(0.7, 1.0)}

    def constraints(self):
        return {"failures": constraints.positive}

    def distribution(self, output, params):
        failures = params["failures"]
        return dist.NegativeBinomial(failures, logits=output - failures.log()).to_event(1)

    def check(self, y, num_outputs):
        pass


@pytest.mark.parametrize("name", ["layer", "full"])  # the others have random probes
@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")  # by torch, in log sigmoids
def test_a_users_own_parameter_has_a_metric_in_single_precision(make_small_model, bodies, name):
    x = bodies.train[0]
    densities = [
        UnconstrainedDensity(
            make_small_model(bodies, OverdispersedCounts(), dtype=dtype), (x.to(dtype), torch.ones(30, 9))
        )
        for dtype in (torch.float32, torch.float64)
    ]
    z = densities[0].initial([0, 1])
    single, double = (
        build_metric(name, density, z.to(density.dtype)).color(torch.eye(density.size, dtype=density.dtype))
        for density in densities
    )
    torch.testing.assert_close(single.double(), double, rtol=1e-2, atol=1e-3)
