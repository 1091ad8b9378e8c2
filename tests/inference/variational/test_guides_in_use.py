"""Guides in use: constraints, starts, files, interrupts and refusals."""

from __future__ import annotations

import dataclasses
import functools
import logging

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.infer.autoguide import (
    AutoDelta,
    AutoNormal,
    init_to_value,
)
from torch.distributions import constraints

from bayes_rpp import BayesianModel, Gaussian, LogDensity
from inference import Posterior, PyroGuide
from tests.scenarios.guides import AUTOMATIC, QUICK


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
    assert (posterior.draws, posterior.interrupted) == (3, True)
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
