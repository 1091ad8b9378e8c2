"""The command bayes-rpp, from its arguments to its files and messages."""

import importlib.metadata
import json
import os
import shutil

import numpy as np
import pytest
import torch

from analysis.cli import main as cli
from analysis.cli.fitting import problem
from analysis.report.run import Run
from bayes_rpp.datasets import inertia
from inference import MAP, DeepEnsemble, Posterior
from inference.posterior.files import tensors_file

TINY = ["--members", "2", "--channels", "16", "--layers", "1", "--epochs", "6"]
O3 = ["--group", "O(3)", "--rep-in", "5*Scalar + 5*Vector", "--rep-out", "T(2)"]


def write_csv(path, spoil=lambda x, y: (x, y)):
    x, y = spoil(*(part.numpy() for part in inertia(train=30, symmetry_breaking=0.3, seed=3).train))
    header = [f"x{i}" for i in range(x.shape[1])] + [f"y{i}" for i in range(y.shape[1])]
    np.savetxt(path, np.hstack([x, y]), delimiter=",", header=",".join(header), comments="", fmt="%.7g")
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The folder of a fitted run; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("cli")
    assert cli.main(["fit", str(write_csv(folder / "bodies.csv")), *O3, *TINY, "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def no_training(monkeypatch):
    """Fail if anything is trained."""
    for engine in (MAP, DeepEnsemble):
        monkeypatch.setattr(engine, "fit", lambda *_, **__: pytest.fail("training began"))


def options(**changes):
    """The arguments O3 and TINY with some replaced."""
    arguments = dict(zip([*O3, *TINY][::2], [*O3, *TINY][1::2], strict=True))
    return [word for pair in (arguments | changes).items() for word in pair]


def test_help_names_the_commands_and_the_notation(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for word in ("demo", "fit", "report", "O(n)", "SO(n)", "Scalar", "Vector", "T(p)", "bayes-rpp report runs/bodies"):
        assert word in text


def test_the_command_is_installed():
    [script] = importlib.metadata.entry_points(group="console_scripts", name="bayes-rpp")
    assert script.load() is cli.main


def test_demo_writes_runs_report_and_picture(tmp_path, capsys):
    assert cli.main(["demo", *TINY, "--out", str(tmp_path / "demo")]) == 0
    output = capsys.readouterr()
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert set(report) == {"inertia", "modified inertia"}
    assert "the equivariance error of the true function is 0.16" in output.out
    assert f"picture: {tmp_path / 'demo' / 'equivariance.png'}" in output.out
    assert "fitting 2 members to inertia" in output.err
    for name in ("inertia", "modified-inertia"):
        posterior = Posterior.load(tmp_path / "demo" / name / "posterior")
        assert (posterior.chains, len(posterior.history), len(posterior.data[0])) == (2, 4, 1000)
    assert (tmp_path / "demo" / "equivariance.png").read_bytes().startswith(b"\x89PNG")


def test_demo_may_be_as_short_as_one_epoch(tmp_path):
    arguments = ["demo", "--members", "1", "--channels", "4", "--layers", "0", "--epochs", "1"]
    assert cli.main([*arguments, "--out", str(tmp_path)]) == 0


def test_fit_then_report(fitted, tmp_path, capsys):
    folder = shutil.copytree(fitted, tmp_path / "bodies")
    capsys.readouterr()
    assert cli.main(["report", str(folder)]) == 0
    output = capsys.readouterr()
    report = json.loads((folder / "report.json").read_text())["bodies"]
    assert f"{report['equivariance_error']['median']:.4f}" in output.out
    assert f"picture: {folder / 'equivariance.png'}" in output.out
    assert output.err == ""
    assert (report["engine"], report["members"], report["test_examples"]) == ("DeepEnsemble", 2, 6)


def test_fit_takes_every_option(tmp_path, capsys):
    npz = tmp_path / "bodies.npz"
    x, y = inertia(train=20, seed=0).train
    np.savez(npz, positions=x, tensors=y)
    variances = {"--equivariant-variance": "2", "--dense-variance": "1e-3", "--noise-variance": "0.5"}
    engine = {"--engine": "map", "--network": "emlp", "--x": "positions", "--y": "tensors", "--test-fraction": "0.25"}
    folder = tmp_path / "run"
    assert cli.main(["fit", str(npz), *options(**variances, **engine), "--out", str(folder), "--seed", "4"]) == 0
    assert f"bayes-rpp report {folder}" in capsys.readouterr().out
    posterior = Posterior.load(folder / "posterior")
    assert (posterior.stats["engine"], posterior.chains, posterior.stats["seed"]) == ("MAP", 1, 4)
    assert (posterior.stats["epochs"], len(posterior.data[0])) == (6, 15)
    assert posterior.model.likelihood.noise_variance == 0.5
    assert (posterior.model.prior.equivariant_variance, posterior.model.prior.dense_variance) == (2, 1e-3)
    assert type(posterior.model.network.network).__name__ == "EMLP"
    assert posterior.model.network.network.hidden[0].size == 16
    assert cli.main(["report", str(folder)]) == 0
    assert "no pathways" in capsys.readouterr().out


def test_default_noise_is_that_of_left_out_rows_and_the_same_in_all_directions(fitted):
    noise = torch.tensor(Posterior.load(fitted / "posterior").model.likelihood.noise_variance)
    assert len(noise) == 9
    assert (noise == noise[0]).all()


def test_held_out_rows_are_not_trained_on(fitted):
    run = Run.load(fitted)
    assert (len(run.posterior.data[0]), len(run.x)) == (24, 6)
    assert not {tuple(row) for row in run.x.tolist()} & {tuple(row) for row in run.posterior.data[0].tolist()}


def test_same_command_same_numbers(fitted, tmp_path):
    assert cli.main(["fit", str(fitted.parent / "bodies.csv"), *O3, *TINY, "--out", str(tmp_path / "again")]) == 0
    posteriors = [folder / "posterior" for folder in (fitted, tmp_path / "again")]
    files = [folder / tensors_file(folder) for folder in posteriors]
    assert files[0].read_bytes() == files[1].read_bytes()


def not_a_number(x, y):
    y[3, 4] = np.nan
    return x, y


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"--rep-in": "5*Scalar + 4*Vector"}, ["--x gives 20 number(s)", "'5*Scalar + 4*Vector' of O(3) has size 17"]),
        ({"--rep-out": "Vector"}, ["--y gives 9 number(s)", "'Vector' of O(3) has size 3"]),
        ({"--dense-variance": "-1"}, ["dense", "variance must be positive and finite, got -1"]),
        ({"--equivariant-variance": "nan"}, ["equivariant", "variance must be positive and finite, got nan"]),
        ({"--noise-variance": "0"}, ["noise", "variance must be positive and finite, got 0"]),
        ({"--group": "U(3)"}, ["unknown group 'U'; known are", "\n  U(3)\n  ^"]),
        ({"--group": "O(0)"}, ["O(n) needs an integer n >= 1, got 0"]),
        ({"--rep-in": "5*Scalar + 5*Vektor"}, ["unknown representation 'Vektor'", f"\n{' ' * 15}^"]),
        ({"--x": "mass*"}, ["no column 'mass*' (from --x); its columns are x0, x1,"]),
        ({"--x": "*"}, ["column 'y0'", "both an input and an output"]),
        ({"--members": "0"}, ["error: --members must be an integer of at least 1, got 0"]),
        ({"--epochs": "0"}, ["error: --epochs must be an integer of at least 1, got 0"]),
        ({"--lr": "-1"}, ["error: --lr must be positive and finite, got -1"]),
        ({"--batch-size": "0"}, ["error: --batch-size must be", "at least 1", "got 0"]),
        ({"--channels": "0"}, ["error: --channels must be a positive integer, got 0"]),
        ({"--layers": "-1"}, ["error: --layers must not be negative, got -1"]),
        ({"--test-fraction": "1"}, ["--test-fraction must lie between 0 and 1, got 1.0"]),
        ({"--test-fraction": "nan"}, ["--test-fraction", "nan"]),
    ],
    ids=lambda value: " ".join(*value.items()) if isinstance(value, dict) else "",
)
def test_bad_options_end_with_a_message_and_without_a_run(no_training, tmp_path, capsys, changes, messages):
    path = write_csv(tmp_path / "bodies.csv")
    assert cli.main(["fit", str(path), *options(**changes), "--out", str(tmp_path / "bad")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bayes-rpp: error: ")
    assert all(message in error for message in messages), error
    assert "Traceback" not in error
    assert [file.name for file in tmp_path.iterdir()] == ["bodies.csv"]


def test_seeds_that_torch_does_not_take_are_refused_with_the_range(tmp_path, capsys):
    for command in (["demo"], ["fit", "bodies.csv", *O3]):
        for seed in (2**64, -(2**63) - 1, 1.5, "one"):
            with pytest.raises(SystemExit) as end:
                cli.main([*command, "--seed", str(seed), "--out", str(tmp_path / "run")])
            assert end.value.code == 2
            message = f"argument --seed: must be an integer from -2**63 to 2**64 - 1, got '{seed}'"
            assert message in capsys.readouterr().err


def test_bad_options_do_not_leave_the_folders_above_the_run_behind_either(no_training, tmp_path):
    path = write_csv(tmp_path / "bodies.csv")
    assert cli.main(["fit", str(path), *options(**{"--channels": "0"}), "--out", str(tmp_path / "runs" / "bad")]) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["bodies.csv"]


@pytest.mark.parametrize(
    ("spoil", "messages"),
    [
        (lambda x, y: (x[:, 1:], y), ["--x gives 19 number(s)", "has size 20"]),
        (not_a_number, ["line 5 of", "bodies.csv, column 'y4', is empty", "1 of 30 rows have gaps"]),
        (lambda x, y: (x, 0 * y + 3), ["every row of", "bodies.csv to train on has the same y"]),
        (lambda x, y: (x, 0 * y), ["every row of", "bodies.csv to train on has the same y"]),
        (lambda x, y: (0 * x + 1, y), ["every row of", "bodies.csv to train on has the same x"]),
    ],
    ids=["narrow", "NaN", "constant outputs", "zero outputs", "constant inputs"],
)
def test_bad_data_end_with_a_message_and_without_a_run(no_training, tmp_path, capsys, spoil, messages):
    path = write_csv(tmp_path / "bodies.csv", spoil)
    assert cli.main(["fit", str(path), *O3, *TINY, "--out", str(tmp_path / "bad")]) == 2
    error = capsys.readouterr().err
    assert all(message in error for message in messages), error
    assert [file.name for file in tmp_path.iterdir()] == ["bodies.csv"]


@pytest.mark.filterwarnings("ignore:number 1 of y and 6 more varies")
def test_outputs_that_vary_by_rounding_or_where_they_are_held_out_are_constants(no_training, tmp_path, capsys):
    x, y = (part.double() for part in inertia(train=30, symmetry_breaking=0.3, seed=3).train)
    last = torch.randperm(30, generator=torch.Generator().manual_seed(0))[0]  # of the rows that are held out
    noise, one = 0.3 + 1e-17 * y.sign() * torch.arange(9), torch.full_like(y, 0.1)
    noise[::2] = 0.1 + 0.2
    one[last] = y[last]
    for constant in (noise, one):
        np.savez(tmp_path / "bodies.npz", x=x, y=constant)
        assert cli.main(["fit", str(tmp_path / "bodies.npz"), *O3, *TINY, "--out", str(tmp_path / "run")]) == 2
        assert "bodies.npz to train on has the same y" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nowhere.csv", "uneven.npz", "damaged.npz", "binary.csv"])
def test_files_that_are_no_tables_end_with_a_message(no_training, tmp_path, capsys, name):
    x, y = (part.numpy() for part in inertia(train=30).train)
    np.savez(tmp_path / "uneven.npz", x=x, y=y[:25])
    np.savez(tmp_path / "damaged.npz", x=x, y=y)
    (tmp_path / "damaged.npz").write_bytes((tmp_path / "damaged.npz").read_bytes()[:1000])
    (tmp_path / "binary.csv").write_bytes(b"x,y\n\xff\xfe\n")
    assert cli.main(["fit", str(tmp_path / name), *O3, *TINY, "--out", str(tmp_path / "bad")]) == 2
    assert name in capsys.readouterr().err
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize("command", ["fit", "demo"])
def test_a_file_in_the_way_is_found_before_training(no_training, tmp_path, capsys, command):
    path = write_csv(tmp_path / "bodies.csv")
    start = ["fit", str(path), *O3] if command == "fit" else ["demo"]
    for out in (path, path / "run"):
        assert cli.main([*start, *TINY, "--out", str(out)]) == 2
        assert f"cannot write to {out}" in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    for part in ("posterior", "inertia"):
        (tmp_path / "run" / part).write_text("a file in the way of a part of the run")
    assert cli.main([*start, *TINY, "--out", str(tmp_path / "run")]) == 2
    assert "cannot write to" in capsys.readouterr().err


def test_report_on_a_damaged_run_or_one_of_another_version(fitted, tmp_path, capsys):
    folder = shutil.copytree(fitted, tmp_path / "run")
    header = folder / "posterior" / "posterior.json"
    whole = header.read_text()
    for text, message in (
        (json.dumps(json.loads(whole) | {"version": 3}), "was written in version 3 of the format; this program reads"),
        (whole[:100], "posterior.json is damaged"),
    ):
        header.write_text(text)
        assert cli.main(["report", str(folder)]) == 2
        assert message in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path / "nowhere")]) == 2
    assert "there is no run folder" in capsys.readouterr().err
    assert not (folder / "report.json").exists()


def test_all_members_diverging_ends_with_a_message_a_user_of_the_command_can_act_on(fitted, tmp_path, capsys):
    data = str(fitted.parent / "bodies.csv")
    assert cli.main(["fit", data, *options(**{"--lr": "1e30"}), "--out", str(tmp_path / "bad")]) == 2
    assert "diverged" in capsys.readouterr().err
    assert not (tmp_path / "bad").exists()


def test_interrupt_ends_with_status_one(fitted, tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(problem, "read_data", interrupt)
    assert cli.main(["fit", str(fitted.parent / "bodies.csv"), *O3, *TINY, "--out", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err == "bayes-rpp: interrupted\n"


def test_a_reader_that_ends_early_is_no_error(fitted, monkeypatch, capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed, monkeypatch.context() as piped:
        piped.setattr("sys.stdout", closed)
        assert cli.main(["report", str(fitted)]) == 0
    assert capsys.readouterr().err == ""
