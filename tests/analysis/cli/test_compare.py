"""Groups of a table by their evidence, and runs by held-out rows."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis.cli import main as cli
from inference import EmpiricalBayes, Posterior

TINY = ["--members", "1", "--channels", "4", "--layers", "0", "--epochs", "40", "--lr", "0.05"]
REPS = ["--rep-in", "Vector", "--rep-out", "Vector"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """y is x, with its third coordinate doubled, and noise: symmetric about the z axis alone."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=(150, 3))
    y = x * [1, 1, 2] + 0.1 * generator.normal(size=x.shape)
    path = tmp_path_factory.mktemp("compare") / "data.csv"
    pd.DataFrame({f"{k}{i}": v[:, i] for k, v in (("x", x), ("y", y)) for i in range(3)}).to_csv(path, index=False)
    return path


def compared(capsys, *words):
    assert cli.main(["compare", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_evidence_prefers_the_group_that_the_table_has(table, capsys):
    found = compared(capsys, table, "--groups", "O(3)", "O2eR3", "none", *REPS, *TINY)
    models = found["models"]
    assert list(models) == ["O(3)", "O2eR3", "none"]
    assert max(models, key=lambda name: models[name]["log_evidence"]) == "O2eR3"
    assert models["O(3)"]["equivariance_error"] < 1e-5 < 0.01 < models["O2eR3"]["equivariance_error"]
    assert models["O2eR3"]["test_mse"] < 0.05 < models["O(3)"]["test_mse"]
    assert found["verdict"][0].startswith("The evidence prefers O2eR3 to no exact symmetry by ")


def test_the_evidence_is_doubted_where_held_out_rows_say_otherwise(table, tmp_path, capsys):
    """Rows to test on are symmetric, and those to train on are not."""
    other = pd.read_csv(table)
    other[[f"y{i}" for i in range(3)]] = other[[f"x{i}" for i in range(3)]] * 4 / 3
    other.to_csv(tmp_path / "other.csv", index=False)
    found = compared(capsys, table, "--groups", "O(3)", "none", *REPS, *TINY, "--test", tmp_path / "other.csv")
    assert found["verdict"][0].startswith("The evidence prefers no exact symmetry to O(3) by ")
    assert found["verdict"][0].endswith(" nats; but see below.")
    assert found["verdict"][1].startswith(
        "But the modes of no exact symmetry predict held-out rows worse than those of"
    )


def test_a_report_has_the_evidence_if_asked(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("analysis.report.evidence.SMALL", EmpiricalBayes(members=1, epochs=40, lr=0.05))
    fit = ["fit", str(table), *TINY, "--noise-variance", "0.01"]
    for name, options in {"rpp": ["--group", "O(3)", *REPS], "without": []}.items():
        assert cli.main([*fit, *options, "--out", str(tmp_path / name)]) == 0
    assert cli.main(["report", str(tmp_path / "rpp")]) == 0
    page = tmp_path / "rpp/report.html"
    assert "Not compared here" in page.read_text()
    assert cli.main(["report", str(tmp_path / "rpp"), "--evidence"]) == 0
    sentence = "The evidence prefers no exact symmetry to O(3) by "
    assert f"rpp: {sentence}" in capsys.readouterr().out
    assert page.read_text().count(sentence) == 2  # in the verdict, and with its table
    found = json.loads((tmp_path / "rpp/report.json").read_text())["rpp"]["evidence"]
    assert found["models"]["none"]["log_evidence"] > found["models"]["O(3)"]["log_evidence"] + 10
    assert cli.main(["report", str(tmp_path / "without"), "--evidence"]) == 2
    assert "this run was fitted without" in capsys.readouterr().err


def test_runs_are_compared_by_the_same_rows(table, tmp_path, capsys):
    fit = ["fit", str(table), *TINY, "--noise-variance", "0.01"]
    for name, options in {"emlp": ["--network", "emlp"], "rpp": [], "other": ["--seed", "1"]}.items():
        assert cli.main([*fit, "--group", "O(3)", *REPS, *options, "--out", str(tmp_path / name)]) == 0
    capsys.readouterr()
    found = compared(capsys, tmp_path / "emlp", tmp_path / "rpp")
    assert set(found["posteriors"]) == {"emlp", "rpp"}
    assert found["posteriors"]["emlp"]["behind"] > 1
    assert found["verdict"] == ["rpp predicts these 30 rows better than emlp, by over 2 standard errors."]
    assert cli.main(["compare", str(tmp_path / "emlp"), str(tmp_path / "rpp")]) == 0
    assert capsys.readouterr().out.startswith("30 held-out rows\n")
    for words, message in {
        (tmp_path / "emlp", tmp_path / "other"): "other and emlp were judged by different rows",
        (tmp_path / "emlp",): "compare takes two runs or more",
        (tmp_path / "emlp", table): "compare takes one table with --groups, or runs",
        (table,): "a table needs --groups to compare",
        (tmp_path / "emlp", tmp_path / "rpp", "--groups", "O(3)"): "--groups is for a table",
        (table, "--groups", "none", "O(3)", *REPS): "--groups takes two or more, the largest first",
        (table, "--groups", "O(3)", *REPS): "--groups takes two or more, the largest first",
        (table, "--groups", "O(3)", "none"): "--rep-in and --rep-out missing",
    }.items():
        assert cli.main(["compare", *map(str, words)]) == 2
        assert message in capsys.readouterr().err


def test_an_interrupt_ends_the_whole_comparison(table, monkeypatch, capsys):
    fits = []

    def cut_short(self, model, data, **_):
        fits.append(model)
        return Posterior(model, {}, {"interrupted": True})

    monkeypatch.setattr(EmpiricalBayes, "fit", cut_short)
    assert cli.main(["compare", str(table), "--groups", "O(3)", "none", *REPS, *TINY]) == 1
    assert "bayes-rpp: interrupted: nothing of the comparison is kept" in capsys.readouterr().err
    assert len(fits) == 1
