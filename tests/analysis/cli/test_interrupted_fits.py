"""Fits that are interrupted are kept apart and go on to the same bits; finished ones are replaced only by --force."""

import json
import os
import shutil
import signal
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from analysis.cli import main as cli
from analysis.report.files import MARK, PICTURE, REPORT
from analysis.report.run import Run
from bayes_rpp.datasets import inertia
from inference import DeepEnsemble, Posterior
from inference.posterior.files import HEADER
from inference.training.parameter_stack import ParameterStack

OPTIONS = {
    "--group": "O(3)", "--rep-in": "5*Scalar + 5*Vector", "--rep-out": "T(2)", "--members": "2", "--channels": "16",
    "--layers": "1", "--epochs": "6", "--batch-size": "8", "--noise-variance": "0.2",
}  # fmt: skip


NOT_GIVEN = object()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "bodies.npz"
    x, y = inertia(train=30, symmetry_breaking=0.3, seed=3).train
    np.savez(path, x=x, y=y)
    return path


@pytest.fixture
def fit(data):
    """Run `fit` into a folder, with options changed or added; None takes no value, and NOT_GIVEN leaves one out."""

    def run(out, path=data, **changes):
        options = OPTIONS | {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
        given = {name: value for name, value in options.items() if value is not NOT_GIVEN}
        words = [word for pair in given.items() for word in pair if word is not None]
        return cli.main(["fit", str(path), *words, "--out", str(out)])

    return run


@contextmanager
def stop(number, how):
    """Stop the training in a step: by Ctrl-C, by SIGTERM, or by an error."""
    steps, original = [], ParameterStack.step

    def step(self, batch, lr):
        steps.append(None)
        if len(steps) == number:
            how()
        return original(self, batch, lr)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ParameterStack, "step", step)
        yield


def ctrl_c():
    raise KeyboardInterrupt


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def fail():
    raise RuntimeError("out of memory")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def samples(folder):
    return Posterior.load(folder / "posterior").samples


def assert_same_run(found, expected):
    assert all(torch.equal(samples(found)[name], value) for name, value in samples(expected).items())
    assert {path.name for path in found.iterdir()} == {"posterior"}


@pytest.mark.parametrize("how", [ctrl_c, terminate])
def test_an_interrupted_fit_is_kept_apart_marked_and_goes_on_to_the_same_bits(fit, tmp_path, capsys, how):
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert fit(whole) == 0
    with stop(8, how):  # 24 examples are three steps an epoch
        assert fit(folder) == 1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    error = capsys.readouterr().err
    assert f"bayes-rpp: interrupted: what was trained is in {folder / 'unfinished'}; go on with the same" in error
    assert {path.name for path in folder.iterdir()} == {"unfinished"}
    kept = Posterior.load(folder / "unfinished" / "posterior")
    assert (kept.stats["interrupted"], kept.stats["epochs"]) == (True, 2)

    assert cli.main(["report", str(folder)]) == 0
    assert "run (interrupted) " in capsys.readouterr().out
    report = json.loads((folder / "unfinished" / REPORT).read_text())["run"]
    assert (report["interrupted"], report["epochs"]) == (True, 2)
    with stop(5, how):
        assert fit(folder, resume=None) == 1
    assert not (folder / "unfinished" / REPORT).exists()  # it was on what was trained before
    assert Posterior.load(folder / "unfinished" / "posterior").stats["epochs"] == 3
    capsys.readouterr()

    assert fit(folder) == 2
    assert f"{folder} holds an unfinished run: give --resume" in capsys.readouterr().err
    assert fit(folder, resume=None) == 0
    assert_same_run(folder, whole)
    assert Posterior.load(folder / "posterior").stats.keys() == Posterior.load(whole / "posterior").stats.keys()
    assert fit(folder, resume=None) == 2
    assert "--resume goes on with an unfinished run in" in capsys.readouterr().err


