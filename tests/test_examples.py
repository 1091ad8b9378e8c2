"""The notebooks run from top to bottom at a small setting, and are stored with the outputs of the full one."""

import base64
import io
import json
import math
import re
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = {
    "QUICK_START_MEMBERS": "2",
    "QUICK_START_EPOCHS": "5",
    "QUICK_START_CHANNELS": "16",
    "EVIDENCE_CELLS": "3",
    "EVIDENCE_EPOCHS": "100",
    "EVIDENCE_REFINEMENTS": "5",
    "EVIDENCE_MEMBERS": "2",
    "EVIDENCE_EXAMPLES": "150",
    "DENSITIES_CHAINS": "4",
    "DENSITIES_DRAWS": "50",
    "DENSITIES_WARMUP": "50",
    "DENSITIES_EPOCHS": "200",
    "DYNAMICS_MEMBERS": "4",
    "DYNAMICS_EPOCHS": "60",
    "DYNAMICS_CHANNELS": "16",
    "DYNAMICS_CHUNKS": "60",
    "FINDING_MEMBERS": "3",
    "FINDING_EPOCHS": "20",
    "FINDING_CHANNELS": "32",
    "IMAGES_MEMBERS": "2",
    "IMAGES_EPOCHS": "15",
    "IMAGES_CIFAR_EPOCHS": "0",
    "OWN_GROUP_MEMBERS": "2",
    "OWN_GROUP_EPOCHS": "20",
    "OWN_GROUP_CHANNELS": "16",
    "OWN_GROUP_EXAMPLES": "300",
    "WALKER_STEPS": "500",
    "WALKER_MEMBERS": "2",
    "WALKER_EPOCHS": "20",
    "WALKER_CHUNKS": "60",
    "WALKER_TESTS": "4",
}
FIGURES = {
    "quick_start": 2,
    "choosing_priors_and_groups": 3,
    "posterior_densities": 2,
    "dynamics": 2,
    "your_own_group": 2,
    "walker": 2,
    "images": 1,
    "finding_symmetry": 3,
}
# What a last cell, which only the test adds, shows of each.
SHOWN = {
    "quick_start": """{
        "errors": {name: error.values.ravel().tolist() for name, error in errors.items()}, "truth": truth}""",
    "choosing_priors_and_groups": """{
        "grid": by_gradient.to_dict("index"), "exact": exact_evidence.to_dict("index"), "table": table.to_dict("index"),
        "missing": missing, "scatter": scatter}""",
    "posterior_densities": """{
        "labels": [line.get_label() for line in ax.get_lines()], "truth": truth, "table": table.to_dict("index"),
        "summary": summary.loc["HMC"].to_dict("index")}""",
    "dynamics": """{
        "mse": mse, "inside": float(inside), "drift": drift, "kept": kept, "truth": reference["windy"],
        "errors": {name: error.values.ravel().tolist() for name, error in errors.items()}}""",
    "your_own_group": """{
        "order": hexagon.order, "wrong": [suspect.words for suspect in wrong.suspects],
        "wrong verdicts": [generator.verdict for generator in wrong.generators],
        "right verdicts": [generator.verdict for generator in right.generators],
        "errors": errors.to_dict("index"), "outside": outside.to_dict("index"),
        "each": {site: values.values.tolist() for site, values in each.items()}}""",
    "walker": """{
        "policy": policy_error, "parted": parted, "coverage": coverage.tolist(),
        "gif": gif[:6].decode(), "errors": errors.values.ravel().tolist()}""",
    "finding_symmetry": """{
        "dimension": kept.dimension, "angle": angle, "reflections": reflections.kept, "largest": everything.dimension,
        "lorentz": lorentz.distances.values.tolist(), "order": exchanged.order, "exchanges": matrix.tolist()}""",
    "images": """{
        "table": table.T.to_dict(), "shares": by_layer.T.to_dict(), "shifted": accuracies.to_dict("index")}""",
}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """One kernel for all notebooks, one after another, so that the imports are paid once."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setenv(name, value)
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        patch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        manager = KernelManager(kernel_name="python3")
        manager.start_kernel()
        yield manager
        manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module", params=SHOWN)
def executed(request, kernel):
    """A notebook's name, the notebook with its outputs, and what it shows."""
    notebook = nbformat.read(EXAMPLES / f"{request.param}.ipynb", as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    notebook.cells.append(nbformat.v4.new_code_cell(f"import json\nprint(json.dumps({SHOWN[request.param]}))"))
    NotebookClient(notebook, timeout=600, km=kernel).execute()
    return request.param, notebook, json.loads(notebook.cells[-1].outputs[0].text)


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def pictures(notebook):
    """The pixels of every figure."""
    shown = [output.data for output in outputs(notebook) if output.output_type in ("display_data", "execute_result")]
    encoded = [base64.b64decode(data["image/png"]) for data in shown if "image/png" in data]
    return [plt.imread(io.BytesIO(png), format="png")[..., :3] for png in encoded]


def written(notebook):
    """All text that the cells of a notebook show."""
    streams = [output.text for output in outputs(notebook) if output.output_type == "stream"]
    data = [
        text for output in outputs(notebook) for kind, text in output.get("data", {}).items() if "image" not in kind
    ]
    return "\n".join(streams + data)


def shows_no_warnings(notebook):
    return [output.text for output in outputs(notebook) if output.get("name") == "stderr"] == []


def test_notebooks_draw_their_figures_and_show_no_warnings(executed):
    name, notebook, _ = executed
    assert shows_no_warnings(notebook)
    assert len(pictures(notebook)) == FIGURES[name]
    for pixels in pictures(notebook):
        assert 0.02 < (pixels < 0.99).any(-1).mean() < 0.9


def test_notebooks_show_what_they_promise(executed):
    name, _, values = executed
    CHECKS[name](values)


def check_quick_start(values):
    assert set(values["errors"]) == {"inertia", "modified inertia"}
    for errors in values["errors"].values():
        assert len(errors) == 2
        assert all(0 < error < 1 and math.isfinite(error) for error in errors)
    assert values["truth"] == pytest.approx(0.0863, abs=0.002)


def check_choosing_priors_and_groups(values):
    evidence = {row: found["log evidence [nats]"] for row, found in values["grid"].items()}
    assert evidence["start"] < evidence["best cell of the grid"] < evidence["by gradient"] + 5
    for truth, row in values["exact"].items():
        assert max(row, key=row.get) == truth.removeprefix("data of ")
    for row in values["table"].values():
        assert row["log_evidence"] == pytest.approx(row["exact log evidence"], abs=2)
    assert values["table"]["O2eR3"]["probability"] > 0.99
    assert values["missing"][0] > 10 > abs(values["missing"][-1])
    assert len(values["scatter"]) == 2
    assert all(map(math.isfinite, values["scatter"]))


def check_posterior_densities(values):
    engines = {"ensemble", "HMC", "SGHMC", "Laplace"}
    assert engines < set(values["labels"])
    assert set(values["table"]) == engines | {"exact"}
    exact = values["table"]["exact"]
    for name in ("HMC", "SGHMC", "Laplace"):
        assert exact["lower end"] < values["table"][name]["error, median"] < exact["upper end"], name
    assert 0.05 < values["truth"] < 0.12
    for row in values["table"].values():
        assert 0 < row["lower end"] <= row["error, median"] <= row["upper end"] < 1
        assert all(math.isfinite(row[key]) for key in ("noise variance", "test MSE", "log score per test example"))
    assert set(values["summary"]) == {"equivariance error", "noise variance"}
    for row in values["summary"].values():
        assert row["ess_bulk"] > 0
        assert row["r_hat"] > 0.9


def check_dynamics(values):
    assert values["truth"] == pytest.approx(0.025, abs=0.005)
    assert 0 <= values["inside"] <= 1
    for name in ("calm", "windy"):
        assert 0 < values["mse"][name] < 0.05
        assert 0 < values["drift"][name] < 2
        assert all(0 < error < 0.1 for error in values["errors"][name])
    assert values["kept"]["windy"]["along the wind"] < values["kept"]["windy"]["across the wind"] / 3


def check_your_own_group(values):
    assert values["order"] == 12
    assert set(values["wrong verdicts"]) == {"wrong"}
    assert len(values["wrong"]) == 1
    assert values["wrong"][0].startswith("input columns 5 and 6 (")
    assert values["wrong"][0].endswith("are swapped")
    assert set(values["right verdicts"]) == {"holds"}
    for site, row in values["errors"].items():
        assert all(math.isfinite(value) for value in row.values()), site
    assert values["errors"]["flat site"]["simulator's, hexagon"] < 1e-5
    assert values["errors"]["hill on the axis"]["simulator's, mirror"] < 1e-5
    assert values["errors"]["hill off the axis"]["simulator's, mirror"] > 0.01
    for errors in values["each"].values():
        assert len(errors) == 12
        assert errors[0] == pytest.approx(0, abs=1e-5)
    for shares in values["outside"].values():
        assert sum(shares.values()) == pytest.approx(1, abs=1e-3)


def check_walker(values):
    assert 0 < values["policy"] < 0.9
    assert values["parted"]["equivariant part"] < 1e-3 < values["parted"]["as learned"]
    assert values["gif"] == "GIF89a"
    assert all(0.3 < share <= 1 for share in values["coverage"])
    assert len(values["errors"]) == 2
    assert all(0 < error < 0.5 for error in values["errors"])


def check_images(values):
    for name, row in values["table"].items():
        assert 0 < row["error"] < 0.2, name
        assert 0 < row["log loss"] < 1
        assert 0 <= row["calibration error"] < 0.4
    assert len(values["shares"]) == 2
    for row in values["shares"].values():
        assert 0 < row["lower"] <= row["median"] <= row["upper"] < 0.5
    for kind in ("rpp", "conv", "mlp"):
        assert values["shifted"]["0"][kind] > 0.8 > values["shifted"]["3"][kind]


def check_finding_symmetry(values):
    """Ensembles that are as small and as briefly trained as these find little."""
    assert 0 <= values["dimension"] <= 3
    assert 0 <= values["largest"] <= 9
    assert 0 <= values["angle"] <= 90
    assert len(values["reflections"]) <= 3
    assert len(values["lorentz"]) == 16
    assert values["lorentz"] == sorted(values["lorentz"])
    assert 120 % values["order"] == 0
    errors = np.array(values["exchanges"], dtype=float)
    assert np.isnan(errors.diagonal()).all()
    off = errors[~np.eye(5, dtype=bool)]
    assert ((off > 0) & (off < 1)).all()


CHECKS = {
    "finding_symmetry": check_finding_symmetry,
    "images": check_images,
    "quick_start": check_quick_start,
    "choosing_priors_and_groups": check_choosing_priors_and_groups,
    "posterior_densities": check_posterior_densities,
    "dynamics": check_dynamics,
    "your_own_group": check_your_own_group,
    "walker": check_walker,
}


@pytest.mark.parametrize("name", SHOWN)
def test_notebooks_are_stored_with_their_outputs(name):
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell.metadata == {} for cell in notebook.cells)
    assert [output for output in outputs(notebook) if output.output_type == "error"] == []
    assert shows_no_warnings(notebook)
    assert len(pictures(notebook)) == FIGURES[name]
    assert re.findall(r"(?<![\w.])/[\w.-]+/[\w.-]+", written(notebook)) == []
    assert (EXAMPLES / f"{name}.ipynb").stat().st_size < 500_000


def test_every_notebook_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == set(SHOWN) == set(FIGURES) == set(CHECKS)
