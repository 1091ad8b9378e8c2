"""The scripts of the long experiments: one real run each, and the tables of what they recorded."""

import importlib
import json
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    yield importlib.import_module
    for name in [name for name, module in sys.modules.items() if str(EXAMPLES) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


def test_a_level_of_symmetry_breaking_is_measured(script):
    row = script("symmetry_level").level("0.3", "100", "0")
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


def test_the_true_group_is_picked(script):
    which = script("which_group")
    results = {
        f"linear/{truth}/{breaking}/0": which.run("linear", truth, breaking, "0")
        for truth, breaking in (("O(3)", "0"), ("O2eR3", "0.3"), ("Trivial(3)", "0.3"))
    }
    for key, row in results.items():
        assert max(which.KINDS, key=row.get) == key.split("/")[1]
        assert row["probability"] > 0.9
    which.BREAKS["linear"] = ("0.3",)
    picks = [line.split(" | ")[1:4] for line in which.table(results, "linear").splitlines()[2:]]
    assert picks == [["1", "0", "0"], ["0", "1", "0"], ["0", "0", "1"]]
