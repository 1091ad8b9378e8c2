"""The site builds without warnings, shows every public name, has no dead link and loads nothing from elsewhere."""

import importlib
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "bayes_rpp",
    "bayes_rpp.datasets",
    "bayes_rpp.rl",
    "inference",
    "inference.scikit_learn",
    "analysis",
    "analysis.evidence",
)
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src"}


class Page(HTMLParser):
    """The anchors, links and loaded files of a page."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loaded = set(), [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if given.get(LOADED.get(tag, "")) and given.get("rel") != "canonical":
            self.loaded.append(given[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site, and its pages by their paths."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder, {path: Page(path) for path in folder.rglob("*.html")}


def test_the_reference_shows_every_public_name_once(site):
    folder, pages = site
    shown = [anchor for path, page in pages.items() if folder / "reference" in path.parents for anchor in page.anchors]
    values = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            values.setdefault(id(getattr(module, name)), []).append(f"{package}.{name}")
    assert len(values) > 70
    for paths in values.values():
        assert sum(shown.count(path) for path in paths) == 1, paths


def test_no_internal_link_is_dead(site):
    folder, pages = site
    dead = []
    for path, page in pages.items():
        for link in [*page.links, *page.loaded]:
            parts = urlparse(link)
            if parts.scheme or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and target in pages and anchor not in pages[target].anchors):
                dead.append((str(path.relative_to(folder)), link))
    assert dead == []


def test_nothing_is_loaded_from_elsewhere(site):
    _, pages = site
    assert [link for page in pages.values() for link in page.loaded if urlparse(link).scheme or link[:2] == "//"] == []
