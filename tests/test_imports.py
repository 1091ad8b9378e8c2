"""What an import brings with it, and the names that a package shows."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("arviz", "matplotlib", "pandas", "scipy.optimize", "scipy.sparse", "scipy.stats", "sympy", "xarray")
PACKAGES = ("bayes_rpp", "inference", "analysis")


def modules_after(program):
    """The modules that a program of its own has loaded at its end."""
    program = f"{program}\nimport sys; print(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("package", [*PACKAGES, "analysis.evidence"])
def test_libraries_are_imported_where_they_are_used(package):
    modules = modules_after(f"import {package}")
    assert package in modules
    assert not modules & set(HEAVY)


def test_help_of_the_command_needs_no_torch():
    program = "from analysis.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    modules = modules_after(program)
    assert "analysis.cli.main" in modules
    assert not modules & {"torch", "numpy", *HEAVY}


@pytest.mark.parametrize("name", PACKAGES)
def test_dir_shows_the_public_names_and_all_of_them_are_there(name):
    package = importlib.import_module(name)
    assert dir(package) == sorted(package.__all__)
    assert [public for public in package.__all__ if not hasattr(package, public)] == []
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        _ = package.nothing
    folders = {folder.name for folder in Path(package.__file__).parent.iterdir() if folder.is_dir()}
    assert not folders & set(package.__all__)  # the import of such a folder would hide the name
