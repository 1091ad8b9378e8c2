"""Every code block of the README and of docs/ runs, those of a page in order and in one namespace.

Settings that take long are replaced by small ones from the tables below; a replacement that no longer matches anything
is an error.
"""

import importlib
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if "```python" in page.read_text())
SESSION = {"channels=256": "channels=8", "members=10": "members=2", "epochs=150": "epochs=2"}
SMALL = {
    "README.md": SESSION,
    "docs/index.md": SESSION,
    "docs/how-to/nested_groups.md": SESSION,
    "docs/how-to/symmetry_breaking.md": SESSION,
    "docs/how-to/find_symmetry.md": {**SESSION, "layers=2": "layers=1", "torch.randn(2000": "torch.randn(40"},
    "docs/how-to/choose_prior.md": {
        "train=1000": "train=50",
        "10 * Scalar + 6 * Vector + 4 * T(2) + 2 * T(3)": "2 * Scalar + 2 * Vector + T(2)",
        "layers=3": "layers=1",
        "members=3": "members=2",
        "epochs=200": "epochs=4",
        "[0.3, 1, 3]": "[0.3, 3]",
        "[1e-4, 1e-3, 1e-2]": "[1e-4, 1e-2]",
        "draws=200, warmup=200": "draws=4, warmup=4, trajectory_length=0.1",
    },
    "docs/how-to/compare_groups.md": {
        "train=300": "train=40",
        "test=300": "test=20",
        "4 * Scalar + 4 * T(2)": "Scalar + T(2)",
        "layers=1": "layers=0",
        "refinements=20, epochs=400": "refinements=0, epochs=4",
        "torch.randn(100, 9)": "torch.randn(20, 9)",
        "draws=100": "draws=25",
    },
    "docs/how-to/sample.md": {
        "channels=48": "channels=8",
        "members=16": "members=4",
        "epochs=300": "epochs=4",
        "chains=16, draws=400, warmup=250": "chains=4, draws=4, warmup=4, trajectory_length=0.1",
        "draws=200, warmup=200": "draws=20, warmup=20",
        "chains=16, draws=400, warmup=2000": "chains=4, draws=4, warmup=4",
    },
    "docs/how-to/images.md": {"members=3, epochs=40": "members=2, epochs=1", "channels=[16, 16]": "channels=[2, 2]"},
    "docs/how-to/scikit_learn.md": {
        "train=500, test=500": "train=40, test=20",
        "channels=256, members=5, epochs=300": "channels=8, layers=1, members=2, epochs=4",
        'rep_in="2*Vector", epochs=100': 'rep_in="2*Vector", channels=8, members=2, epochs=2',
        "set_params(epochs=100)": "set_params(epochs=2)",
    },
    "docs/how-to/tables.md": {"channels=64": "channels=8", "members=5, epochs=100": "members=2, epochs=2"},
    "docs/how-to/own_network.md": {"epochs=200": "epochs=4"},
    "docs/how-to/dynamics.md": {
        "train=500, test=500": "train=20, test=20",
        "channels=128 * Scalar": "channels=4 * Scalar",
        "members=5": "members=2",
        "epochs=500": "epochs=2",
    },
    "docs/how-to/own_likelihood.md": {
        "randn(200, 3)": "randn(40, 3)",
        "channels=16": "channels=4",
        "epochs=100": "epochs=20",
        "draws=50, warmup=50, max_tree_depth=4": "draws=25, warmup=10, max_tree_depth=2",
    },
    "docs/explanation/parametrizations.md": {"draws=200, warmup=200": "draws=20, warmup=20"},
    "docs/explanation/evidence.md": {"particles=64": "particles=8, islands=2"},
    "docs/explanation/metrics.md": {"draws=100, warmup=100": "draws=10, warmup=10"},
    "docs/explanation/ensembles.md": {
        "epochs=300": "epochs=20",
        "draws=200, warmup=200": "draws=10, warmup=10",
    },
    "docs/contributing/diagnostic.md": {"draws=200, warmup=200": "draws=20, warmup=20"},
}
COMMANDS = {"--out runs/bodies": "--out runs/bodies --members 2 --channels 8 --layers 1 --epochs 2"}


def replaced(text, table):
    """The text with small settings."""
    for old, new in table.items():
        assert old in text, f"{old!r} is nowhere on the page: bring the table up to date"
        text = text.replace(old, new)
    return text


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """What blocks write goes into an empty folder, and pictures are closed."""
    monkeypatch.chdir(tmp_path)
    with matplotlib.rc_context({"backend": "Agg"}):
        yield
    plt.close("all")


def test_small_settings_are_those_of_pages_that_exist():
    assert {ROOT / name for name in SMALL} <= {ROOT / "README.md", *PAGES}


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_code_blocks_run(page):
    name = str(page.relative_to(ROOT))
    code = replaced("\n".join(blocks(page, "python")), SMALL.get(name, {}))
    exec(compile(code, name, "exec"), {"__name__": "page"})


def test_commands_of_the_readme_run_and_print_what_it_shows(capsys, tmp_path):
    readme = ROOT / "README.md"
    lines = [line.strip() for line in readme.read_text().splitlines() if line.startswith("    bayes-rpp ")]
    assert len(lines) == 3
    target = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["bayes-rpp"]
    module, function = target.split(":")
    command = getattr(importlib.import_module(module), function)
    shutil.copytree(ROOT / "examples" / "data", tmp_path / "examples" / "data")
    for line in replaced("\n".join(lines), COMMANDS).splitlines():
        assert command(shlex.split(line)[1:]) == 0
    [shown] = blocks(readme, "text")
    printed = capsys.readouterr().out.splitlines()
    for line in (0, -1):  # the head of the table and where the picture is; numbers differ with the settings
        assert shown.splitlines()[line] in printed
