"""From a table to predictions of new rows: numbers, labels, gaps, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.cli import main as cli
from analysis.report.run import Run

TINY = ["--members", "3", "--channels", "16", "--layers", "1", "--epochs", "30", "--lr", "0.01"]


def table_of(path, rows=120, seed=0):
    """A line and its noise, labels by its sign, and a column of names beside."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, 2))
    y = 10 + x @ [1.0, -2.0] + 0.1 * generator.normal(size=rows)
    columns = {"name": [f"n{i}" for i in range(rows)], "a": x[:, 0], "b": x[:, 1], "y": y}
    pd.DataFrame(columns | {"sign": np.where(y > 10, "up", "down")}).to_csv(path, sep=";", index=False)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    data = str(table_of(folder / "data.csv"))
    for name, options in {"numbers": ["--y", "y"], "labels": ["--y", "sign", "--likelihood", "categorical"]}.items():
        assert cli.main(["fit", data, "--x", "b,a", *options, *TINY, "--out", str(folder / name)]) == 0
    return folder


def test_numbers_of_new_rows_have_their_names_and_intervals(runs, tmp_path, capsys):
    new, out = table_of(tmp_path / "new.csv", seed=1), tmp_path / "p.csv"
    assert cli.main(["predict", str(runs / "numbers"), str(new), "--out", str(out), "--probability", "0.8"]) == 0
    found = pd.read_csv(out)
    assert list(found) == ["y", "y_std", "y_lower", "y_upper"]
    prediction = Run.load(runs / "numbers").posterior.predict(
        torch.from_numpy(pd.read_csv(new, sep=";")[["b", "a"]].to_numpy().copy())
    )
    np.testing.assert_allclose(found.y, prediction.mean[:, 0])
    np.testing.assert_allclose(found.y_lower, prediction.quantile(0.1)[:, 0])
    true = pd.read_csv(new, sep=";").y
    inside = ((found.y_lower <= true) & (true <= found.y_upper)).mean()
    error = ((found.y - true) ** 2).mean()
    assert (
        f"120 rows have the outputs: MSE {error:.4g}; the 80 % intervals hold {inside:.1%}" in capsys.readouterr().out
    )


def test_labels_of_new_rows_are_the_labels_of_the_table(runs, tmp_path, capsys):
    new, out = table_of(tmp_path / "new.csv", seed=1), tmp_path / "p.csv"
    assert cli.main(["predict", str(runs / "labels"), str(new), "--out", str(out)]) == 0
    found, true = pd.read_csv(out), pd.read_csv(new, sep=";").sign
    assert list(found) == ["label", "p(down)", "p(up)"]
    assert (found.label == true).mean() > 0.9
    assert f"{(found.label != true).mean():.2%} are wrong" in capsys.readouterr().out
    assert cli.main(["report", str(runs / "labels")]) == 0
    assert "log score" in capsys.readouterr().out


def test_rows_with_gaps_stay_in_their_place(runs, tmp_path, capsys):
    new, out = tmp_path / "new.csv", tmp_path / "p.csv"
    new.write_text("a,b,y\n1,2,3\n,1,2\n3,4,\n1,,1\n")
    assert cli.main(["predict", str(runs / "numbers"), str(new), "--out", str(out)]) == 2
    assert "line 3 of" in capsys.readouterr().err
    assert cli.main(["predict", str(runs / "numbers"), str(new), "--out", str(out), "--drop-incomplete"]) == 0
    assert pd.read_csv(out, skip_blank_lines=False).y.isna().tolist() == [False, True, False, True]
    said = capsys.readouterr().out
    assert "4 rows (2 of them empty, for gaps in the inputs) of y, y_std" in said
    assert "1 rows have the outputs: MSE" in said  # the third has inputs and no output


def test_a_file_of_its_own_judges_the_run(tmp_path, capsys):
    data, other = table_of(tmp_path / "data.csv", 60), table_of(tmp_path / "other.csv", 40, seed=1)
    arguments = [
        "fit",
        str(data),
        "--x",
        "a,b",
        "--y",
        "y",
        "--test",
        str(other),
        *TINY,
        "--out",
        str(tmp_path / "run"),
    ]
    assert cli.main(arguments) == 0
    said = capsys.readouterr().err
    assert f"60 rows to train on, 40 to test on of {other}" in said
    assert "  2 Scalar <- a, b   (scales" in said
    run = Run.load(tmp_path / "run")
    assert (len(run.posterior.data[0]), len(run.x)) == (60, 40)


