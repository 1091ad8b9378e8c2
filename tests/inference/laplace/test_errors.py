"""What Laplace refuses, and in which words."""

import logging

import pytest
import torch

from bayes_rpp import Gaussian, LogDensity
from inference import MAP, Laplace
from inference.curvature import block_structure as curvature_structure
from inference.curvature import hessian_blocks as precision
from inference.laplace import find_mode as mode_search
from inference.memory import free_memory

SHORT = MAP(epochs=20)


@pytest.fixture
def saddle():
    """U = x^2 - y^2 / 2: a saddle, with the point of rest at 0."""
    return LogDensity(lambda p: -p["z"][0].square() + 0.5 * p["z"][1].square(), {"z": torch.zeros(2).double()})


def at_zero(model):
    posterior = MAP(epochs=1, lr=1e-30).fit(model, None, seed=0)
    posterior.samples = {"z": torch.zeros(1, 1, 2, dtype=torch.float64)}
    return posterior


@pytest.mark.parametrize("curvature", ["full", "diagonal"])
def test_indefinite_hessian_is_refused_in_words(saddle, curvature):
    with pytest.raises(
        RuntimeError, match=r"no mode to expand around.*least (eigenvalue|entry) is -1.*start=.*sampler"
    ):
        Laplace(curvature).fit(saddle, None, seed=0, start=at_zero(saddle))


def test_slope_that_is_not_finite_is_refused():
    density = LogDensity(lambda p: -p["z"].abs().sqrt().sum(), {"z": torch.ones(2).double()})
    with pytest.raises(RuntimeError, match="slope is not finite: there is nothing to expand"):
        Laplace().fit(density, None, seed=0, start=at_zero(density))


def test_log_densities_have_no_layers_and_no_prior(saddle):
    with pytest.raises(ValueError, match=r"curvature='last_layer' needs a network; a LogDensity has no layers"):
        Laplace("last_layer").fit(saddle, None, seed=0)
    bowl = LogDensity(lambda p: -p["z"].square().sum(), {"z": torch.zeros(2).double()})
    posterior = Laplace(mode=SHORT, draws=2).fit(bowl, None, seed=0)
    with pytest.raises(TypeError, match="BayesianModel"):
        posterior.linearized(torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ({"curvature": "kron"}, ValueError, "'full', 'layer', 'diagonal' or 'last_layer', got 'kron'"),
        ({"draws": 0}, ValueError, "draws must be an integer of at least 1, got 0"),
        ({"draws": 2.5}, ValueError, r"draws must be an integer of at least 1, got 2\.5"),
        ({"temperature": 0.0}, ValueError, r"temperature must be positive and finite, got 0\.0"),
        ({"mode": 3}, TypeError, "mode must be a MAP, got 3; .* start="),
    ],
)
def test_wrong_settings_are_refused(setting, error, message):
    with pytest.raises(error, match=message):
        Laplace(**setting)


def refuse_training(*args, **kwargs):
    raise AssertionError("it trained before it looked at the memory")


def test_matrices_that_are_too_large_are_refused_before_the_start(make_linear_problem, monkeypatch):
    model, data = make_linear_problem(likelihood=Gaussian(0.2, learned=True))  # 2 + 21 + 3 in one layer, and 1
    monkeypatch.setattr(MAP, "fit", refuse_training)
    sizes = model.initial_params(0)
    layer = sum(value.numel() for name, value in sizes.items() if name != "noise_variance")
    full, layered, diagonal, last = 8 * (layer + 1) ** 2, 8 * (layer**2 + 1), 8 * (layer + 1), 8 * layer**2
    cases = [
        (
            "full",
            full,
            layered,
            f"It would be {layered:,} as 'layer' and {diagonal} as 'diagonal' and {last:,} as 'last",
        ),
        ("full", full, 1000, f"It would be {diagonal} as 'diagonal'."),
        ("layer", layered, layered - 1, f"It would be {diagonal} as 'diagonal' and {last:,} as 'last_layer'."),
        ("diagonal", diagonal, 100, "No other curvature would fit, either."),
    ]
    for curvature, needed, limit, instead in cases:
        monkeypatch.setattr(curvature_structure, "LARGEST_MATRIX", limit)
        message = rf"'{curvature}' of {layer + 1} parameters .* {needed:,} bytes; the limit is {limit:,}\. {instead}"
        with pytest.raises(ValueError, match=message):
            Laplace(curvature).fit(model, data, seed=0)


def test_matrices_beyond_the_free_memory_are_refused(make_linear_problem, monkeypatch):
    model, data = make_linear_problem()
    monkeypatch.setattr(MAP, "fit", refuse_training)
    monkeypatch.setattr(curvature_structure, "free_memory", lambda device: 2000)
    with pytest.raises(ValueError, match=r"its computation needs [\d,]+, and 2,000 are free"):
        Laplace().fit(model, data, seed=0)


def test_free_memory_is_a_number_of_bytes_or_unknown():
    found = free_memory(torch.device("cpu"))
    assert found is None or 2**20 < found < 2**50
    assert free_memory(torch.device("meta")) is None


def test_start_of_another_model_is_refused(make_linear_problem, saddle):
    model, data = make_linear_problem()
    with pytest.raises(ValueError, match="start is of another model"):
        Laplace().fit(model, data, seed=0, start=at_zero(saddle))


def test_ctrl_c_is_raised(make_linear_problem, monkeypatch):
    model, data = make_linear_problem()

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("inference.training.parameter_stack.ParameterStack.step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Laplace(mode=SHORT).fit(model, data, seed=0)
    monkeypatch.undo()
    monkeypatch.setattr(precision, "gauss_newton_rows", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Laplace(mode=SHORT).fit(model, data, seed=0)


def test_search_that_ends_far_from_the_mode_is_reported(make_linear_problem, monkeypatch, caplog):
    model, data = make_linear_problem()
    monkeypatch.setitem(mode_search._BUDGET, "diagonal", (1, 1))
    with caplog.at_level(logging.WARNING, logger="inference.laplace.find_mode"):
        posterior = Laplace("diagonal", mode=MAP(epochs=1), draws=2).fit(model, data, seed=0)
    assert "posterior standard deviations from the mode, after 1 steps" in caplog.text
    assert posterior.stats["newton_decrement"] > 0.1
    caplog.clear()
    Laplace(mode=MAP(epochs=1), draws=2).fit(model, data, seed=0)
    assert not caplog.records
