"""Offsets and units of a user's data make no difference to what the command reports."""

import json

import numpy as np
import pytest
import torch

from analysis.cli import main as cli
from analysis.report.run import Run

ARGUMENTS = ["--members", "2", "--channels", "16", "--layers", "1", "--epochs", "30", "--group", "SO(2)"]
ARGUMENTS += ["--rep-in", "Scalar + Vector", "--rep-out", "Scalar", "--likelihood", "gaussian"]


def table(offset_in=0.0, offset_out=0.0, scale=1.0, vector=0.0, count=64):
    """y = x1 + mass, which rotations of (x1, x2) break; offsets are those of invariant columns."""
    generator = np.random.default_rng(0)
    mass, x = generator.normal(size=(count, 1)), generator.normal(size=(count, 2))
    y = scale * (x[:, :1] + mass) + offset_out
    return np.hstack([mass + offset_in, x + vector, y])


def report(folder, values, dtype=float):
    folder.mkdir()
    path = folder / "data.npz"
    np.savez(path, x=values[:, :3].astype(dtype), y=values[:, 3:].astype(dtype))
    assert cli.main(["fit", str(path), *ARGUMENTS, "--out", str(folder / "run")]) == 0
    assert cli.main(["report", str(folder / "run")]) == 0
    return json.loads((folder / "run" / "report.json").read_text())["run"]


def test_offsets_make_no_difference(tmp_path, subtests):
    plain = report(tmp_path / "plain", table())
    assert plain["equivariance_error"]["minimum"] > 0.01
    cases = {
        "y = f + 1e9": ({"offset_out": 1e9}, 1.0),
        "1e7 in both": ({"offset_in": 1e7, "offset_out": 1e7}, 1.0),
        "units of 1e-6 about 1e3": ({"offset_in": -1e7, "offset_out": 1e3, "scale": 1e-6}, 1e-12),
    }
    for number, (name, (changes, unit)) in enumerate(cases.items()):
        with subtests.test(msg=name):
            other = report(tmp_path / str(number), table(**changes))
            for key in ("minimum", "median", "maximum"):
                assert other["equivariance_error"][key] == pytest.approx(plain["equivariance_error"][key], rel=1e-3)
            for key in ("test_mse_of_mean", "output_variance"):
                assert other[key] == pytest.approx(unit * plain[key], rel=1e-3)
            assert other["test_mse_over_variance"] == pytest.approx(plain["test_mse_over_variance"], rel=1e-3)


def test_predictions_are_in_the_users_units(tmp_path):
    report(tmp_path / "far", table(offset_in=1e7, offset_out=1e9))
    report(tmp_path / "near", table())
    far, near = (Run.load(tmp_path / name / "run") for name in ("far", "near"))
    predicted, expected = far.posterior.predict(far.x).mean, near.posterior.predict(near.x).mean
    assert predicted.dtype == far.y.dtype == torch.float64
    torch.testing.assert_close(predicted - 1e9, expected, rtol=0, atol=1e-3 * float(expected.std()))


def test_a_vector_far_from_the_origin_is_warned_of(tmp_path):
    with pytest.warns(UserWarning, match=r"numbers 2 to 3 of x .*mean .* times .*SO\(2\) turns it.*centre of mass"):
        report(tmp_path / "far", table(vector=1e4))


def test_data_that_were_rounded_before_are_warned_of(tmp_path):
    with pytest.warns(UserWarning, match=r"number 1 of y varies by .* about values of 1e\+07.*float32.*float64"):
        report(tmp_path / "rounded", table(offset_out=1e7), np.float32)
