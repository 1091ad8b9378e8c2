"""What the engines that train by Adam, MAP and DeepEnsemble, do alike."""

import dataclasses
import io
import sys

import pytest
import torch

from inference import MAP, DeepEnsemble, Posterior
from tests.seeds import shifted

SETTINGS = {"epochs": 3, "batch_size": 8, "lr": 1e-2, "snapshots": 2}
ENGINES = [MAP(**SETTINGS), DeepEnsemble(members=3, **SETTINGS)]

pytestmark = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: type(engine).__name__)


def chains(engine):
    return getattr(engine, "members", 1)


@pytest.mark.statistical
def test_training_lowers_the_loss(engine, make_small_model, bodies):
    model = make_small_model(bodies)
    longer = dataclasses.replace(engine, epochs=30)
    before, after = (
        e.fit(model, bodies.train, seed=shifted()).log_likelihood(*bodies.train).sum() for e in (engine, longer)
    )
    assert after > before


def test_a_density_need_not_be_proper(engine, slope):
    """Where there is no mode, the parameters go uphill for as long as they are let."""
    short, long = (dataclasses.replace(engine, epochs=n).fit(slope, None, seed=0).samples["z"] for n in (3, 9))
    assert short.shape == (chains(engine), 1, 2)
    assert (long > short).all()


def test_history_makes_the_round_trip_through_files(engine, make_small_model, bodies, tmp_path):
    posterior = engine.fit(make_small_model(bodies), bodies.train, seed=0)
    loaded = Posterior.load(posterior.save(tmp_path / "run"))
    assert [snapshot.epoch for snapshot in loaded.history] == [snapshot.epoch for snapshot in posterior.history]
    assert len(loaded.history) == 2
    for found, expected in zip(loaded.history, posterior.history, strict=True):
        assert all(torch.equal(found.samples[name], value) for name, value in expected.samples.items())


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


def test_progress_bar_counts_the_members(engine, slope, monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", stream)
    engine.fit(slope, None, seed=0)
    assert f"training {chains(engine)} member(s)" in stream.getvalue()
