"""Members that are trained a few at a time, and posteriors that are read from their files."""

import dataclasses
import logging
from pathlib import Path

import pytest
import torch

from bayes_rpp import BayesianModel, Categorical, LogDensity, RPPConvNet, RPPPrior
from inference import DeepEnsemble, Posterior
from inference.memory import HeldMemory
from inference.training import members_at_once
from inference.training.minibatches import Minibatches
from inference.training.parameter_stack import joint_stack
from tests.inference.training.test_training_checkpoints import assert_same, interrupt_in_step

TOGETHER = DeepEnsemble(members=3, epochs=4, batch_size=8, lr=1e-2, snapshots=1)
APART = dataclasses.replace(TOGETHER, members_at_once=2)


def assert_close(found, expected):
    for name, value in expected.samples.items():
        torch.testing.assert_close(found.samples[name], value, rtol=1e-3, atol=1e-5)


def test_members_a_few_at_a_time_are_those_trained_together(make_small_model, bodies):
    model = make_small_model(bodies)
    together, apart = (engine.fit(model, bodies.train, seed=0) for engine in (TOGETHER, APART))
    assert_close(apart, together)
    assert [past.epoch for past in apart.history] == [past.epoch for past in together.history]
    assert apart.history[0].samples["network.0.linear.dense"].shape[0] == 3
    assert apart.stats["loss"] == pytest.approx(together.stats["loss"], rel=1e-4)


def test_interrupted_in_the_second_group_and_resumed(make_small_model, bodies, tmp_path):
    model = make_small_model(bodies)
    whole = APART.fit(model, bodies.train, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_in_step(patch, 16 + 3)  # four epochs of four steps, and three more
        stopped = APART.fit(model, bodies.train, seed=0, checkpoint=tmp_path / "run")
    assert stopped.stats["interrupted"]
    assert stopped.chains == 3
    assert_same(APART.fit(model, bodies.train, seed=0, checkpoint=tmp_path / "run"), whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-0", "run-2"]
    finished, begun = ((tmp_path / name).stat().st_size for name in ("run-0", "run-2"))
    assert finished < 2 * begun  # two members without what Adam keeps, and one with it


def test_a_run_is_resumed_as_it_was_begun_however_much_memory_is_free(make_small_model, bodies, tmp_path, monkeypatch):
    model = make_small_model(bodies)
    whole = TOGETHER.fit(model, bodies.train, seed=0, checkpoint=tmp_path / "together")
    apart = APART.fit(model, bodies.train, seed=0, checkpoint=tmp_path / "apart")
    monkeypatch.setattr(members_at_once, "free_memory", lambda device: 0)
    assert_same(TOGETHER.fit(model, bodies.train, seed=0, checkpoint=tmp_path / "together"), whole)
    assert_same(TOGETHER.fit(model, bodies.train, seed=0, checkpoint=tmp_path / "apart"), apart)
    for name, number, others in (("together", 3, 1), ("apart", 2, 1)):
        engine = dataclasses.replace(TOGETHER, members_at_once=others)
        with pytest.raises(ValueError, match=rf"{number} member\(s\) at a time: take members_at_once={number}"):
            engine.fit(model, bodies.train, seed=0, checkpoint=tmp_path / name)


def test_a_checkpoint_in_the_posteriors_folder_is_refused_before_training(make_small_model, bodies, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(ValueError, match="must not lie in save_to"):
        TOGETHER.fit(make_small_model(bodies), bodies.train, seed=0, save_to=run, checkpoint=run / "checkpoint")
    assert not run.exists()


def test_members_that_diverge_are_numbered_through(tmp_path):
    density = LogDensity(lambda p: torch.where(p["z"] < 0, torch.zeros(()), p["z"].sqrt()).sum(), {"z": torch.ones(1)})
    engine = DeepEnsemble(members=64, epochs=2)
    together = engine.fit(density, None, seed=0)
    apart = dataclasses.replace(engine, members_at_once=10).fit(density, None, seed=0, save_to=tmp_path / "run")
    assert len(together.stats["diverged"]) > 0
    assert apart.stats["diverged"] == together.stats["diverged"]
    assert_close(apart, together)


def test_a_posterior_on_disk_is_read_when_it_is_used(make_small_model, bodies, tmp_path):
    model = make_small_model(bodies)
    kept, on_disk = (APART.fit(model, bodies.train, seed=0, save_to=to) for to in (None, tmp_path / "runs" / "large"))
    assert_same(on_disk, kept)
    assert_same(Posterior.load(tmp_path / "runs" / "large"), kept)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["large"]
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    of_file = [tuple(int(end, 16) for end in line[0].split("-")) for line in maps if "runs/large/tensors" in line[-1]]
    for value in on_disk.samples.values():
        assert any(start <= value.data_ptr() < end for start, end in of_file)


def test_what_memory_takes_is_found_out_and_said(make_small_model, bodies, monkeypatch, caplog):
    model = make_small_model(bodies)
    weights = sum(value.nbytes for value in model.initial_params(0).values())
    together, device = TOGETHER.fit(model, bodies.train, seed=0), torch.device("cpu")
    minibatches = Minibatches(bodies.train, TOGETHER.batch_size, [0], device)
    each = 3 * weights + members_at_once.bytes_of_a_step(TOGETHER, model, 0, minibatches, device)
    monkeypatch.setattr(members_at_once, "free_memory", lambda device: int(2.6 * each))
    with caplog.at_level(logging.WARNING):
        apart = TOGETHER.fit(model, bodies.train, seed=0)
    assert f"a member takes about {each:,} bytes to train" in caplog.text
    assert "2 of 3 are trained at a time" in caplog.text
    assert_close(apart, together)
    monkeypatch.setattr(members_at_once, "free_memory", lambda device: each - 1)
    with pytest.raises(ValueError, match=r"training one member takes about [\d,]+ bytes on the cpu, and [\d,]+ are"):
        TOGETHER.fit(model, bodies.train, seed=0)
    with pytest.raises(ValueError, match="members_at_once must be"):
        DeepEnsemble(members_at_once=0)


def test_the_estimate_is_what_is_held(make_small_model, bodies):
    """Against the peak of a whole step on the largest batch, not extrapolated from a few rows."""
    image = BayesianModel(RPPConvNet((1, 8, 8), 3, [4, 8], pool_after=[1]), RPPPrior(), Categorical())
    images = torch.randn(300, 1, 8, 8), torch.arange(300) % 3
    for model, pair in ((make_small_model(bodies), bodies.train), (image, images)):
        minibatches = Minibatches(pair, None, [0], "cpu")
        estimated = members_at_once.bytes_of_a_step(TOGETHER, model, 0, minibatches, torch.device("cpu"))
        stack = joint_stack(model, [0], len(pair[0]))
        with HeldMemory() as held:
            stack.gradients(minibatches.example())
        assert max(held.bytes) == pytest.approx(estimated, rel=0.15)
