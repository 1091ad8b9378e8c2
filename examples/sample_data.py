"""Write data/bodies.csv, the sample for the command `bayes-rpp fit`: 300 inertia tensors with a broken symmetry.

x1 to x5 are the masses of five bodies, x6 to x20 their positions, y1 to y9 the tensor, stretched along the z axis
(Modified Inertia with c = 0.3).

    python examples/sample_data.py
"""

from __future__ import annotations

from pathlib import Path

import torch

from bayes_rpp.datasets import inertia

SAMPLE = Path(__file__).parent / "data" / "bodies.csv"


def lines() -> list[str]:
    """The header and the rows, with four decimals."""
    x, y = inertia(train=300, test=0, symmetry_breaking=0.3, seed=0).train
    header = [f"x{i + 1}" for i in range(x.shape[1])] + [f"y{i + 1}" for i in range(y.shape[1])]
    return [",".join(header), *(",".join(f"{value:.4f}" for value in row) for row in torch.cat([x, y], 1).tolist())]


if __name__ == "__main__":
    SAMPLE.parent.mkdir(exist_ok=True)
    SAMPLE.write_text("\n".join(lines()) + "\n")
