"""What every engine must do alike."""

import dataclasses
import inspect
import io
import sys

import numpy as np
import pytest
import torch

from inference import MAP, DeepEnsemble, Posterior

SETTINGS = {"epochs": 3, "batch_size": 8, "lr": 1e-2, "snapshots": 2}
ENGINES = [MAP(**SETTINGS), DeepEnsemble(members=3, **SETTINGS)]

pytestmark = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: type(engine).__name__)


def chains(engine):
    return getattr(engine, "members", 1)


def test_settings_are_frozen(engine):
    with pytest.raises(dataclasses.FrozenInstanceError):
        engine.lr = 1.0


def test_fit_takes_the_same_arguments(engine):
    parameters = inspect.signature(engine.fit).parameters
    assert list(parameters) == ["model", "data", "seed", "device", "progress"]
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in ("seed", "device", "progress"))
    assert parameters["seed"].default is inspect.Parameter.empty
    assert (parameters["device"].default, parameters["progress"].default) == ("auto", True)


def test_posterior_has_one_tensor_a_parameter_with_chain_and_draw_first(engine, make_small_model, bodies):
    model = make_small_model(bodies)
    posterior = engine.fit(model, bodies.train, seed=0)
    assert isinstance(posterior, Posterior)
    shapes = {name: tuple(value.shape) for name, value in posterior.samples.items()}
    assert shapes == {name: (chains(engine), 1, *value.shape) for name, value in model.network.named_parameters()}
    assert (posterior.chains, posterior.draws) == (chains(engine), 1)
    assert not any(value.requires_grad for value in posterior.samples.values())
    assert posterior.stats["engine"] == type(engine).__name__
    assert type(engine).__name__ in repr(posterior)


def test_training_lowers_the_loss(engine, make_small_model, bodies):
    model = make_small_model(bodies)
    longer = dataclasses.replace(engine, epochs=30)
    before, after = (e.fit(model, bodies.train, seed=0).log_likelihood(*bodies.train).sum() for e in (engine, longer))
    assert after > before


def test_same_seed_same_bits_and_another_seed_others(engine, make_small_model, bodies):
    model = make_small_model(bodies)
    first, again, other = (engine.fit(model, bodies.train, seed=seed).samples for seed in (4, 4, 5))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["network.1.beta"], other["network.1.beta"])


def test_global_random_state_neither_matters_nor_moves(engine, make_small_model, bodies):
    model = make_small_model(bodies)
    torch.manual_seed(1)
    first = engine.fit(model, bodies.train, seed=4).samples
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = engine.fit(model, bodies.train, seed=4).samples
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_users_network_is_left_as_it_was(engine, make_small_model, bodies):
    model = make_small_model(bodies)
    before = {name: value.detach().clone() for name, value in model.network.named_parameters()}
    network, probe = model.network, model.network(bodies.test.x)
    engine.fit(model, bodies.train, seed=0)
    assert model.network is network
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())
    assert torch.equal(network(bodies.test.x), probe)
    assert all(value.grad is None for value in network.parameters())


def test_arrays_and_datasets_are_the_same_as_tensors(engine, make_small_model, bodies):
    model, (x, y) = make_small_model(bodies), bodies.train
    dataset = torch.utils.data.TensorDataset(x, y)
    expected = engine.fit(model, (x, y), seed=0).samples
    for data in ([x.numpy(), y.numpy()], (x.double().numpy(), y.double().numpy()), dataset):
        samples = engine.fit(model, data, seed=0).samples
        assert all(torch.equal(samples[name], expected[name]) for name in expected)


def test_log_density_needs_no_data(engine, slope):
    posterior = engine.fit(slope, None, seed=0)
    assert posterior.samples["z"].shape == (chains(engine), 1, 2)
    assert posterior.data is None
    with pytest.raises(TypeError, match="BayesianModel"):
        posterior.predict(torch.zeros(1, 2))


def test_round_trip_through_files_is_exact(engine, make_small_model, bodies, tmp_path):
    posterior = engine.fit(make_small_model(bodies), bodies.train, seed=0)
    loaded = Posterior.load(posterior.save(tmp_path / "run"))
    assert all(torch.equal(loaded.samples[name], value) for name, value in posterior.samples.items())
    assert torch.equal(loaded.predict(bodies.test.x).variance, posterior.predict(bodies.test.x).variance)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"lr": -1.0}, "lr must be positive and finite, got -1"),
        ({"lr": float("nan")}, "lr must be positive and finite, got nan"),
        ({"epochs": 0}, "epochs must be an integer of at least 1, got 0"),
        ({"epochs": None}, "epochs must be an integer of at least 1, got None"),
        ({"epochs": 2.0}, r"epochs must be an integer of at least 1, got 2\.0"),
        ({"batch_size": 0}, "batch_size must be .* of at least 1.*, got 0"),
        ({"snapshots": -1}, "snapshots must be an integer of at least 0, got -1"),
        ({"snapshots": None}, "snapshots must be an integer of at least 0, got None"),
        ({"schedule": "cosin"}, "schedule must be 'constant' or 'cosine', got 'cosin'"),
    ],
)
def test_wrong_settings_are_refused_by_name(engine, setting, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(engine, **setting)


def test_data_are_refused_at_the_door(engine, make_small_model, bodies, slope):
    model, (x, y) = make_small_model(bodies), bodies.train
    with pytest.raises(ValueError, match=r"needs data"):
        engine.fit(model, None, seed=0)
    with pytest.raises(ValueError, match=r"pass data=None"):
        engine.fit(slope, (x, y), seed=0)
    with pytest.raises(ValueError, match=r"\(30, 19\).*size 20"):
        engine.fit(model, (x[:, 1:], y), seed=0)
    spoilt = y.clone()
    spoilt[3, 5] = np.nan
    with pytest.raises(ValueError, match=r"y holds 1 NaN or infinite number\(s\), the first at index \(3, 5\)"):
        engine.fit(model, (x, spoilt), seed=0)


def test_unknown_devices_and_missing_seeds_are_errors(engine, make_small_model, bodies):
    with pytest.raises(TypeError, match="seed"):
        engine.fit(make_small_model(bodies), bodies.train)
    with pytest.raises(RuntimeError, match="nowhere"):
        engine.fit(make_small_model(bodies), bodies.train, seed=0, device="nowhere")


@pytest.mark.parametrize(
    ("terminal", "progress", "shown"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_progress_bar_needs_a_terminal_and_leave(engine, slope, monkeypatch, terminal, progress, shown):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    engine.fit(slope, None, seed=0, progress=progress)
    assert (f"training {chains(engine)} member(s)" in stream.getvalue()) == shown
