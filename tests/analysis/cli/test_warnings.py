"""What ``fit`` says of a table before it trains."""

import json

import numpy as np
import pandas as pd

from analysis.cli import main as cli

TINY = ["--members", "1", "--channels", "4", "--layers", "0", "--epochs", "1", "--noise-variance", "1"]


def warnings_of(path, capsys):
    out = ["--json", "--force", "--out", str(path.parent / "run")]
    assert cli.main(["fit", str(path), "--test", str(path), *TINY, *out]) == 0
    return json.loads(capsys.readouterr().out)["warnings"]


def test_outliers_are_named_and_heavy_tails_alone_are_none(tmp_path, capsys):
    """Normal and Laplace noise reach 20 robust standard deviations in less than one of 10^6 tables."""
    generator = np.random.default_rng()
    x = np.hstack([generator.normal(size=(400, 2)), np.ones((400, 1))])
    y = np.stack([x[:, 0] + generator.normal(size=400), x[:, 0] + generator.laplace(size=400)], 1)
    usual = [
        "400 of the 400 rows to test on have the inputs of rows to train on.",
        "the same in every row to train on: x3.",
    ]
    for wrong, outliers in ((0.0, []), (1e3, ["y2 (1) among the rows to train on; y2 (1) among the rows to test on"])):
        y[7, 1] += wrong
        frame = pd.DataFrame(np.hstack([x, y]), columns=["x1", "x2", "x3", "y1", "y2"])
        frame.to_csv(tmp_path / "data.csv", index=False)
        found = warnings_of(tmp_path / "data.csv", capsys)
        assert found[:2] == usual
        assert len(found) == 2 + len(outliers)
        for words, column in zip(found[2:], outliers, strict=True):
            assert f"by column: {column}. If they are errors" in words