def test_what_cannot_be_predicted_or_fitted_is_said(runs, tmp_path, capsys):
    new, out = table_of(tmp_path / "new.csv", seed=1), tmp_path / "p.csv"
    (tmp_path / "others.csv").write_text("a,c\n1,2\n")
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "labels.csv").write_text("x,y\n" + "1.5,1\n2.5,0\n" * 20)
    run, to = str(runs / "numbers"), ["--out", str(out)]
    fit = ["fit", str(tmp_path / "labels.csv"), *TINY, "--out", str(tmp_path / "run")]
    for arguments, message in (
        (
            ["predict", run, str(tmp_path / "others.csv"), *to],
            "has no column 'b', an input of the run; its columns are a, c",
        ),
        (["predict", run, str(new), "--out", str(tmp_path / "there.csv")], "exists: give another --out, or --force"),
        (["predict", run, str(new), "--out", str(new), "--force"], "is the table itself, which would be lost"),
        (["predict", run, str(new), "--out", str(tmp_path / "p.txt")], "--out must be a .csv file"),
        (["predict", run, str(new), *to, "--probability", "90"], "--probability must lie between 0 and 1, got 90"),
        (["predict", str(tmp_path / "none"), str(new), *to], "there is no run folder"),
        (
            fit,
            "column 'y' of",
        ),
        (fit, "2 different whole numbers in 40 rows: 0, 1. For labels give --likelihood categorical"),
        ([*fit, "--group", "O(3)"], "--rep-in and --rep-out missing: a symmetry needs --group, --rep-in and --rep-out"),
        (
            [*fit, "--likelihood", "categorical", "--noise-variance", "1"],
            "--noise-variance is for --likelihood gaussian",
        ),
    ):
        assert cli.main(arguments) == 2
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.csv", "new.csv", "others.csv", "there.csv"]
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_what_a_table_or_a_run_verifies(tmp_path, capsys):
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    names = ["x0", "x1", "x2", "y0", "y1", "y2"]
    pd.DataFrame(torch.cat([x, 2 * x], 1).numpy(), columns=names).to_csv(tmp_path / "data.csv", index=False)
    data, symmetry = str(tmp_path / "data.csv"), ["--group", "O(3)", "--rep-in", "Vector", "--rep-out", "Vector"]
    assert cli.main(["verify", data, *symmetry]) == 0
    of_table = capsys.readouterr().out
    run = str(tmp_path / "run")
    assert cli.main(["fit", data, *symmetry, "--noise-variance", "0.1", *TINY, "--out", run]) == 0
    capsys.readouterr()
    assert cli.main(["verify", run]) == 0
    for said in (of_table, capsys.readouterr().out):
        assert "O(3)" in said
        assert "wrong" not in said
    for arguments, message in (
        (["verify", data], "a table needs --group, --rep-in and --rep-out"),
        (["verify", run, "--group", "O(3)"], "a run has a group and representations"),
    ):
        assert cli.main(arguments) == 2
        assert message in capsys.readouterr().err


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.startswith("bayes-rpp 0.")


def test_python_takes_columns_by_name_and_gives_the_names_back(runs, tmp_path):
    new = table_of(tmp_path / "new.csv", rows=30, seed=1)
    frame = pd.read_csv(new, sep=";")
    posterior = Run.load(runs / "numbers").posterior
    by_position = posterior.predict(frame[["b", "a"]].to_numpy())
    for columns in (["a", "b"], ["name", "b", "a", "y"]):
        assert torch.equal(posterior.predict(frame[columns]).mean, by_position.mean)
        assert torch.equal(posterior.outputs(frame[columns]), by_position.samples)
    assert list(by_position.to_dataframe()) == ["y", "y_std", "y_lower", "y_upper"]
    with pytest.raises(ValueError, match="x lacks 'b'; the posterior was fitted to b, a"):
        posterior.predict(frame[["a"]])
    strangers = frame[["b", "a"]].set_axis(["p", "q"], axis=1)  # share no name, and are taken by position
    assert torch.equal(posterior.predict(strangers).mean, by_position.mean)
    labels = Run.load(runs / "labels").posterior.predict(frame)
    assert list(labels.to_dataframe()) == ["label", "p(down)", "p(up)"]


def test_rows_that_were_trained_on_are_counted(runs, tmp_path, capsys):
    data = str(runs / "data.csv")
    capsys.readouterr()
    assert cli.main(["predict", str(runs / "numbers"), data, "--out", str(tmp_path / "p.csv")]) == 0
    said = capsys.readouterr().out
    assert "96 of them have the inputs of rows that the run was trained on" in said
    assert cli.main(["report", str(runs / "numbers"), "--json"]) == 0
    held_out = json.loads(capsys.readouterr().out)["numbers"]  # the others are those that were held out
    assert f"24 new rows have the outputs: MSE {held_out['test_mse_of_mean']:.4g}; the 90 % intervals hold" in said
    assert cli.main(["fit", data, "--x", "b,a", "--y", "y", *TINY, "--test", data, "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr()
    assert "warning: 120 of the 120 rows to test on have the inputs of rows to train on." in said.err
    noise = Run.load(tmp_path / "run").posterior.bayesian_model.likelihood.noise_variance[0] ** 0.5
    assert f"standard deviation of the noise: y {noise:.3g}" in said.out
