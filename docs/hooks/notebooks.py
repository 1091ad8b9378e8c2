"""The tutorials: the notebooks of examples/ as they are stored, with their outputs and without being run."""

from __future__ import annotations

import base64
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
FIRST = "quick_start"
INTRODUCTION = """# Tutorials

The notebooks of `examples/`, as they are stored there. Each runs from top to bottom in some minutes.
"""


def notebooks() -> list[Path]:
    """The quick start, then the others by name."""
    found = (ROOT / "examples").glob("*.ipynb")
    return sorted(found, key=lambda path: (path.stem != FIRST, path.stem))


def title(notebook: nbformat.NotebookNode) -> str:
    """The first heading."""
    lines = (line for cell in notebook.cells if cell.cell_type == "markdown" for line in cell.source.splitlines())
    return next(line.removeprefix("# ") for line in lines if line.startswith("# "))


def fenced(text: str, language: str) -> str:
    """A block of code or of output."""
    return f"````{language}\n{text.rstrip()}\n````"


def render(notebook: nbformat.NotebookNode, stem: str) -> tuple[str, dict[str, bytes]]:
    """The page, and its pictures by their file names."""
    parts, pictures = [], {}
    for cell in notebook.cells:
        parts.append(cell.source if cell.cell_type == "markdown" else fenced(cell.source, "python"))
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if kind := next((kind for kind in ("png", "gif") if f"image/{kind}" in data), None):
                name = f"{stem}-{len(pictures)}.{kind}"
                pictures[name] = base64.b64decode(data[f"image/{kind}"])
                parts.append(f"![Output of the cell above]({name})")
            elif output.output_type == "stream" and output.name == "stdout":
                parts.append(fenced(output.text, "text"))
            elif "text/plain" in data:
                parts.append(fenced(data["text/plain"], "text"))
    source = f"This page is the notebook `examples/{stem}.ipynb`."
    return "\n\n".join([*parts, source]) + "\n", pictures


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the section of the navigation."""
    for entry in config.nav or []:
        if "Tutorials" in entry:
            pages = [f"tutorials/{path.stem}.md" for path in notebooks()]
            entry["Tutorials"] = ["tutorials/index.md", *pages]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page and its pictures for each notebook, a list of them, and the changelog."""
    listed = [INTRODUCTION]
    for path in notebooks():
        notebook = nbformat.read(path, as_version=4)
        text, pictures = render(notebook, path.stem)
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))
        listed.append(f"* [{title(notebook)}]({path.stem}.md)")
    files.append(File.generated(config, "tutorials/index.md", content="\n".join(listed) + "\n"))
    files.append(File.generated(config, "changelog.md", content=(ROOT / "CHANGELOG.md").read_text()))
    return files
