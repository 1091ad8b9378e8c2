"""What all stochastic-gradient samplers share: seeds, starts, divergence, interrupts, memory, refusals."""

import gc
import logging

import pytest
import torch
from torch.distributions import LogNormal, constraints

from bayes_rpp import Gaussian, LogDensity
from inference import MAP, SGHMC, SGLD, Cyclical, Polynomial, Posterior
from inference.sampling import chain_sampler as chains
from inference.sampling.stochastic_gradient.minibatch_gradient import StochasticGradientSampler

ENGINES = [SGLD(1e-3, chains=3, draws=6, warmup=4), SGHMC(1e-3, friction=5.0, chains=3, draws=6, warmup=4)]


def gaussian(*precisions):
    precision = torch.tensor(precisions, dtype=torch.float64)
    return LogDensity(lambda p: -0.5 * (precision * p["z"].square()).sum(), {"z": torch.zeros_like(precision)})


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("batch_size", [None, 8])
def test_chains_run_together_are_those_run_alone(make_linear_problem, monkeypatch, engine, batch_size):
    model, data = make_linear_problem()
    settings = {**vars(engine), "batch_size": batch_size}
    together = type(engine)(**settings).fit(model, data, seed=7).samples
    seeds = chains.chain_seeds(7, 3)
    for chain in range(3):
        monkeypatch.setattr(chains, "chain_seeds", lambda seed, count, own=seeds[chain]: [own])
        alone = type(engine)(**{**settings, "chains": 1}).fit(model, data, seed=7).samples
        for name, value in together.items():
            torch.testing.assert_close(value[chain], alone[name][0], rtol=1e-12, atol=1e-12)
    assert (together["network.0.dense"][0] - together["network.0.dense"][1]).abs().min() > 1e-6


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: type(e).__name__)
def test_same_seed_gives_the_same_bits_and_another_seed_others(make_linear_problem, engine):
    model, data = make_linear_problem(likelihood=Gaussian(noise_variance=0.5, learned=True))
    first, again, other = (engine.fit(model, data, seed=seed).samples for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all((first[name] != other[name]).any() for name in first)
    assert (first["noise_variance"] > 0).all()


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: type(e).__name__)
def test_result_has_chains_draws_and_a_record(make_linear_problem, engine, tmp_path):
    model, data = make_linear_problem()
    posterior = engine.fit(model, data, seed=0)
    assert {value.shape[:2] for value in posterior.samples.values()} == {(3, 6)}
    stats = {key: value for key, value in posterior.stats.items() if key != "seconds"}
    numbers = {"seed": 0, "temperature": 1.0, "steps": 10, "step_size": 1e-3}
    expected = {"engine": type(engine).__name__, "diverged": {}, **numbers}
    assert stats == expected
    assert posterior.predict(data[0]).samples.shape == (3, 6, 30, 3)
    loaded = Posterior.load(posterior.save(tmp_path / "run"))
    assert all(torch.equal(loaded.samples[name], value) for name, value in posterior.samples.items())


def test_thinned_draws_are_every_so_many_of_all():
    every = SGLD(0.1, chains=2, draws=9, warmup=0).fit(gaussian(1.0, 2.0), None, seed=0).samples["z"]
    thinned = SGLD(0.1, chains=2, draws=2, warmup=3, thin=3).fit(gaussian(1.0, 2.0), None, seed=0).samples["z"]
    assert torch.equal(thinned, every[:, [5, 8]])


def test_chains_start_where_they_are_told(make_linear_problem):
    model, data = make_linear_problem()
    mode = MAP(epochs=300, batch_size=None, lr=0.1).fit(model, data, seed=0)
    samples = SGLD(1e-12, chains=3, draws=1, warmup=0).fit(model, data, seed=0, start=mode).samples
    for name, value in samples.items():
        torch.testing.assert_close(value, mode.samples[name].expand_as(value), rtol=0, atol=1e-4)


def quartic_start(*positions):
    return Posterior(None, {"z": torch.tensor(positions, dtype=torch.float64)[:, None, None]})


@pytest.fixture
def quartic():
    return LogDensity(lambda p: -p["z"].pow(4).sum(), {"z": torch.zeros(1, dtype=torch.float64)})


@pytest.mark.parametrize(("kind", "step_size"), [(SGLD, 0.01), (SGHMC, 0.1)])
def test_diverging_chain_is_reported_and_left_out_and_the_others_are_untouched(quartic, kind, step_size, caplog):
    positions = []

    class Watched(kind):
        def update(self, chains, gradient, noise, step):
            positions.append(float(chains.position[1]))
            return super().update(chains, gradient, noise, step)

    engine = Watched(step_size, chains=3, draws=50, warmup=50)
    healthy = engine.fit(quartic, None, seed=2, start=quartic_start(0.0, 0.1, 0.2)).samples["z"]
    positions.clear()
    with caplog.at_level(logging.WARNING):
        posterior = engine.fit(quartic, None, seed=2, start=quartic_start(0.0, 1e3, 0.2))
    ((chain, step),) = posterior.stats["diverged"].items()
    assert (chain, posterior.stats["steps"]) == ("1", 100)
    assert 1 < step < 15
    assert f"chain 1 diverged in step {step}" in caplog.text
    assert len(caplog.records) == 1
    assert torch.equal(posterior.samples["z"], healthy[[0, 2]])
    assert len(set(positions[:step])) == step  # it moved until then,
    assert set(positions[step:]) == {positions[step - 1]}  # and stays at its last finite position


