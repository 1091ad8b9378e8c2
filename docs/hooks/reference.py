"""The reference: one page a folder of the packages, with every public name that is defined in it.

A name is shown by its public path, ``bayes_rpp.RPPPrior``, on the page of the folder that its module lies in, so that
pages follow when modules move.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PACKAGES = (
    "bayes_rpp",
    "bayes_rpp.datasets",
    "bayes_rpp.rl",
    "inference",
    "inference.scikit_learn",
    "analysis",
    "analysis.evidence",
)


def public_names() -> Iterator[tuple[str, str, Any]]:
    """The package, the name and the object of everything public; what two packages export, of the first alone."""
    seen: set[int] = set()
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if id(value) not in seen:
                seen.add(id(value))
                yield package, name, value


def folder_of(package: str, value: Any) -> str:
    """The innermost package that holds the module which defines a value, or whose class does."""
    defining = importlib.import_module(getattr(value, "__module__", None) or type(value).__module__)
    is_package = Path(defining.__file__ or "").name == "__init__.py"
    folder = defining.__name__ if is_package else defining.__name__.rpartition(".")[0]
    return folder if folder.partition(".")[0] == package.partition(".")[0] else package


def folders() -> dict[str, list[str]]:
    """The public paths of every folder, in the packages' order."""
    found: dict[str, list[str]] = {}
    for package, name, value in public_names():
        found.setdefault(folder_of(package, value), []).append(f"{package}.{name}")
    order = [package.partition(".")[0] for package in PACKAGES]
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0].partition(".")[0]), item[0])))


def page_of(folder: str) -> str:
    """The page of a folder, relative to docs."""
    return f"reference/{folder.replace('.', '/')}.md"


def summary(value: Any) -> str:
    """The first sentence of a docstring on one line; of a module without the end."""
    text = inspect.getdoc(value) or ""
    return " ".join(text.split("\n\n")[0].split())


def text_of(folder: str, paths: list[str]) -> str:
    """The text of a page: the folder's docstring, and a directive for each name."""
    directives = [f"::: {path}" for path in paths]
    return "\n\n".join([f"# {folder}", summary(importlib.import_module(folder)), *directives]) + "\n"


def index(found: dict[str, list[str]]) -> str:
    """The first page: every folder with its names."""
    lines = ["# Reference", "Every public name, by the folder of the package that defines it."]
    for folder, paths in found.items():
        page = page_of(folder).removeprefix("reference/")
        names = ", ".join(f"[`{path.rpartition('.')[2]}`]({page}#{path})" for path in paths)
        lines.append(f"**[{folder}]({page})** · {summary(importlib.import_module(folder))}\n\n{names}")
    return "\n\n".join(lines) + "\n"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the section of the navigation."""
    for entry in config.nav or []:
        if "Reference" in entry:
            entry["Reference"] = ["reference/index.md", *({folder: page_of(folder)} for folder in folders())]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    found = folders()
    files.append(File.generated(config, "reference/index.md", content=index(found)))
    for folder, paths in found.items():
        files.append(File.generated(config, page_of(folder), content=text_of(folder, paths)))
    return files
