"""A deep ensemble is many independent MAP fits, trained side by side."""

import logging

import pytest
import torch

from bayes_rpp import BayesianModel, LogDensity
from inference import MAP, DeepEnsemble
from inference.training.ensemble import train_modes
from inference.training.settings import TrainingSettings

ENGINE = DeepEnsemble(members=3, epochs=4, batch_size=8, lr=3e-3, snapshots=1)


def member_seeds(seed, members):
    return torch.randint(2**62, (members,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.fixture
def spoil_member(monkeypatch):
    """Give one member of an ensemble an initial state of NaN."""

    def spoil(member_seed):
        original = BayesianModel.initial_params

        def initial_params(self, seed):
            params = original(self, seed)
            return {name: value * float("nan") for name, value in params.items()} if seed in member_seed else params

        monkeypatch.setattr(BayesianModel, "initial_params", initial_params)

    return spoil


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize("batch_size", [8, None])
def test_members_trained_together_are_those_trained_alone(make_small_model, bodies, batch_size, schedule):
    model, pair = make_small_model(bodies, dtype=torch.float64), tuple(part.double() for part in bodies.train)
    engine = DeepEnsemble(members=2, epochs=4, batch_size=batch_size, schedule=schedule)
    together = engine.fit(model, pair, seed=7).samples
    settings = TrainingSettings(4, batch_size, 3e-3, schedule, 0)
    alone = [
        train_modes(settings, model, pair, [seed], torch.device("cpu"), False)[0].params for seed in member_seeds(7, 2)
    ]
    for name, value in together.items():
        for member in range(2):
            torch.testing.assert_close(value[member], alone[member][name], rtol=1e-8, atol=1e-10)
    name = "network.1.beta"
    assert (alone[0][name] - alone[1][name]).abs().max() > 1e-2  # two members are not each other


def test_a_larger_ensemble_starts_with_the_members_of_a_smaller_one(make_small_model, bodies):
    model = make_small_model(bodies)
    small, large = (DeepEnsemble(members=m, epochs=2).fit(model, bodies.train, seed=0).samples for m in (2, 3))
    for name in small:
        torch.testing.assert_close(small[name], large[name][:2], rtol=1e-4, atol=1e-6)


def test_members_start_at_different_states_and_end_at_different_ones(make_small_model, bodies):
    samples = ENGINE.fit(make_small_model(bodies), bodies.train, seed=0).samples["network.0.linear.beta"][:, 0]
    assert all((samples[i] - samples[j]).norm() > 0.1 * samples[i].norm() for i in range(3) for j in range(i))


def test_map_is_the_ensemble_of_one(make_small_model, bodies):
    model = make_small_model(bodies)
    mode = MAP(epochs=3, batch_size=8).fit(model, bodies.train, seed=5).samples
    single = DeepEnsemble(members=1, epochs=3, batch_size=8).fit(model, bodies.train, seed=5).samples
    assert all(torch.equal(mode[name], single[name]) for name in mode)


def test_diverging_member_is_reported_and_left_out_and_the_others_are_untouched(
    make_small_model, bodies, spoil_member, caplog
):
    model = make_small_model(bodies)
    healthy = ENGINE.fit(model, bodies.train, seed=2)
    spoil_member([member_seeds(2, 3)[1]])
    with caplog.at_level(logging.WARNING):
        posterior = ENGINE.fit(model, bodies.train, seed=2)
    assert "member 1 diverged in epoch 1" in caplog.text
    assert posterior.stats["diverged"] == {"1": 1}
    assert posterior.chains == 2
    assert posterior.stats["loss"] == [healthy.stats["loss"][0], healthy.stats["loss"][2]]
    for name, value in healthy.samples.items():
        assert torch.equal(posterior.samples[name], value[[0, 2]])
        assert torch.equal(posterior.history[0].samples[name], healthy.history[0].samples[name][[0, 2]])


def test_all_members_diverged_is_an_error_that_says_what_to_try(make_small_model, bodies, spoil_member):
    spoil_member(member_seeds(2, 3))
    with pytest.raises(RuntimeError, match=r"all 3 member\(s\) diverged.*smaller lr than 0\.003"):
        ENGINE.fit(make_small_model(bodies), bodies.train, seed=2)


def test_divergence_of_a_log_density_ends_the_run_early(caplog):
    calls = []

    def explodes(params):
        calls.append(None)
        return params["z"].sum() * (float("nan") if len(calls) > 3 else 1.0)

    with caplog.at_level(logging.WARNING), pytest.raises(RuntimeError, match=r"diverged, in epoch\(s\) \[3\]"):
        MAP(epochs=100, compile=False).fit(LogDensity(explodes, {"z": torch.zeros(1)}), None, seed=0)
    assert len(calls) < 10


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"members": 0}, r"members must be an integer of at least 1, got 0"),
        ({"members": 2.5}, r"members must be an integer of at least 1, got 2\.5"),
    ],
)
def test_wrong_numbers_of_members_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        DeepEnsemble(**setting)


def test_stats_say_what_was_done(make_small_model, bodies):
    stats = ENGINE.fit(make_small_model(bodies), bodies.train, seed=2).stats
    assert stats["engine"] == "DeepEnsemble"
    assert (stats["seed"], stats["epochs"], stats["diverged"]) == (2, 4, {})
    assert len(stats["loss"]) == 3
    assert all(isinstance(loss, float) for loss in stats["loss"])
