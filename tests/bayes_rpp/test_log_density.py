"""LogDensity: any log density over a dict of constrained tensors."""

import math

import pytest
import torch
from torch.distributions import constraints
from torch.func import grad, vmap

from bayes_rpp import LogDensity
from tests.error_rate import z_limit
from tests.seeds import shifted


def gamma_and_normal(p):
    return (2 * p["rate"].log() - p["rate"]).sum() - 0.5 * p["z"].square().sum()


EXAMPLE = {"rate": torch.tensor([1.0, 2.0]), "z": torch.zeros(3, dtype=torch.float64)}


def target():
    return LogDensity(gamma_and_normal, EXAMPLE, {"rate": constraints.positive})


def test_the_log_joint_is_the_function_itself():
    params = {"rate": torch.tensor([0.5, 3.0]), "z": torch.ones(3).double()}
    expected = 2 * math.log(1.5) - 3.5 - 1.5
    assert float(target().log_joint(params)) == pytest.approx(expected, rel=1e-6)
    assert float(target().log_joint(params, None, None, num_data=5)) == pytest.approx(expected, rel=1e-6)
    gradient = grad(target().log_joint)(params)
    torch.testing.assert_close(gradient["rate"], 2 / params["rate"] - 1)
    stacked = {name: torch.stack([value, 2 * value]) for name, value in params.items()}
    assert vmap(target().log_joint)(stacked).shape == (2,)


def test_free_names_are_real():
    assert target().constraints == {"rate": constraints.positive, "z": constraints.real}


@pytest.mark.statistical
def test_starts_are_uniform_in_the_unconstrained_space():
    density = LogDensity(
        gamma_and_normal, {"rate": torch.ones(2000), "z": torch.zeros(3000)}, {"rate": constraints.positive}
    )
    start = density.initial_params(seed=shifted())
    for free in (start["rate"].log(), start["z"]):
        scaled = (free.double() + 2) / 4
        assert 0 < scaled.min() < 0.01 < 0.99 < scaled.max() < 1
        assert abs(float(scaled.mean()) - 0.5) < z_limit(2) / math.sqrt(12 * len(scaled))


def test_starts_go_by_the_seed_and_keep_shapes_and_types():
    state = torch.get_rng_state()
    first, again, other = (target().initial_params(seed=s) for s in (1, 1, 2))
    for name, value in EXAMPLE.items():
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])
        assert (first[name].shape, first[name].dtype) == (value.shape, value.dtype)
    assert torch.equal(state, torch.get_rng_state())


def test_a_simplex_start_is_on_the_simplex():
    density = LogDensity(lambda p: p["w"].log().sum(), {"w": torch.full((4,), 0.25)}, {"w": constraints.simplex})
    assert constraints.simplex.check(density.initial_params(seed=0)["w"])


def test_constraints_of_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"constraints name \['scale'\], but the example has \['rate', 'z'\]"):
        LogDensity(gamma_and_normal, EXAMPLE, {"scale": constraints.positive})


def test_an_example_outside_its_constraint_is_refused():
    with pytest.raises(ValueError, match=r"the example's 'rate' = \[1.0, -2.0\] breaks its constraint"):
        LogDensity(gamma_and_normal, EXAMPLE | {"rate": torch.tensor([1.0, -2.0])}, {"rate": constraints.positive})


@pytest.mark.parametrize(
    "function", [lambda p: p["z"], lambda p: p["z"].sum() + math.nan, lambda p: p["z"].sum() - math.inf]
)
def test_a_density_that_is_no_finite_scalar_is_refused(function):
    with pytest.raises(ValueError, match="must give a finite scalar at the example"):
        LogDensity(function, {"z": torch.zeros(3)})


@pytest.mark.parametrize(
    ("value", "constraint"),
    [
        (torch.eye(2), constraints.lower_cholesky),
        (torch.eye(2), constraints.positive_definite),
        (torch.eye(2), constraints.lower_triangular),
        (torch.ones(2), constraints.nonnegative_integer),
        (torch.ones(2), constraints.dependent),
    ],
)
def test_constraints_that_no_unconstrained_numbers_are_mapped_onto_are_refused(value, constraint):
    message = r"the constraint of 'v', .*, has no bijection from unconstrained numbers .* corr_cholesky"
    with pytest.raises(ValueError, match=message):
        LogDensity(lambda p: -p["v"].sum(), {"v": value}, {"v": constraint})


def test_what_is_no_constraint_is_refused():
    with pytest.raises(TypeError, match=r"constraints, such as constraints\.positive, got 'positive'"):
        LogDensity(lambda p: -p["v"].sum(), {"v": torch.ones(2)}, {"v": "positive"})
