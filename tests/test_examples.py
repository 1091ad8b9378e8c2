"""The notebooks run from top to bottom, at a small setting."""

import base64
import io
import json
import math
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest
from nbclient import NotebookClient

QUICK_START = Path(__file__).parents[1] / "examples" / "quick_start.ipynb"
SMALL = {"QUICK_START_MEMBERS": "2", "QUICK_START_EPOCHS": "5", "QUICK_START_CHANNELS": "16"}
LAST_CELL = """
import json
values = {"errors": {name: error.values.ravel().tolist() for name, error in errors.items()}, "truth": truth}
print(json.dumps(values))
"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The quick start with its outputs, and one more cell that prints its numbers."""
    notebook = nbformat.read(QUICK_START, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(LAST_CELL))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setenv(name, value)
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        patch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    return notebook


def outputs(notebook, kind):
    return [output for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == kind]


def test_quick_start_draws_its_two_figures(executed):
    pictures = [output.data["image/png"] for output in outputs(executed, "display_data") if "image/png" in output.data]
    assert len(pictures) == 2
    for picture in pictures:
        pixels = plt.imread(io.BytesIO(base64.b64decode(picture)), format="png")[..., :3]
        assert 0.02 < (pixels < 0.99).any(-1).mean() < 0.9


def test_quick_start_measures_finite_errors(executed):
    values = json.loads(executed.cells[-1].outputs[0].text)
    assert set(values["errors"]) == {"inertia", "modified inertia"}
    for errors in values["errors"].values():
        assert len(errors) == 2
        assert all(0 < error < 1 and math.isfinite(error) for error in errors)
    assert values["truth"] == pytest.approx(0.0863, abs=0.002)


def test_quick_start_shows_its_user_no_warnings(executed):
    assert [output.text for output in outputs(executed, "stream") if output.name == "stderr"] == []


def test_quick_start_is_stored_without_outputs():
    for cell in nbformat.read(QUICK_START, as_version=4).cells:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
