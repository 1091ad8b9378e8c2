"""Condition numbers are those of dense precisions."""

from __future__ import annotations

import pytest
import torch

from bayes_rpp import (
    RPPEMLP,
    BayesianModel,
    Gaussian,
    LogDensity,
    O,
    O2eR3,
    RPPPrior,
    Scalar,
    Vector,
)
from inference.density.unconstrained import UnconstrainedDensity
from inference.metrics import condition_number as conditioning
from inference.metrics.condition_number import condition_number
from inference.metrics.preconditioned import PreconditionedDensity
from tests.scenarios.conditioning import (
    STRONG,
    USELESS,
    both,
    condition,
    exact_posterior,
    linear_problem,
    space_of,
)


@both
@pytest.mark.parametrize("metric", ["identity", "diagonal", "full"])
@pytest.mark.parametrize("variances", [(1.0, 0.1), USELESS, STRONG])
def test_condition_number_of_a_linear_model_is_that_of_its_precision(parametrization, metric, variances):
    model, data = linear_problem(parametrization, variances)
    precision = exact_posterior(model, data, variances)[1]
    preconditioned, z = space_of(model, data, metric)
    found = condition_number(preconditioned, z)
    scales = preconditioned.free(torch.eye(preconditioned.size, dtype=torch.float64))
    assert found == pytest.approx(condition(scales @ precision @ scales.mT), rel=1e-5)
    if metric == "identity":
        assert found == pytest.approx(condition(precision), rel=1e-5)
    if metric == "full":
        assert found == pytest.approx(1.0, rel=1e-5)


@both
def test_condition_number_of_a_chain_of_groups_does_not_depend_on_the_temperature(parametrization):
    model, data = linear_problem(parametrization, group=[O(3), O2eR3()])
    preconditioned, z = space_of(model, data, "identity")
    exact = condition(torch.func.hessian(preconditioned.density.potential)(z))
    for temperature in (1.0, 3.0):
        assert condition_number(*space_of(model, data, "identity", temperature)) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("metric", ["identity", "diagonal", "pathway"])
def test_lanczos_finds_nearly_all_of_the_dense_number(make_small_model, bodies, monkeypatch, metric):
    """In a network with more coordinates than Lanczos takes steps, with noise that is learned; from below."""
    noise = Gaussian(noise_variance=0.2, learned=True)
    model = make_small_model(bodies, noise, dtype=torch.float64)
    preconditioned, z = space_of(model, tuple(part.double() for part in bodies.train), metric)
    dense = condition_number(preconditioned, z)
    monkeypatch.setattr(conditioning, "_DENSE", 0)
    assert preconditioned.size > 3 * conditioning._LANCZOS_STEPS
    assert 0.95 * dense < condition_number(preconditioned, z) < (1 + 1e-6) * dense


@both
def test_lanczos_is_exact_where_it_takes_a_step_for_every_coordinate(parametrization, monkeypatch):
    spaces = [space_of(*linear_problem(parametrization), metric) for metric in ("identity", "diagonal", "full")]
    dense = [condition_number(preconditioned, z) for preconditioned, z in spaces]
    monkeypatch.setattr(conditioning, "_DENSE", 0)
    assert [condition_number(preconditioned, z) for preconditioned, z in spaces] == pytest.approx(dense, rel=1e-5)


def test_condition_numbers_of_log_densities_are_refused():
    density = UnconstrainedDensity(LogDensity(lambda p: -0.5 * p["z"].square().sum(), {"z": torch.zeros(3)}), None)
    with pytest.raises(TypeError, match="BayesianModel"):
        condition_number(PreconditionedDensity(density, "identity", torch.zeros(1, 3)), torch.zeros(3))


@pytest.mark.parametrize("metric", ["identity", "diagonal"])
def test_lanczos_takes_float32_networks_with_learned_noise(metric, monkeypatch):
    """The prior of the noise is in float64, the network in float32."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 4, generator=generator), torch.randn(20, 3, generator=generator)
    network = RPPEMLP(Vector + Scalar, Vector, O(3), layers=0)
    model = BayesianModel(network, RPPPrior(dense_variance=0.1), Gaussian(0.2, learned=True))
    density = UnconstrainedDensity(model, (x, y))
    z = density.initial([0])
    preconditioned = PreconditionedDensity(density, metric, z)
    assert density.dtype == torch.float32
    exact = condition_number(preconditioned, z[0])
    monkeypatch.setattr(conditioning, "_DENSE", 0)
    found = condition_number(preconditioned, z[0])
    assert found == pytest.approx(exact, rel=1e-2)
    assert found > 1.5
