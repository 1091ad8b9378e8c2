"""What stands beside the code: links, the citation, the license and the version agree with the project."""

import re
import tomllib
from pathlib import Path

import pytest

import bayes_rpp

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_between_files_are_alive(name):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text())
    assert [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()] == []


def test_there_is_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "bayes_rpp.__version__"}
    assert re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1] == bayes_rpp.__version__
    assert bayes_rpp.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_the_license_is_the_one_that_is_named():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    for name in project["license-files"]:
        assert "Apache License" in (ROOT / name).read_text()


def test_all_packages_say_that_they_are_typed():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = [pattern.rstrip("*") for pattern in setuptools["packages"]["find"]["include"]]
    assert set(setuptools["package-data"]) == set(packages)
    assert all((ROOT / package / "py.typed").exists() for package in packages)
