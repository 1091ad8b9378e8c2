"""Remake the README's picture: the demo, at its default settings.

python examples/readme_figure.py
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from analysis.cli.main import main
from analysis.report.files import PICTURE

FIGURE = Path(__file__).parent / "figures" / PICTURE

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        status = main(["demo", "--out", folder])
        if status:
            raise SystemExit(status)
        FIGURE.parent.mkdir(exist_ok=True)
        shutil.copy(Path(folder) / PICTURE, FIGURE)
