"""From posteriordb's files to small ones for the tests: the data, and moments of the reference draws.

    python summarise.py FOLDER [FOLDER ...]

Each folder holds data.json.zip and draws.json.zip, as posteriordb has them; <folder's name>.json is written beside this
script: "data", and "reference": name -> mean, sd, and the Monte Carlo standard errors of both (mcse_mean, mcse_sd).
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import arviz
import numpy as np


def unzipped(path: Path) -> Any:
    """The one JSON file of an archive."""
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        return json.loads(archive.read(name))


def moments(values: np.ndarray) -> dict[str, float]:
    """Of draws (chain, draw)."""
    errors = {f"mcse_{method}": float(arviz.mcse(values, method=method)) for method in ("mean", "sd")}
    return {"mean": float(values.mean()), "sd": float(values.std(ddof=1)), **errors}


def summarise(folder: Path) -> dict[str, Any]:
    """The data and the reference moments of a posterior."""
    chains = unzipped(folder / "draws.json.zip")
    reference = {name: moments(np.array([chain[name] for chain in chains])) for name in chains[0]}
    return {"data": unzipped(folder / "data.json.zip"), "reference": reference}


def main() -> None:
    for folder in map(Path, sys.argv[1:]):
        density = Path(__file__).parent / f"{folder.name}.json"
        density.write_text(json.dumps(summarise(folder)) + "\n")


if __name__ == "__main__":
    main()
