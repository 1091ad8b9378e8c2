"""The scripts of the long experiments: one real run each, and the tables of what they recorded."""

import contextlib
import json
import signal
from functools import partial
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import pytest
import torch
import xarray as xr

from analysis import chosen_cell
from bayes_rpp.datasets.regression_data import Split
from tests.seeds import shifted
from tests.test_paper_scripts import measured, rows

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_a_case_that_an_interrupt_cut_short_is_not_recorded(script, tmp_path, monkeypatch):
    """Engines return what they have then, which would pass for the result of a whole run."""
    runs = script("recording.resumed_runs")
    monkeypatch.setattr(runs, "date_record", lambda _: None)
    cut_short, path = ["second"], tmp_path / "results.json"

    def run(case):
        if case in cut_short:
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        return {"value": 1.0}

    cases, handler = [("first",), ("second",), ("third",)], signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        runs.run_all(path, cases, run)
    assert signal.getsignal(signal.SIGINT) == handler
    assert list(json.loads(path.read_text())) == ["first"]
    cut_short.clear()
    assert list(runs.run_all(path, cases, run)) == ["first", "second", "third"]


@pytest.mark.statistical
def test_a_level_of_symmetry_breaking_is_measured(script):
    row = script("symmetry_level").level("0.3", "100", str(shifted()))
    assert row["truth"] == pytest.approx(0.086, abs=0.005)
    assert row["lower"] < row["median"] < row["upper"]
    assert row["truth"] / 2 < row["lower"] < row["upper"] < 2 * row["truth"]
    assert row["log Bayes factor"] > 100
    assert row["dense variance"] == pytest.approx(row["plugged dense variance"], rel=0.5)


def test_ranks_are_among_the_draws(script):
    level = script("symmetry_level")
    row = level.rank("0")
    assert all(0 <= value <= level.RANKED for value in row.values())
    assert len(row) == 4


def test_what_is_recorded_is_calibrated(script):
    level = script("symmetry_level")
    results = json.loads(level.RESULTS.read_text())
    lines = level.rank_table(results).splitlines()[2:]
    p_values = {cells[1].strip(): float(cells[2]) for cells in (line.split("|") for line in lines)}
    control = p_values.pop("equivariance error, plugged in")
    assert min(p_values.values()) > 1e-3 / len(p_values)
    assert control < 1e-20


@pytest.mark.statistical
def test_the_true_group_is_picked(script):
    """With a hundredth of the noise: how far a symmetric model is ahead of one that may break the symmetry, a few nats,
    depends on how small a break the data can exclude."""
    which = script("which_group")
    which.NOISE /= 100
    results = {
        f"linear/{truth}/{breaking}/0": which.run("linear", truth, breaking, str(shifted()))
        for truth, breaking in (("O(3)", "0"), ("O2eR3", "0.3"), ("Trivial(3)", "0.3"))
    }
    for key, row in results.items():
        assert max(which.KINDS, key=row.get) == key.split("/")[1]
        assert row["probability"] > 0.9
    which.BREAKS["linear"] = ("0.3",)
    picks = [line.split(" | ")[1:4] for line in which.table(results, "linear").splitlines()[2:]]
    assert picks == [["1", "0", "0"], ["0", "1", "0"], ["0", "0", "1"]]


def test_evidence_has_chosen_good_variances_in_what_is_recorded(script):
    """At most 1.1 times the error of the best cell, by the grid and by the gradient; on exact data at most 1.25 times
    that of EMLP, and with a wrong group at most 1.1 times that of the MLP."""
    grid, inertia = script("figure3_right"), script("evidence_inertia")
    runs = json.loads(inertia.RESULTS.read_text())
    sweeps = {
        key.split("/")[1]: xr.Dataset.from_dict(row["dataset"])
        for key, row in json.loads(grid.RESULTS.read_text()).items()
        if key.startswith("members/")
    }
    assert set(sweeps) == {str(seed) for seed in inertia.SEEDS}

    def mean(data, name):
        return fmean(row["test_mse"] for row in inertia.recorded(runs, data, name))

    best = sum(float(sweep.test_mse.min()) for sweep in sweeps.values()) / len(sweeps)
    for criterion in grid.QUICK:
        chosen = [float(sweep.test_mse.sel(chosen_cell(sweep, criterion))) for sweep in sweeps.values()]
        assert sum(chosen) / len(chosen) < 1.1 * best
    for name in ("RPP", "RPP per layer"):
        assert mean("Modified Inertia", name) < 1.1 * best
        assert mean("Inertia", name) < 1.25 * mean("Inertia", "EMLP")
    assert mean("Inertia", "RPP of SL(3)") < 1.1 * mean("Inertia", "MLP")
    tables = inertia.network_table(runs), inertia.level_table(runs), grid.table(sweeps, {})
    assert all(len(table.splitlines()) > 3 for table in tables)


def test_networks_picked_the_true_group_in_what_is_recorded(script):
    which = script("which_group")
    results = json.loads(which.RESULTS.read_text())
    rows = which.table(results, "network").splitlines()[2:]
    picks = [[int(cell) for cell in row.split(" | ")[1:4]] for row in rows]
    assert [sum(row) for row in picks] == [which.SETS] * 3
    assert all(row[place] == max(row) for place, row in enumerate(picks))


def test_intervals_of_the_command_are_counted(script, monkeypatch):
    intervals = script("command_intervals")

    def uci(name, split, root):
        x = torch.randn(60, 3, dtype=torch.float64)
        y = x.sum(1, keepdim=True) + 0.1 * torch.randn(60, 1)
        return SimpleNamespace(train=Split(x[:50], y[:50]), test=Split(x[50:], y[50:]))

    monkeypatch.setattr(intervals, "uci", uci)
    results = measured(partial(intervals.run, root=None, options=intervals.QUICK), ("wine", "0"))
    assert results["wine/0"]["rows"] == 10
    assert 0 <= results["wine/0"]["coverage"] <= 1
    assert len(rows(intervals.report(results))) == 1


def test_the_transcript_holds_what_was_typed_and_printed(script, monkeypatch):
    tables = script("ten_tables")
    assert len(tables.TABLES) == 10
    write, fit, _ = tables.TABLES["Eight rows"]
    monkeypatch.setitem(tables.TABLES, "Eight rows", (write, fit.replace("--epochs 150", "--epochs 2"), []))
    found = tables.run("Eight rows")
    assert [line["status"] for line in found["lines"]] == [0, 0, 0]
    page = tables.report({"Eight rows": found})
    assert "$ bayes-rpp report run" in page
    assert "warning: there are only 6 rows to train on" in page
    assert "period,period_std,period_lower,period_upper" in page
