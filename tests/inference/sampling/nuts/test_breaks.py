"""NUTS keeps what it has: interrupts, chains that fail, checkpoints, and a warm-up that is too short."""

import dataclasses
import logging

import pytest
import torch

from bayes_rpp import LogDensity
from inference import NUTS
from inference.density.unconstrained import UnconstrainedDensity
from inference.sampling.chain_sampler import ChainsDiverged
from inference.sampling.nuts.kernel import Kernel

QUICK = NUTS(chains=2, draws=6, warmup=8, max_tree_depth=4, metric="identity")
BELL = LogDensity(lambda p: -0.5 * p["z"].square().sum(), {"z": torch.zeros(3, dtype=torch.float64)})


def interrupt(monkeypatch, potential_calls):
    """Raise KeyboardInterrupt in one evaluation of the potential."""
    potential, calls = UnconstrainedDensity.potential, []

    def interrupted(self, z):
        calls.append(1)
        if len(calls) == potential_calls:
            raise KeyboardInterrupt
        return potential(self, z)

    monkeypatch.setattr(UnconstrainedDensity, "potential", interrupted)


def test_interrupt_keeps_finished_chains_whole(monkeypatch, caplog):
    density, engine = BELL, NUTS(chains=4, draws=10, warmup=10, metric="identity")
    whole = engine.fit(density, None, seed=0)
    first_two = dataclasses.replace(engine, chains=2).fit(density, None, seed=0)
    interrupt(monkeypatch, 4 + first_two.stats["gradient_evaluations"] + 50)  # four check the starts
    with caplog.at_level(logging.WARNING):
        posterior = engine.fit(density, None, seed=0)
    assert torch.equal(posterior.samples["z"], whole.samples["z"][:2])
    assert torch.equal(posterior.sample_stats["lp"], whole.sample_stats["lp"][:2])
    assert posterior.stats["steps"] == 20
    assert (posterior.interrupted, whole.interrupted) == (True, False)
    assert "interrupted in chain 3 of 4; keeping 2 finished chain(s)" in caplog.text


