"""Runs with breaks end with the bits of runs without; checkpoints of other runs are refused."""

import contextlib
import dataclasses
import math
import os
import signal
import subprocess
import sys

import pytest
import torch

from bayes_rpp import Gaussian, LogDensity
from inference import HMC, SGHMC, SGLD, Posterior
from inference.density.unconstrained import UnconstrainedDensity
from inference.metrics.preconditioned import PreconditionedDensity
from inference.sampling.chain_sampler import ChainsDiverged
from inference.sampling.run import Run

SHORT = {"chains": 3, "draws": 6, "warmup": 5, "thin": 2}
ENGINES = {
    "SGLD": SGLD(1e-3, **SHORT),
    "SGLD, minibatches": SGLD(1e-3, batch_size=7, **SHORT),
    "SGLD, full metric": SGLD(1e-2, batch_size=7, metric="full", **SHORT),
    "SGHMC": SGHMC(1e-3, friction=5.0, **SHORT),
    "SGHMC, minibatches": SGHMC(1e-3, friction=5.0, batch_size=7, **SHORT),
    "HMC": HMC(chains=3, draws=6, warmup=22, metric="pathway"),
    "HMC, the other parametrization": HMC(chains=2, draws=4, warmup=20, parametrization="collapsed"),
    "HMC, scales": HMC(chains=3, draws=6, warmup=22, thin=2, metric="identity", trajectory_length=0.5),
}


pytestmark = pytest.mark.usefixtures("interrupts_are_heard")


def run(engine, problem, path=None, **options):
    model, data = problem
    options = {"seed": 1, "progress": False, **options}
    return engine.fit(model, data, checkpoint=path, **options)


def assert_same(found, expected):
    """All bits of two posteriors but the seconds."""
    for kind in ("samples", "sample_stats"):
        one, two = getattr(found, kind), getattr(expected, kind)
        assert one.keys() == two.keys()
        for name, value in two.items():
            assert (one[name].dtype, one[name].shape) == (value.dtype, value.shape)
            assert torch.equal(one[name], value)
    one, two = ({**each.stats, "seconds": 0} for each in (found, expected))
    assert one == two
    assert len(found.partial) == len(expected.partial)
    for part, whole in zip(found.partial, expected.partial, strict=True):
        assert_same(part, whole)


class Break:
    """Ctrl-C at the given evaluations of the density, counted from the first of a run's steps."""

    def __init__(self, monkeypatch):
        self.calls, self.at, self.inside = 0, (), False
        gradients, sample = UnconstrainedDensity.gradients, Run.sample

        def counted(density, *args):
            if self.inside:
                self.calls += 1
                if self.calls in self.at:
                    signal.raise_signal(signal.SIGINT)
            return gradients(density, *args)

        def walked(run, progress):
            self.inside, self.calls = True, 0
            try:
                sample(run, progress)
            finally:
                self.inside = False

        monkeypatch.setattr(UnconstrainedDensity, "gradients", counted)
        monkeypatch.setattr(Run, "sample", walked)

    def until_done(self, at, fit):
        """Every run goes on until its own evaluation of these, and the last to the end."""
        for place in at:
            self.at = (place,)
            with contextlib.suppress(KeyboardInterrupt):
                fit()
            assert self.calls == place
        self.at = ()
        return fit()


@pytest.fixture
def breaks(monkeypatch):
    return Break(monkeypatch)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.65, 0.99])
def test_a_run_broken_anywhere_ends_with_the_bits_of_one_without(make_linear_problem, breaks, tmp_path, name, share):
    engine, problem = ENGINES[name], make_linear_problem(likelihood=Gaussian(noise_variance=0.5, learned=True))
    whole = run(engine, problem)
    total, path = breaks.calls, tmp_path / "run.ckpt"
    place = max(1, math.ceil(share * total))
    broken = breaks.until_done([place], lambda: run(engine, problem, path))
    assert_same(broken, whole)
    assert os.listdir(tmp_path) == ["run.ckpt"]
    assert breaks.calls < total or place == 1  # what was done is not done again


@pytest.mark.parametrize("name", ENGINES)
def test_several_breaks_are_as_good_as_one_and_a_finished_run_stays_as_it_is(
    make_linear_problem, breaks, tmp_path, name
):
    engine, problem, path = ENGINES[name], make_linear_problem(), tmp_path / "folder" / "run.ckpt"
    whole = run(engine, problem)
    assert_same(breaks.until_done([3, 1, 2, 4, 2], lambda: run(engine, problem, path)), whole)
    assert_same(run(engine, problem, path), whole)
    assert breaks.calls == 0
    assert_same(run(engine, problem, path), whole)


@pytest.mark.parametrize("metric", ["identity", "diagonal", "full"])
def test_breaks_around_the_end_of_a_window_where_the_metric_changes(make_linear_problem, breaks, tmp_path, metric):
    engine, problem, steps = (
        HMC(chains=2, draws=3, warmup=20, trajectory_length=0.5, metric=metric),
        make_linear_problem(),
        [],
    )
    advance = HMC.advance

    class Watched(HMC):
        def advance(self, preconditioned, state, random, step):
            steps.append(breaks.calls)
            return advance(self, preconditioned, state, random, step)

    whole = run(Watched(**vars(engine)), problem)
    last_of_window = 17
    first, end = steps[last_of_window] + 1, steps[last_of_window + 1]
    trajectory = int(end - first)
    assert trajectory >= 2  # the trajectory, and then at least one for the new step size
    for place in {first, end - 1, end, end + 1}:
        path = tmp_path / f"{place}.ckpt"
        assert_same(breaks.until_done([place, 1], lambda path=path: run(Watched(**vars(engine)), problem, path)), whole)