STAGES = {  # of a fit by its options: the stages of which there are checkpoints, and steps in which an interrupt comes
    "noise": ({"noise_variance": NOT_GIVEN}, {"-noise-1-0", "-noise-1-4"}, (2, 150)),
    "prior": ({"prior": "learned"}, {"-prior", ""}, (8, 25)),
    "evidence": ({"engine": "empirical-bayes"}, {""}, (8, 11)),
    "laplace": ({"engine": "laplace", "draws": "5"}, {"-start"}, (8,)),
}


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_of_a_fit_goes_on_to_the_same_bits(fit, tmp_path, stage, capsys):
    options, checkpoints, steps = STAGES[stage]
    assert fit(tmp_path / "whole", **options) == 0
    found, resume = set(), {}
    for step in steps:
        with stop(step, ctrl_c):
            assert fit(tmp_path / "run", **options, **resume) == 1
        assert "go on with the same command and --resume" in capsys.readouterr().err
        found |= {path.name for path in (tmp_path / "run" / "unfinished").glob("checkpoint*")}
        resume = {"resume": None}
    assert found >= {f"checkpoint{name}" for name in checkpoints}
    assert fit(tmp_path / "run", **options, resume=None) == 0
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_other_options_or_data_than_those_of_the_interrupted_run_are_refused_by_name(fit, tmp_path, capsys):
    folder, other = tmp_path / "run", tmp_path / "other.npz"
    assert fit(folder, resume=None) == 2
    assert "but there is none" in capsys.readouterr().err
    with stop(8, ctrl_c):
        assert fit(folder) == 1
    before = contents(folder)
    capsys.readouterr()
    for name, value, message in (
        ("lr", "0.01", "--lr was 0.003; here it is 0.01"),
        ("epochs", "7", "--epochs was 6; here it is 7"),
        ("noise_variance", "1", "--noise-variance was 0.2; here it is 1.0"),
        ("rep_out", "9*Scalar", "--rep-out was 'T(2)'; here it is '9*Scalar'"),
    ):
        assert fit(folder, resume=None, **{name: value}) == 2
        assert message in capsys.readouterr().err
    x, y = inertia(train=30, symmetry_breaking=0.3, seed=4).train
    np.savez(other, x=x, y=y)
    assert fit(folder, other, resume=None) == 2
    assert "DATA was 'of digest" in capsys.readouterr().err
    assert contents(folder) == before


def test_a_finished_run_is_replaced_only_by_force_and_only_when_the_new_one_is_whole(fit, tmp_path, capsys, caplog):
    folder, new = tmp_path / "run", tmp_path / "new"
    assert fit(folder) == fit(new, seed="1") == 0
    assert cli.main(["report", str(folder)]) == 0
    (folder / "notes.txt").write_text("mine")
    finished = contents(folder)
    for status, step, how, options in (
        (2, 1, fail, {}),
        (2, 1, fail, {"force": None}),
        (1, 8, ctrl_c, {"force": None}),
    ):
        with stop(step, how):
            assert fit(folder, seed="1", **options) == status
        assert {name: content for name, content in contents(folder).items() if "unfinished" not in name} == finished
    error = capsys.readouterr().err
    assert f"{folder} holds a finished run: give another --out, or --force to replace it" in error
    assert cli.main(["report", str(folder)]) == 0  # on the finished one
    assert f"there is also an unfinished run in {folder / 'unfinished'}" in caplog.text
    assert json.loads((folder / REPORT).read_text())["run"]["interrupted"] is False
    assert fit(folder, seed="1", resume=None) == 0
    (folder / "notes.txt").unlink()
    assert_same_run(folder, new)  # without the report on the old one


def test_a_run_that_was_finished_meanwhile_is_not_replaced(fit, tmp_path, capsys):
    folder, other = tmp_path / "run", tmp_path / "other"
    assert fit(other, seed="5") == 0
    finished = contents(other)
    with stop(4, lambda: shutil.copytree(other / "posterior", folder / "posterior")):
        assert fit(folder) == 2
    assert "another run was finished in" in capsys.readouterr().err
    assert contents(folder / "posterior") == contents(other / "posterior")
    assert fit(folder, resume=None) == 2
    assert fit(folder, resume=None, force=None) == 0
    assert contents(folder).keys() != finished.keys()
    assert Posterior.load(folder / "posterior").stats["seed"] == 0