def test_interrupt_in_the_first_chain_keeps_its_draws_if_there_are_any(monkeypatch):
    density, engine = BELL, NUTS(chains=2, draws=10, warmup=10, metric="identity")
    whole = engine.fit(density, None, seed=0)
    one = dataclasses.replace(engine, chains=1).fit(density, None, seed=0)
    last = int(one.sample_stats["n_steps"][0, -3:].sum())
    state = torch.get_rng_state()
    with monkeypatch.context() as patch:
        interrupt(patch, 2 + one.stats["gradient_evaluations"] - last + 1)  # in the first step of the third last draw
        posterior = engine.fit(density, None, seed=0)
    assert torch.equal(posterior.samples["z"], whole.samples["z"][:1, :7])
    assert posterior.interrupted
    assert {value.shape for value in posterior.sample_stats.values()} == {(1, 7)}
    with monkeypatch.context() as patch:
        interrupt(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            engine.fit(density, None, seed=0)
    assert torch.equal(torch.get_rng_state(), state)


def fail(monkeypatch, places):
    """Raise an error in the twelfth step of these chains: after the warm-up and three draws."""
    made, steps, construct, sample = [], {}, Kernel.__init__, Kernel.sample

    def counted(self, *args):
        made.append(self)
        construct(self, *args)

    def failing(self, params):
        steps[id(self)] = steps.get(id(self), 0) + 1
        if made.index(self) - 1 in places and steps[id(self)] == 12:  # the first one walks no chain
            raise FloatingPointError("no more")
        return sample(self, params)

    monkeypatch.setattr(Kernel, "__init__", counted)
    monkeypatch.setattr(Kernel, "sample", failing)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_chain_that_fails_has_its_partial_draws_and_the_others_go_on(monkeypatch, caplog, tmp_path, checkpoint):
    engine, path = dataclasses.replace(QUICK, chains=3), tmp_path / "chains" if checkpoint else None
    whole = engine.fit(BELL, None, seed=0)
    with monkeypatch.context() as patch:
        fail(patch, [1])
        posterior = engine.fit(BELL, None, seed=0, checkpoint=path)
    assert torch.equal(posterior.samples["z"], whole.samples["z"][[0, 2]])
    assert torch.equal(posterior.sample_stats["lp"], whole.sample_stats["lp"][[0, 2]])
    (partial,) = posterior.partial
    assert torch.equal(partial.samples["z"], whole.samples["z"][[1], :3])
    assert posterior.stats["diverged"] == {"1": 12}
    assert (partial.stats["chain"], partial.stats["diverged"]) == (1, 12)
    assert "chain 1 failed in step 12: FloatingPointError('no more')" in caplog.text
    if checkpoint:  # it is made again, and only it
        again = engine.fit(BELL, None, seed=0, checkpoint=path)
        assert torch.equal(again.samples["z"], whole.samples["z"])


def test_the_error_of_a_run_whose_chains_all_failed_carries_their_draws_and_the_cause(monkeypatch):
    whole = QUICK.fit(BELL, None, seed=0)
    fail(monkeypatch, [0, 1])
    with pytest.raises(ChainsDiverged, match=r"all 2 chain\(s\) failed") as caught:
        QUICK.fit(BELL, None, seed=0)
    assert isinstance(caught.value.__cause__, FloatingPointError)
    for chain, partial in enumerate(caught.value.partial):
        assert torch.equal(partial.samples["z"], whole.samples["z"][[chain], :3])


@pytest.mark.parametrize("drawn", [True, False])
def test_an_interrupt_keeps_the_draws_of_chains_that_failed_before_it(monkeypatch, drawn):
    whole, step = QUICK.fit(BELL, None, seed=0), 12 if drawn else 5
    sample, calls = Kernel.sample, []

    def broken(self, params):
        calls.append(None)
        if len(calls) == step:
            raise FloatingPointError("no more")
        if len(calls) == step + 2:
            raise KeyboardInterrupt
        return sample(self, params)

    monkeypatch.setattr(Kernel, "sample", broken)
    with pytest.raises(ChainsDiverged if drawn else KeyboardInterrupt) as caught:
        QUICK.fit(BELL, None, seed=0)
    if drawn:
        assert "interrupted; before that, all 1 chain(s) failed" in str(caught.value)
        (partial,) = caught.value.partial
        assert torch.equal(partial.samples["z"], whole.samples["z"][[0], :3])


@pytest.mark.parametrize(("warmup", "short"), [(0, True), (49, True), (50, False)])
def test_a_short_warmup_comes_with_advice(caplog, warmup, short):
    NUTS(chains=1, draws=2, warmup=warmup, metric="identity").fit(BELL, None, seed=0)
    assert (f"a warmup of {warmup} steps is too short" in caplog.text) == short


def test_finished_chains_are_not_made_again_and_the_bits_are_those_of_one_run(tmp_path):
    calls = []

    def gaussian(stop):
        calls.clear()

        def log_density(params):
            calls.append(None)
            if len(calls) == stop:
                raise KeyboardInterrupt
            return -0.5 * params["z"].square().sum()

        return LogDensity(log_density, {"z": torch.zeros(3, dtype=torch.float64)})

    engine, path = dataclasses.replace(QUICK, chains=3), tmp_path / "chains"
    whole = engine.fit(gaussian(0), None, seed=0)
    needed = len(calls)
    assert engine.fit(gaussian(needed // 2), None, seed=0, checkpoint=path).chains == 1
    resumed = engine.fit(gaussian(0), None, seed=0, checkpoint=path)
    assert len(calls) < needed
    assert torch.equal(resumed.samples["z"], whole.samples["z"])
    assert all(torch.equal(resumed.sample_stats[name], value) for name, value in whole.sample_stats.items())
    assert resumed.stats | {"seconds": 0} == whole.stats | {"seconds": 0}
    other = LogDensity(lambda p: -p["z"].square().sum(), {"z": torch.zeros(3, dtype=torch.float64)})
    with pytest.raises(ValueError, match="is of another run: its model"):
        engine.fit(other, None, seed=0, checkpoint=path)
