"""Files and folders of someone else's, where the command would keep its own, are left alone and do not stop reports."""

import json
import shutil

import numpy as np
import pytest

from analysis.cli import main as cli
from bayes_rpp.datasets import inertia
from inference import DeepEnsemble

WORDS = ["--group", "O(3)", "--rep-in", "5*Scalar + 5*Vector", "--rep-out", "T(2)", "--members", "2", "--channels", "8"]
WORDS += ["--layers", "1", "--epochs", "2"]
BEGUN = {"format": "bayes_rpp unfinished run", "options": {}, "replaces": None}
FOREIGN = {  # a file of the folder, its content, and what is said of it
    "thesis.tex": ("mine", "holds other files (thesis.tex) than an unfinished run"),
    "run.json": ('{"format": "mine"}', "holds other files (run.json) than an unfinished run"),
    "list/run.json": ("[[]]", "holds other files (run.json) than an unfinished run"),
    "options/run.json": (json.dumps(BEGUN | {"options": 3}), "run.json is damaged: its entry 'options' holds 3"),
    "replaces/run.json": (json.dumps(BEGUN | {"replaces": []}), "run.json is damaged: its entry 'replaces' holds []"),
    "": ("a file of this name", "is no folder of an unfinished run, but a file"),
}


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    path, (x, y) = (
        tmp_path_factory.mktemp("data") / "bodies.npz",
        inertia(train=30, symmetry_breaking=0.3, seed=3).train,
    )
    np.savez(path, x=x, y=y)
    return ["fit", str(path), *WORDS]


@pytest.fixture(scope="module")
def finished(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert cli.main([*words, "--out", str(folder)]) == 0
    return folder


def put(name, content, folder):
    """Make ``unfinished`` someone else's: a folder with a file, or a file."""
    path = folder / "unfinished" / name.rpartition("/")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    (path if name else folder / "unfinished").write_text(content)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", FOREIGN)
def test_someone_elses_unfinished_is_left_alone_and_stops_fits_but_no_reports(
    words, finished, name, tmp_path, capsys, caplog, monkeypatch
):
    monkeypatch.setattr(DeepEnsemble, "fit", lambda *_, **__: pytest.fail("training began"))
    content, message = FOREIGN[name]
    put(name, content, tmp_path / "new")
    before = contents(tmp_path / "new")
    for options in ([], ["--force"], ["--resume"]):
        assert cli.main([*words, "--out", str(tmp_path / "new"), *options]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.endswith("Give another --out.\n")
    assert cli.main(["report", str(tmp_path / "new")]) == 2
    assert "holds no saved posterior" in capsys.readouterr().err
    assert contents(tmp_path / "new") == before

    folder = shutil.copytree(finished, tmp_path / "run")
    put(name, content, folder)
    before = contents(folder)
    caplog.clear()
    assert cli.main(["report", str(folder)]) == 0
    assert message in caplog.text
    assert "It is left alone, and is not in this report." in caplog.text
    assert "--out" not in caplog.text
    assert contents(folder).items() >= before.items()
    assert json.loads((folder / "report.json").read_text())["run"]["members"] == 2


def test_a_run_that_an_older_version_left_unfinished_is_replaced_as_a_whole(words, tmp_path):
    folder = tmp_path / "run"
    (folder / "unfinished").mkdir(parents=True)
    (folder / "unfinished" / "run.json").write_text(json.dumps(BEGUN))
    for name in ("start", "checkpoint", f".checkpoint-noise-1-0-{'0' * 32}"):
        (folder / "unfinished" / name).write_text("state")
    assert cli.main([*words, "--out", str(folder)]) == 2
    assert cli.main([*words, "--out", str(folder), "--force"]) == 0
    assert {path.name for path in folder.iterdir()} == {"posterior"}
