"""Interrupts that come while a run is written: what is said of it is what is there, whenever they come."""

import os
import signal

import numpy as np
import pytest

from analysis.cli import main as cli
from analysis.cli import run_folder
from analysis.report.run import Run
from bayes_rpp.datasets import inertia
from inference import Posterior
from inference.checkpoint import Checkpoint
from inference.posterior.files import tensors_file
from inference.training.parameter_stack import ParameterStack

WORDS = [
    "--group", "O(3)", "--rep-in", "5*Scalar + 5*Vector", "--rep-out", "T(2)", "--members", "2", "--channels", "8",
    "--layers", "1", "--epochs", "4", "--batch-size", "8", "--noise-variance", "0.2",
]  # fmt: skip
DEMO = ["--members", "1", "--channels", "4", "--layers", "0", "--epochs", "2"]
pytestmark = pytest.mark.usefixtures("interrupts_are_heard")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def words(tmp_path):
    path, (x, y) = tmp_path / "bodies.npz", inertia(train=30, symmetry_breaking=0.3, seed=3).train
    np.savez(path, x=x, y=y)
    return ["fit", str(path), *WORDS, "--out", str(tmp_path / "run")]


@pytest.fixture
def before(monkeypatch):
    """Do something before the calls of a method, of these numbers."""

    def arrange(owner, name, do, calls=(1,)):
        original, count = getattr(owner, name), []

        def method(*args, **kwargs):
            count.append(None)
            if len(count) in calls:
                do()
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, method)

    return arrange


def send(number):
    return lambda: os.kill(os.getpid(), number)


def ctrl_c():
    raise KeyboardInterrupt


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_does_not_end_the_writing(words, before, tmp_path, capfd, first, second):
    handlers = [signal.getsignal(number) for number in SIGNALS]
    before(ParameterStack, "step", send(first), calls=[8])
    before(Checkpoint, "save", send(second))
    before(Run, "save", send(second))
    assert cli.main(words) == 1
    error = capfd.readouterr().err
    assert error.count("bayes-rpp: interrupted already, and writing what was trained\n") == 2
    assert f"interrupted: what was trained is in {tmp_path / 'run' / 'unfinished'}; go on with" in error
    assert Posterior.load(tmp_path / "run" / "unfinished" / "posterior").stats["epochs"] == 2
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
    assert cli.main([*words, "--resume"]) == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"posterior"}


def test_an_interrupt_at_any_moment_is_answered_by_what_is_kept(words, before, tmp_path, capsys):
    run = tmp_path / "run"
    moments = {
        "the whole run is to be written": ((Run, "save"), "only a checkpoint of what was trained is in"),
        "the checkpoint is to be written": ((Checkpoint, "save"), "nothing of what was trained is kept"),
        "the run is written": ((run_folder, "remove_file"), f"the run was finished already, and is in {run}"),
    }
    for (owner, name), message in moments.values():
        earlier = tensors_file(run / "posterior")
        before(owner, name, ctrl_c, calls=[2 if owner is run_folder else 1])
        assert cli.main([*words, "--force"]) == 1
        assert f"bayes-rpp: interrupted: {message}" in capsys.readouterr().err
        assert (run / "unfinished").exists() == ("checkpoint" in message)
        if "checkpoint" in message:
            assert cli.main([*words, "--resume"]) == 0
        assert (tensors_file(run / "posterior") != earlier) == ("nothing" not in message)


def test_a_demo_cannot_go_on_and_says_so(before, tmp_path, capsys):
    before(Run, "save", ctrl_c)
    assert cli.main(["demo", *DEMO, "--out", str(tmp_path / "demo")]) == 1
    assert "interrupted: nothing of what was trained is kept\n" in capsys.readouterr().err
    assert not (tmp_path / "demo" / "inertia" / "unfinished").exists()