def test_all_chains_diverged_ends_the_run_with_an_error_that_says_what_to_try():
    calls = []

    def quartic(params):
        calls.append(None)
        return -params["z"].pow(4).sum()

    density = LogDensity(quartic, {"z": torch.zeros(1, dtype=torch.float64)})
    with pytest.raises(
        RuntimeError, match=r"all 2 chain\(s\) diverged, in step\(s\) \[\d+\].*smaller step_size than 1"
    ):
        SGLD(1.0, chains=2).fit(density, None, seed=0, start=quartic_start(9.0, 9.0))
    assert len(calls) < 15


@pytest.mark.parametrize("count", [1, 3])
def test_leaving_the_support_of_a_distribution_is_a_divergence(count):
    """The step is so large that the rate underflows to 0, which a LogNormal's validation would refuse."""
    example = {"rate": torch.tensor(1.0, dtype=torch.float64)}
    density = LogDensity(lambda p: LogNormal(0.0, 1.0).log_prob(p["rate"]), example, {"rate": constraints.positive})
    start = Posterior(None, {"rate": torch.full((1, 1), 0.1, dtype=torch.float64)})
    with pytest.raises(RuntimeError, match=r"chain\(s\) diverged"):
        SGLD(100.0, chains=count).fit(density, None, seed=0, start=start)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: type(e).__name__)
def test_interrupt_keeps_as_many_draws_of_every_chain_as_there_are(engine, caplog):
    calls = []

    def interrupted(params):
        calls.append(None)
        if len(calls) == 1 + stop:  # one call is LogDensity's own
            raise KeyboardInterrupt
        return -params["z"].square().sum()

    stop, example = 8, {"z": torch.zeros(2, dtype=torch.float64)}
    with caplog.at_level(logging.WARNING):
        posterior = engine.fit(LogDensity(interrupted, example), None, seed=0)
    assert "interrupted in step 7 of 10; keeping 3 draw(s)" in caplog.text
    assert posterior.interrupted
    calls.clear()
    stop = 1000
    whole = engine.fit(LogDensity(interrupted, example), None, seed=0)
    assert posterior.stats["steps"] == 7
    assert torch.equal(posterior.samples["z"], whole.samples["z"][:, :3])
    calls.clear()
    stop = 3  # in the warm-up: there is nothing to keep
    with pytest.raises(KeyboardInterrupt):
        engine.fit(LogDensity(interrupted, example), None, seed=0)


def tensors_in_use():
    return [item for item in gc.get_objects() if type(item) is torch.Tensor]


@pytest.mark.parametrize("engine", [SGLD, SGHMC])
def test_memory_is_for_the_draws_kept_and_does_not_grow_with_the_steps(engine):
    scale = torch.ones(50, dtype=torch.float64, requires_grad=True)  # must not keep a graph of all steps alive
    density = LogDensity(lambda p: -(scale * p["z"].square()).sum(), {"z": torch.zeros(50, dtype=torch.float64)})
    in_use, before = {}, tensors_in_use()  # held, so that no later tensor takes an earlier one's address
    earlier = set(map(id, before))

    class Watched(engine):
        def update(self, chains, gradient, noise, step):
            if step in (100, 400):
                gc.collect()
                tensors = [item for item in tensors_in_use() if id(item) not in earlier]
                in_use[step] = sum(item.untyped_storage().nbytes() for item in tensors), len(tensors)
            return super().update(chains, gradient, noise, step)

    samples = Watched(1e-3, chains=2, draws=10, warmup=0, thin=45).fit(density, None, seed=0).samples["z"]
    assert in_use[100] == in_use[400]
    assert samples.untyped_storage().nbytes() == 2 * 10 * 50 * 8
    assert not samples.requires_grad


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step_size": 0.0}, r"step_size must be positive and finite, got 0\.0"),
        ({"step_size": float("nan")}, r"step_size must be positive and finite, got nan"),
        ({"step_size": -1.0}, r"step_size must be positive and finite, got -1\.0"),
        ({"draws": 0}, r"draws must be an integer of at least 1, got 0"),
        ({"chains": 0}, r"chains must be an integer of at least 1, got 0"),
        ({"chains": 1.5}, r"chains must be an integer of at least 1, got 1\.5"),
        ({"thin": 0}, r"thin must be an integer of at least 1, got 0"),
        ({"warmup": -1}, r"warmup must be an integer of at least 0, got -1"),
        ({"temperature": 0.0}, r"temperature must be positive and finite, got 0\.0"),
        ({"batch_size": 0}, r"batch_size must be an integer of at least 1, got 0"),
        ({"schedule": Cyclical(cycles=3)}, r"cycles must divide draws and warmup, got cycles = 3, draws = 1000"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SGLD(**{"step_size": 0.1, **settings})


def test_wrong_schedules_are_refused():
    with pytest.raises(TypeError, match=r"schedule must be Constant\(\), Polynomial.* or Cyclical.*, got 'cyclical'"):
        SGLD(0.1, schedule="cyclical")
    with pytest.raises(ValueError, match=r"decay must be in \(0\.5, 1\], got 0\.5"):
        Polynomial(decay=0.5)
    with pytest.raises(ValueError, match="decay_steps must be positive and finite, got 0"):
        Polynomial(decay_steps=0)
    with pytest.raises(ValueError, match="cycles must be an integer of at least 1, got 0"):
        Cyclical(cycles=0)


def test_minibatches_that_cannot_be_are_refused(make_linear_problem):
    model, data = make_linear_problem()
    with pytest.raises(ValueError, match="batch_size = 31 is more than the 30 examples there are"):
        SGLD(0.1, batch_size=31).fit(model, data, seed=0)
    with pytest.raises(ValueError, match="a LogDensity has no data to take minibatches of"):
        SGLD(0.1, batch_size=5).fit(gaussian(1.0), None, seed=0)


def test_the_shared_base_is_no_sampler():
    with pytest.raises(TypeError, match="abstract"):
        StochasticGradientSampler(0.1)
