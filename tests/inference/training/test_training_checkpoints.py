"""A training that was stopped at any moment goes on to the same bits."""

import dataclasses
import os
import re
import signal
import subprocess
import sys

import pytest
import torch

from bayes_rpp import LogDensity
from inference import MAP, DeepEnsemble
from inference.training.parameter_stack import ParameterStack

SETTINGS = {"epochs": 5, "batch_size": 8, "lr": 1e-2, "snapshots": 3}
ENGINES = [MAP(**SETTINGS), DeepEnsemble(members=3, **SETTINGS)]
each_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: type(engine).__name__)


def interrupt_in_step(monkeypatch, number):
    """Ctrl-C at the end of a step: Adam has moved the parameters, and the loop does not know yet."""
    steps, original = [], ParameterStack.step

    def step(self, batch, lr):
        losses = original(self, batch, lr)
        steps.append(None)
        if len(steps) == number:
            raise KeyboardInterrupt
        return losses

    monkeypatch.setattr(ParameterStack, "step", step)


def assert_same(found, expected):
    assert found.stats | {"seconds": 0} == expected.stats | {"seconds": 0}
    assert all(torch.equal(found.samples[name], value) for name, value in expected.samples.items())
    for ours, theirs in zip(found.history, expected.history, strict=True):
        assert ours.epoch == theirs.epoch
        assert all(torch.equal(ours.samples[name], value) for name, value in theirs.samples.items())


@each_engine
def test_interrupted_again_and_again_and_resumed(engine, make_small_model, bodies, tmp_path):
    """In the first step, within epochs, between two of them, and at the end; 30 examples are four steps an epoch."""
    model = make_small_model(bodies)
    whole = engine.fit(model, bodies.train, seed=0)
    assert "interrupted" not in whole.stats
    path, taken = tmp_path / "runs" / "checkpoint", 0
    for step in (1, 1, 6, 4, 5, 2):
        with pytest.MonkeyPatch.context() as patch:
            interrupt_in_step(patch, step)
            stopped = engine.fit(model, bodies.train, seed=0, checkpoint=path)
        taken += step  # each is taken once
        assert (stopped.stats["interrupted"], stopped.stats["epochs"]) == (True, taken // 4)
        assert "interrupted" in repr(stopped)
    for _ in range(2):  # the second finds it finished
        assert_same(engine.fit(model, bodies.train, seed=0, checkpoint=path), whole)
    assert os.listdir(path.parent) == ["checkpoint"]


def test_members_that_diverged_before_the_break_stay_out(tmp_path):
    """Where z < 0 the gradient is NaN: of many starts, some members are lost at once."""
    density = LogDensity(lambda p: torch.where(p["z"] < 0, torch.zeros(()), p["z"].sqrt()).sum(), {"z": torch.ones(1)})
    engine = DeepEnsemble(members=64, epochs=4)
    whole = engine.fit(density, None, seed=0)
    assert len(whole.stats["diverged"]) > 0
    with pytest.MonkeyPatch.context() as patch:
        interrupt_in_step(patch, 3)
        engine.fit(density, None, seed=0, checkpoint=tmp_path / "run")
    assert_same(engine.fit(density, None, seed=0, checkpoint=tmp_path / "run"), whole)


@each_engine
def test_another_run_is_refused_by_what_differs(engine, make_small_model, bodies, tmp_path):
    path, model, (x, y) = tmp_path / "run", make_small_model(bodies), bodies.train
    engine.fit(model, bodies.train, seed=0, checkpoint=path)
    before = path.read_bytes()
    collapsed = make_small_model(bodies, parametrization="collapsed")
    others = [
        ("its lr is 0.01, here it is 0.02", dataclasses.replace(engine, lr=0.02), model, (x, y), 0),
        ("its epochs is 5, here it is 6", dataclasses.replace(engine, epochs=6), model, (x, y), 0),
        ("its seed is 0, here it is 1", engine, model, (x, y), 1),
        ("its data is '", engine, model, (x, y.flip(0)), 0),
        ("its model.network", engine, collapsed, (x, y), 0),
        ("its engine is", DeepEnsemble(members=2, **SETTINGS) if isinstance(engine, MAP) else MAP(**SETTINGS), model,
         (x, y), 0),
    ]  # fmt: skip
    for message, other, its_model, data, seed in others:
        with pytest.raises(ValueError, match=re.escape(message)):
            other.fit(its_model, data, seed=seed, checkpoint=path)
    assert path.read_bytes() == before


KILLED = """
import sys, torch
from bayes_rpp import LogDensity
from inference import MAP
from inference.training import checkpoint
checkpoint.CHECKPOINT_SECONDS = checkpoint._SECONDS_BETWEEN_FOR_EACH = 0
steps = 0
def density(p):
    global steps
    steps += 1
    if steps == {at}:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    return -(p["z"].pow(2) + p["z"].pow(4)).sum()
MAP(epochs=40).fit(LogDensity(density, {{"z": torch.zeros(2)}}), None, seed=3, checkpoint=sys.argv[1])
"""


def test_killed_and_resumed_from_the_last_checkpoint(tmp_path):
    path = tmp_path / "run"
    killed = subprocess.run([sys.executable, "-c", KILLED.format(at=30), str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    calls = []

    def density(p):
        calls.append(None)
        return -(p["z"].pow(2) + p["z"].pow(4)).sum()

    target = LogDensity(density, {"z": torch.zeros(2)})
    calls.clear()
    resumed = MAP(epochs=40).fit(target, None, seed=3, checkpoint=path)
    assert len(calls) < 20
    assert_same(resumed, MAP(epochs=40).fit(target, None, seed=3))
