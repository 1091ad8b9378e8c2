"""Trainings that start from the members of an earlier posterior."""

import dataclasses
import re

import pytest
import torch

from bayes_rpp import Gaussian
from inference import MAP, DeepEnsemble, Posterior
from tests.inference.training.test_training_checkpoints import assert_same, interrupt_in_step

SETTINGS = {"epochs": 5, "batch_size": 8, "lr": 1e-2}
ENGINES = [MAP(**SETTINGS), DeepEnsemble(members=3, **SETTINGS), DeepEnsemble(members=3, members_at_once=2, **SETTINGS)]
each_engine = pytest.mark.parametrize("engine", ENGINES, ids=["MAP", "together", "a few at a time"])


@each_engine
def test_every_member_starts_from_the_last_draw_of_its_chain(engine, make_small_model, bodies, tmp_path):
    """A step of a vanishing learning rate leaves members where they start, a learned noise included."""
    model = make_small_model(bodies, Gaussian(0.2, learned=True))
    first = engine.fit(model, bodies.train, seed=0)
    before = {name: value.clone() for name, value in first.samples.items()}
    chains = {name: torch.cat([value + 1, value], dim=1) for name, value in first.samples.items()}
    still = dataclasses.replace(engine, epochs=1, batch_size=None, lr=1e-12)
    for start in (Posterior(model, chains), Posterior.load(first.save(tmp_path / "run"))):
        found = still.fit(model, bodies.train, seed=7, start=start)
        for name, value in before.items():
            torch.testing.assert_close(found.samples[name], value, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in first.samples.items())
    again = engine.fit(model, bodies.train, seed=7, start=first)
    assert all(after < earlier for after, earlier in zip(again.stats["loss"], first.stats["loss"], strict=True))


@each_engine
def test_what_cannot_be_a_start_is_refused(engine, make_small_model, bodies):
    model = make_small_model(bodies)
    start = engine.fit(model, bodies.train, seed=0)
    twice = Posterior(model, {name: value.repeat(2, *[1] * (value.ndim - 1)) for name, value in start.samples.items()})
    fitting = f"take DeepEnsemble(members={twice.chains}), or a start with"
    with pytest.raises(ValueError, match=re.escape(f"start has {twice.chains} chain(s), and {start.chains} member(s)")):
        engine.fit(model, bodies.train, seed=0, start=twice)
    with pytest.raises(ValueError, match=re.escape(fitting)):
        engine.fit(model, bodies.train, seed=0, start=twice)
    with pytest.raises(ValueError, match=r"start is of another model.*see Posterior\.in_parametrization"):
        engine.fit(make_small_model(bodies, parametrization="collapsed"), bodies.train, seed=0, start=start)
    with pytest.raises(TypeError, match=r"start must be a Posterior, such as MAP\(\)\.fit\(\.\.\.\), got dict"):
        engine.fit(model, bodies.train, seed=0, start=start.samples)
    next(iter(start.samples.values()))[-1] = torch.nan
    with pytest.raises(ValueError, match="start holds parameters that are not finite"):
        engine.fit(model, bodies.train, seed=0, start=start)


@each_engine
def test_a_checkpoint_is_of_one_start(engine, make_small_model, bodies, tmp_path):
    model, path = make_small_model(bodies), tmp_path / "run"
    start, other = (engine.fit(model, bodies.train, seed=seed) for seed in (0, 1))
    whole = engine.fit(model, bodies.train, seed=2, start=start)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_in_step(patch, 7)
        engine.fit(model, bodies.train, seed=2, start=start, checkpoint=path)
    for wrong in (other, None):
        with pytest.raises(ValueError, match="is of another run: its start"):
            engine.fit(model, bodies.train, seed=2, start=wrong, checkpoint=path)
    assert_same(engine.fit(model, bodies.train, seed=2, start=start, checkpoint=path), whole)