def test_a_break_while_the_metric_is_made_changes_nothing(make_linear_problem, monkeypatch, tmp_path):
    engine, problem, path = HMC(chains=2, draws=3, warmup=20, metric="full"), make_linear_problem(), tmp_path / "run"
    whole, refresh, calls = run(engine, problem), PreconditionedDensity.refresh, []

    def interrupted(preconditioned, z):
        refresh(preconditioned, z)
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(PreconditionedDensity, "refresh", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(engine, problem, path)
    assert_same(run(engine, problem, path), whole)


@pytest.mark.parametrize("name", ["SGLD, full metric", "HMC"])
def test_draws_kept_at_a_break_are_the_first_of_the_whole_run(make_linear_problem, breaks, tmp_path, name):
    engine, problem = ENGINES[name], make_linear_problem()
    whole = run(engine, problem)
    breaks.at = (breaks.calls - 1,)
    kept = run(engine, problem, tmp_path / "run")
    assert 0 < kept.draws < whole.draws
    for values, expected in ((kept.samples, whole.samples), (kept.sample_stats, whole.sample_stats)):
        assert all(torch.equal(values[name], value[:, : kept.draws]) for name, value in expected.items())


KILLED = """
import os, sys, torch
from bayes_rpp import LogDensity
from inference import HMC, SGHMC, SGLD, Constant
from inference.sampling import run
run.CHECKPOINT_SECONDS = 0
calls = 0
def density(p):
    global calls
    calls += 1
    if calls == {at}:
        os._exit(9)
    return -(p["z"].pow(2) + p["z"].pow(4)).sum()
target = LogDensity(density, {{"z": torch.zeros(2, dtype=torch.float64)}})
{engine}.fit(target, None, seed=3, checkpoint=sys.argv[1])
"""


@pytest.mark.parametrize(
    ("engine", "at"),
    [(SGLD(0.01, chains=2, draws=9, warmup=9), 15), (HMC(chains=2, draws=9, warmup=25, trajectory_length=3.0), 60)],
    ids=["SGLD", "HMC"],
)
def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path, engine, at):
    code, path, calls = KILLED.format(at=at, engine=engine), tmp_path / "run", []
    killed = subprocess.run([sys.executable, "-c", code, str(path)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert killed.returncode == 9
    assert os.listdir(tmp_path) == ["run"]

    def log_density(p):
        calls.append(None)
        return -(p["z"].pow(2) + p["z"].pow(4)).sum()

    problem = LogDensity(log_density, {"z": torch.zeros(2, dtype=torch.float64)}), None
    calls.clear()
    whole = run(engine, problem, seed=3)
    total = len(calls)
    calls.clear()
    assert_same(run(engine, problem, path, seed=3), whole)
    assert len(calls) < total


def quartic_start(*positions):
    return Posterior(None, {"z": torch.tensor(positions, dtype=torch.float64)[:, None, None]})


@pytest.fixture
def quartic():
    """Chains that come near 10 diverge in a few steps."""
    return LogDensity(lambda p: -p["z"].pow(4).sum(), {"z": torch.zeros(1, dtype=torch.float64)}), None


@pytest.mark.parametrize("place", [1, 4, 8, 20])
def test_a_diverged_chain_has_its_partial_draws_across_a_break(quartic, breaks, tmp_path, place):
    engine, start = SGLD(0.01, chains=3, draws=30, warmup=0), quartic_start(0.0, 9.0, 0.2)
    with_all = run(dataclasses.replace(engine, draws=5), quartic, start=quartic_start(0.0, 6.0, 0.2))
    assert with_all.partial == []
    whole = run(engine, quartic, start=start)
    (partial,) = whole.partial
    step = whole.stats["diverged"]["1"]
    assert 1 < step < 8
    assert (partial.stats["chain"], partial.stats["diverged"]) == (1, step)
    assert partial.samples["z"].shape == (1, step - 1, 1)
    assert {value.shape for value in partial.sample_stats.values()} == {(1, step - 1)}
    short = run(dataclasses.replace(engine, draws=step - 1), quartic, start=start)
    assert torch.equal(partial.samples["z"][0], short.samples["z"][1])  # bit by bit what the chain had drawn
    assert torch.equal(whole.samples["z"][:, : step - 1], short.samples["z"][[0, 2]])
    path = tmp_path / "run"
    assert_same(breaks.until_done([place], lambda: run(engine, quartic, path, start=start)), whole)
    loaded = Posterior.load(whole.save(tmp_path / "posterior"), model=quartic[0])
    assert torch.equal(loaded.partial[0].samples["z"], partial.samples["z"])


def test_the_error_of_a_run_whose_chains_all_diverged_carries_their_draws_and_does_so_again(quartic, tmp_path):
    engine, start, path = SGLD(0.01, chains=2, draws=30, warmup=0), quartic_start(9.0, 8.0), tmp_path / "run"
    found = []
    for _ in range(2):
        with pytest.raises(ChainsDiverged, match=r"all 2 chain\(s\) diverged, in step\(s\)") as caught:
            run(engine, quartic, path, start=start)
        found.append(caught.value.partial)
    assert [part.stats["chain"] for part in found[0]] == [0, 1]
    assert all(0 < part.draws < 10 for part in found[0])
    assert all(part.samples["z"].isfinite().all() for part in found[0])
    for one, two in zip(*found, strict=True):
        assert_same(one, two)
