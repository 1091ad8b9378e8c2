"""Execute the notebooks and save them with their outputs, without what differs from one run to the next.

Each runs from top to bottom in a kernel of its own. One that raises, or writes warnings, is not saved.

    python examples/execute_notebooks.py                       # all of them, minutes each
    python examples/execute_notebooks.py your_own_group.ipynb
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=None, kernel_name="python3", record_timing=False, resources={"metadata": {"path": HERE}}
    ).execute()
    clean(notebook)
    if warnings := stderr(notebook):
        raise RuntimeError(f"{path.name} wrote to stderr and was not saved:\n{''.join(warnings)}")
    nbformat.write(notebook, path)


def clean(notebook: nbformat.NotebookNode) -> None:
    """Keep sources, outputs and numbers of cells, and nothing else."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", nbformat.from_dict({})
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})


def stderr(notebook: nbformat.NotebookNode) -> list[str]:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", help="names of files beside this one; all by default")
    for name in parser.parse_args().notebooks or sorted(path.name for path in HERE.glob("*.ipynb")):
        print(name, flush=True)
        execute(HERE / name)


if __name__ == "__main__":
    main()
