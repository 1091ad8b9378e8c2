"""A run's folder, and the report on it."""

import json

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from analysis import equivariance_error, pathway_shares
from analysis.report.files import PICTURE, REPORT
from analysis.report.findings import findings_of
from analysis.report.run import POSTERIOR, Run
from analysis.report.write_report import write_report
from bayes_rpp import EMLP, MLP
from inference.posterior.files import tensors_file

DOUBTS = (
    "The networks have learned little: the symmetry that is seen is more the prior's than the data's.",
    "There are only 10 held-out rows, so that these numbers rest on few.",
)


@pytest.fixture(autouse=True)
def _no_display():
    mpl.use("Agg")
    yield
    assert plt.get_fignums() == []  # every figure is closed
    plt.close("all")


@pytest.fixture
def run(bodies, fit_small):
    return Run(fit_small(bodies), *bodies.test)


def strict_json(path):
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_run_comes_back_exactly(run, tmp_path):
    run.save(tmp_path / "run")
    loaded = Run.load(tmp_path / "run")
    assert torch.equal(loaded.x, run.x)
    assert torch.equal(loaded.y, run.y)
    assert torch.equal(loaded.posterior.predict(run.x).variance, run.posterior.predict(run.x).variance)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {POSTERIOR}


def test_outputs_may_be_the_inputs_themselves(run, tmp_path):
    Run(run.posterior, run.x, run.x).save(tmp_path / "run")
    assert torch.equal(Run.load(tmp_path / "run").y, run.x)


def test_report_is_what_the_diagnostics_say(run):
    report, prediction = findings_of(run).numbers, run.posterior.predict(run.x)
    error, shares = equivariance_error(run.posterior, run.x).values, pathway_shares(run.posterior)
    squares = ((prediction.samples[:, 0] - run.y) ** 2).mean((1, 2)).tolist()
    assert report["test_mse_of_mean"] == pytest.approx(float(((prediction.mean - run.y) ** 2).mean()), rel=1e-5)
    assert report["test_mse_of_members"]["minimum"] == pytest.approx(min(squares), rel=1e-5)
    assert report["test_mse_of_members"]["median"] == pytest.approx(sorted(squares)[1], rel=1e-5)
    assert report["test_mse_of_members"]["maximum"] == pytest.approx(max(squares), rel=1e-5)
    assert report["output_variance"] == pytest.approx(float(run.y.numpy().var(0).mean()), rel=1e-5)
    assert report["equivariance_error"]["members"] == error.reshape(-1).tolist()
    assert report["equivariance_error"]["median"] == np.median(error)
    assert (report["engine"], report["members"], report["diverged"]) == ("DeepEnsemble", 3, 0)
    assert (report["test_examples"], report["group"]) == (10, "O(3)")
    for layer in ("network.0.linear", "network.1"):
        expected = float(shares.sel(layer=layer, pathway="equivariant").median())
        assert report["equivariant_share"][layer] == pytest.approx(expected)


@pytest.mark.parametrize("network", [EMLP, MLP])
def test_networks_without_pathways_have_no_shares(bodies, fit_small, network):
    assert findings_of(Run(fit_small(bodies, network, epochs=1), *bodies.test)).numbers["equivariant_share"] is None


def test_median_of_an_even_number_of_members_is_the_same_for_every_number(bodies, fit_small):
    report = findings_of(Run(fit_small(bodies, members=2, epochs=1), *bodies.test)).numbers
    for numbers in (report["test_mse_of_members"], report["equivariance_error"]):
        assert numbers["median"] == pytest.approx((numbers["minimum"] + numbers["maximum"]) / 2, rel=1e-5)


def test_written_report_has_table_numbers_and_picture(run, bodies, fit_small, tmp_path):
    other = Run(fit_small(bodies, MLP, epochs=1), *bodies.test)
    table, _ = write_report({"inertia": run, "free of symmetry": other}, tmp_path, {"inertia": 0.0863})
    header, first, second, *kept = table.splitlines()
    assert kept[2:] == [f"{label}: {doubt}" for label in ("inertia", "free of symmetry") for doubt in DOUBTS]
    for line, label in zip(kept[:2], ("inertia", "free of symmetry"), strict=True):
        assert line == f"{label}: {strict_json(tmp_path / REPORT)[label]['kept']}"
        assert " of the 3 directions of O(3), in " in line
    assert "test MSE" in header
    assert "equivariance error: min, median, max" in header
    report = strict_json(tmp_path / REPORT)
    assert first.startswith("inertia ")
    assert f"{report['inertia']['equivariance_error']['median']:.4f}" in first
    assert f"{report['inertia']['test_mse_of_mean']:.4g}" in first
    assert second.startswith("free of symmetry ")
    assert "no pathways" in second
    assert report == {"inertia": findings_of(run).numbers, "free of symmetry": findings_of(other).numbers}
    picture = plt.imread(tmp_path / PICTURE)[..., :3]
    assert 0.02 < (picture < 0.99).any(-1).mean() < 0.9
    assert {path.name for path in tmp_path.iterdir()} == {REPORT, PICTURE}


def test_exactly_equivariant_runs_have_numbers_but_no_picture_not_even_an_older_one(run, bodies, fit_small, tmp_path):
    write_report({"run": run}, tmp_path)
    assert (tmp_path / PICTURE).exists()
    exact = Run(fit_small(bodies, EMLP), *bodies.test)
    write_report({"run": exact}, tmp_path)
    assert strict_json(tmp_path / REPORT)["run"]["equivariance_error"]["maximum"] < 1e-5
    assert not (tmp_path / PICTURE).exists()


@pytest.mark.parametrize("rows", [slice(1), slice(10)], ids=["one example", "constant outputs"])
def test_outputs_that_do_not_vary_have_a_report_too(run, tmp_path, rows):
    constant = Run(run.posterior, run.x[rows], torch.ones_like(run.y[rows]))
    table, _ = write_report({"constant": constant}, tmp_path)
    assert f"{findings_of(constant).numbers['test_mse_of_mean']:.4g}" in table
    assert strict_json(tmp_path / REPORT)["constant"]["output_variance"] == 0


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: Run.load(folder).posterior.save(folder / POSTERIOR),
            "has no held-out data to judge the posterior by; fit the run again",
        ),
        (
            lambda folder: truncate(folder / POSTERIOR / tensors_file(folder / POSTERIOR)),
            r"tensors-\w+\.safetensors is missing or damaged",
        ),
        (lambda folder: truncate(folder / POSTERIOR / "posterior.json"), r"posterior\.json is damaged"),
    ],
    ids=["no test data", "truncated tensors", "truncated header"],
)
def test_damaged_runs_are_refused_by_name(run, tmp_path, damage, message):
    run.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        Run.load(tmp_path)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no run folder"):
        Run.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no saved posterior"):
        Run.load(tmp_path)
