"""What every engine must do alike."""

import dataclasses
import inspect
import io
import random
import sys

import numpy as np
import pytest
import torch

import inference
from bayes_rpp import Gaussian, LogDensity
from inference import EmpiricalBayes, Posterior
from tests.scenarios.engines import CASES

NAMES = [type(engine).__name__ for engine, _, _ in CASES]

each_engine = pytest.mark.parametrize("engine", [engine for engine, _, _ in CASES], ids=NAMES)
each_engine_and_size = pytest.mark.parametrize(("engine", "size"), [case[:2] for case in CASES], ids=NAMES)
each_of_densities = pytest.mark.parametrize("engine", [engine for engine, _, _ in CASES[:-1]], ids=NAMES[:-1])
each_of_densities_and_size = pytest.mark.parametrize(
    ("engine", "size"), [case[:2] for case in CASES[:-1]], ids=NAMES[:-1]
)


@pytest.fixture(scope="module")
def bell():
    """A Gaussian, which every engine can take."""
    precision = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    example = {"z": torch.zeros(2, dtype=torch.float64)}
    return LogDensity(lambda params: -0.5 * params["z"] @ precision @ params["z"], example)


def without_curvature(engine):
    """The engine for a LogDensity, which has no Gauss-Newton matrix and no minibatches."""
    known = {field.name for field in dataclasses.fields(engine)}
    plain = {"metric": "identity", "batch_size": None, "curvature": "full"}
    return dataclasses.replace(engine, **{name: value for name, value in plain.items() if name in known})


def assert_same_bits(found, expected):
    assert list(found) == list(expected)
    differing = [name for name, value in expected.items() if not torch.equal(found[name], value)]
    assert differing == []
    assert [found[name].dtype for name in found] == [value.dtype for value in expected.values()]


def test_every_public_engine_is_here():
    public = {name for name in inference.__all__ if hasattr(getattr(inference, name), "fit")}
    assert public == set(NAMES)


@each_engine
def test_settings_are_frozen(engine):
    for field in dataclasses.fields(engine):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(engine, field.name, getattr(engine, field.name))


@each_engine
def test_integers_of_any_type_are_taken_as_plain_ones_and_truth_values_refused(engine):
    whole = {name: value for name, value in vars(engine).items() if type(value) is int}
    taken = dataclasses.replace(engine, **{name: np.int64(value) for name, value in whole.items()})
    assert {type(getattr(taken, name)) for name in whole} <= {int}
    assert taken == engine
    for name in whole:
        with pytest.raises(ValueError, match=f"{name} must be an integer .*, got True"):
            dataclasses.replace(engine, **{name: True})


@pytest.mark.parametrize(("engine", "own"), [(case[0], case[2]) for case in CASES], ids=NAMES)
def test_fit_takes_the_same_arguments_and_then_its_own(engine, own):
    parameters = inspect.signature(engine.fit).parameters
    assert list(parameters) == ["model", "data", "seed", "device", "progress", *own]
    positional, keywords = list(parameters.values())[:2], list(parameters.values())[2:]
    assert all(parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for parameter in positional)
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in keywords)
    missing = inspect.Parameter.empty
    assert [parameter.default for parameter in positional] == [missing, missing]
    assert [parameter.default for parameter in keywords] == [missing, "auto", True, *[None] * len(own)]


@each_engine_and_size
def test_posterior_has_one_tensor_a_parameter_with_chain_and_draw_first(engine, size, make_small_model, bodies):
    model = make_small_model(bodies, Gaussian(noise_variance=0.2, learned=True))
    posterior = engine.fit(model, bodies.train, seed=7)
    assert isinstance(posterior, Posterior)
    shapes = {name: tuple(value.shape) for name, value in posterior.samples.items()}
    learned = isinstance(engine, EmpiricalBayes)  # and the model is one with the learned variances
    of = posterior.bayesian_model if learned else model
    assert shapes == {name: (*size, *value.shape) for name, value in of.initial_params(0).items()}
    assert (posterior.chains, posterior.draws) == size
    assert {tuple(value.shape) for value in posterior.sample_stats.values()} <= {size}
    tensors = [*posterior.samples.values(), *posterior.sample_stats.values()]
    assert not any(value.requires_grad for value in tensors)
    assert {value.device.type for value in tensors} == {"cpu"}
    assert {value.dtype for value in posterior.samples.values()} == {torch.float32}
    assert (posterior.model is model) != learned
    assert torch.isfinite(posterior.log_joint()).all()
    assert posterior.predict(bodies.test.x).samples.shape == (*size, *bodies.test.y.shape)


@each_engine_and_size
def test_posterior_says_where_it_is_from(engine, size, make_small_model, bodies):
    name, (chains, draws) = type(engine).__name__, size
    posterior = engine.fit(make_small_model(bodies), bodies.train, seed=7)
    assert (posterior.stats["engine"], posterior.stats["seed"]) == (name, 7)
    assert 0 <= posterior.stats["seconds"] < 600
    assert repr(posterior).startswith(f"Posterior({name}: {chains} chain(s) x {draws} draw(s), ")