def test_a_report_is_on_the_run_that_is_there_when_it_is_written(fit, tmp_path, monkeypatch):
    folder, reported, load = tmp_path / "run", [], Run.load
    assert fit(folder) == 0

    def replaced_after_loading(path):
        run = load(path)
        reported.append(len(run.x))
        if len(reported) == 1:
            assert fit(folder, test_fraction="0.5", force=None) == 0
        return run

    monkeypatch.setattr(Run, "load", staticmethod(replaced_after_loading))
    assert cli.main(["report", str(folder)]) == 0
    assert reported == [6, 15]
    assert json.loads((folder / REPORT).read_text())["run"]["test_examples"] == 15


def test_a_report_that_is_written_while_a_run_is_replaced_goes_with_the_older_run(fit, tmp_path, monkeypatch):
    folder, save = tmp_path / "run", Run.save
    assert fit(folder) == 0

    def reported_before_saving(run, path):
        assert cli.main(["report", str(folder)]) == 0
        save(run, path)

    monkeypatch.setattr(Run, "save", reported_before_saving)
    assert fit(folder, force=None) == 0
    assert {path.name for path in folder.iterdir()} == {"posterior"}


def test_a_symbolic_link_to_a_folder_that_is_not_there_yet_is_followed(fit, tmp_path):
    (tmp_path / "link").symlink_to("not/yet")
    assert fit(tmp_path / "link") == 0
    assert {path.name for path in (tmp_path / "not" / "yet").iterdir()} == {"posterior"}


def test_two_fits_into_one_folder_do_not_mix(fit, tmp_path, capsys):
    second = []
    with stop(4, lambda: second.append(fit(tmp_path / "run", force=None))):
        assert fit(tmp_path / "run") == 0
    assert second == [2]
    assert "another fit is at work" in capsys.readouterr().err


def test_of_a_fit_that_was_killed_before_its_first_checkpoint_there_is_nothing_to_lose(fit, tmp_path, capsys):
    folder, whole = tmp_path / "run", tmp_path / "whole"
    assert fit(whole) == 0
    for options in ({}, {"resume": None}):
        with stop(2, ctrl_c):
            assert fit(folder) == 1
        shutil.rmtree(folder / "unfinished" / "posterior")
        (folder / "unfinished" / "checkpoint").unlink()
        assert cli.main(["report", str(folder)]) == 2
        assert "is unfinished and has no posterior yet" in capsys.readouterr().err
        assert fit(folder, **options) == 0
        assert_same_run(folder, whole)
        shutil.rmtree(folder)


@pytest.mark.parametrize("command", ["report", "demo"])
@pytest.mark.parametrize("name", [REPORT, PICTURE])
def test_files_of_a_reports_names_that_no_report_has_written_are_not_replaced(
    fit, data, tmp_path, capsys, monkeypatch, command, name
):
    folder = tmp_path / "run"
    if command == "report":
        assert fit(folder) == 0
    else:
        folder.mkdir()
        monkeypatch.setattr(DeepEnsemble, "fit", lambda *_, **__: pytest.fail("training began"))
    for content in (b'{"run": {"mse": 1}}', b"{}", b"[]", b"\x89PNG", b""):
        (folder / name).write_bytes(content)
        assert cli.main([command, *(["--out"] if command == "demo" else []), str(folder)]) == 2
        assert f"{folder / name} was not written by bayes-rpp" in capsys.readouterr().err
        assert (folder / name).read_bytes() == content
    assert {path.name for path in folder.iterdir()} <= {"posterior", name}


def test_demo_refuses_a_finished_demo_and_keeps_an_interrupted_one_apart(tmp_path, capsys):
    tiny = ["demo", "--members", "1", "--channels", "4", "--layers", "0", "--epochs", "2", "--out", str(tmp_path)]
    assert cli.main(tiny) == 0
    finished = contents(tmp_path)
    assert cli.main(tiny) == 2
    assert "holds a finished run" in capsys.readouterr().err
    with stop(3, ctrl_c):
        assert cli.main([*tiny, "--force", "--seed", "1"]) == 1
    assert contents(tmp_path).items() >= finished.items()
    assert (tmp_path / "inertia" / "unfinished" / "posterior" / HEADER).exists()
    assert cli.main([*tiny, "--force", "--seed", "1"]) == 0
    assert {path.name for path in (tmp_path / "inertia").iterdir()} == {"posterior"}
    assert json.loads((tmp_path / REPORT).read_text())["inertia"]["format"] == MARK
    assert Posterior.load(tmp_path / "inertia" / "posterior").stats["seed"] == 1