@each_engine
def test_same_seed_same_bits_and_another_seed_others(engine, make_small_model, bodies):
    model = make_small_model(bodies)
    first, again, other = (engine.fit(model, bodies.train, seed=seed) for seed in (4, 4, 5))
    assert_same_bits(again.samples, first.samples)
    assert_same_bits(again.sample_stats, first.sample_stats)
    assert not any(torch.equal(value, other.samples[name]) for name, value in first.samples.items())
    for value in first.samples.values():  # and no chain is another
        assert all(not torch.equal(value[i], value[j]) for i in range(first.chains) for j in range(i))


@each_engine
def test_global_random_state_neither_matters_nor_moves(engine, make_small_model, bodies):
    def states():
        name, numbers, *places = np.random.get_state()  # noqa: NPY002
        return torch.get_rng_state().tolist(), (name, numbers.tolist(), *places), random.getstate()

    model, found = make_small_model(bodies), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        before = states()
        found.append(engine.fit(model, bodies.train, seed=4).samples)
        assert states() == before
    assert_same_bits(found[1], found[0])


@each_engine
def test_the_users_network_and_data_are_left_as_they_were(engine, make_small_model, bodies):
    model, data = make_small_model(bodies), tuple(part.clone() for part in bodies.train)
    before = {name: value.detach().clone() for name, value in model.network.state_dict().items()}
    network, probe = model.network, model.network(bodies.test.x)
    engine.fit(model, data, seed=0)
    assert model.network is network
    assert_same_bits(network.state_dict(), before)
    assert torch.equal(network(bodies.test.x), probe)
    assert all(value.grad is None and value.requires_grad for value in network.parameters())
    assert network.training
    assert all(torch.equal(part, given) for part, given in zip(data, bodies.train, strict=True))


@each_engine
def test_arrays_and_datasets_are_the_same_as_tensors(engine, make_small_model, bodies):
    model, (x, y) = make_small_model(bodies), bodies.train
    dataset = torch.utils.data.TensorDataset(x, y)
    expected = engine.fit(model, (x, y), seed=0).samples
    for data in ([x.numpy(), y.numpy()], (x.double().numpy(), y.double().numpy()), dataset):
        assert_same_bits(engine.fit(model, data, seed=0).samples, expected)


@each_of_densities_and_size
def test_log_density_needs_no_data(engine, size, bell):
    posterior = without_curvature(engine).fit(bell, None, seed=0)
    assert posterior.samples["z"].shape == (*size, 2)
    assert posterior.samples["z"].dtype == torch.float64
    assert posterior.data is None
    assert torch.isfinite(posterior.log_joint()).all()
    with pytest.raises(TypeError, match="BayesianModel"):
        posterior.predict(torch.zeros(1, 2))


@each_engine
def test_round_trip_through_files_is_exact(engine, make_small_model, bodies, tmp_path):
    posterior = engine.fit(make_small_model(bodies), bodies.train, seed=0)
    loaded = Posterior.load(posterior.save(tmp_path / "run"))
    assert_same_bits(loaded.samples, posterior.samples)
    assert_same_bits(loaded.sample_stats, posterior.sample_stats)
    assert loaded.stats == posterior.stats
    assert torch.equal(loaded.predict(bodies.test.x).variance, posterior.predict(bodies.test.x).variance)
    assert torch.equal(loaded.log_joint(), posterior.log_joint())


@each_engine
def test_data_are_refused_at_the_door(engine, make_small_model, bodies, bell):
    model, (x, y) = make_small_model(bodies), bodies.train
    with pytest.raises(ValueError, match="needs data"):
        engine.fit(model, None, seed=0)
    with pytest.raises(ValueError, match="pass data=None"):
        engine.fit(bell, (x, y), seed=0)
    with pytest.raises(TypeError, match=r"data must be a pair .* length 3"):
        engine.fit(model, (x, y, y), seed=0)
    with pytest.raises(ValueError, match=r"\(30, 19\).*size 20"):
        engine.fit(model, (x[:, 1:], y), seed=0)
    spoilt = y.clone()
    spoilt[3, 5] = np.nan
    with pytest.raises(ValueError, match=r"y holds 1 NaN or infinite number\(s\), the first at index \(3, 5\)"):
        engine.fit(model, (x, spoilt), seed=0)


@each_of_densities
def test_a_seed_is_an_integer_of_any_kind(engine, bell, tmp_path):
    plain, other = (without_curvature(engine).fit(bell, None, seed=seed) for seed in (3, np.int64(3)))
    assert all(torch.equal(other.samples[name], value) for name, value in plain.samples.items())
    assert Posterior.load(other.save(tmp_path / "run"), model=bell).stats["seed"] == 3
    for wrong in (1.5, True, "0", None):
        with pytest.raises(TypeError, match="seed must be an integer, got"):
            without_curvature(engine).fit(bell, None, seed=wrong)
    for wrong in (-(2**63) - 1, 2**64):
        with pytest.raises(ValueError, match=rf"seed must be an integer from -2\*\*63 to 2\*\*64 - 1, got {wrong}"):
            without_curvature(engine).fit(bell, None, seed=wrong)


@each_of_densities
@pytest.mark.parametrize(
    ("terminal", "progress", "shown"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_progress_bar_needs_a_terminal_and_leave(engine, bell, monkeypatch, terminal, progress, shown):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    without_curvature(engine).fit(bell, None, seed=0, progress=progress)
    assert ("100%" in stream.getvalue()) == shown
    assert bool(stream.getvalue()) == shown
