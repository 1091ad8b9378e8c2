"""Trajectories of one's own, from arrays and files: the same chunks from each, and clear words for what is wrong."""

import numpy as np
import pytest
import torch

from bayes_rpp import O, Vector
from bayes_rpp.datasets import trajectories

REP, STEPS = 2 * Vector, 4


def states(runs=6, length=23):
    """Numbers that tell where they stand: trajectory + time / 1000, in all six coordinates."""
    place = np.arange(runs)[:, None] + np.arange(length)[None, :] / 1000
    return np.repeat(place[..., None], 6, axis=2)


def of(source, **options):
    return trajectories(source, REP, O(3), **{"steps": STEPS, **options})


def test_chunks_are_consecutive_states_of_one_trajectory_and_tests_are_of_others():
    for options in ({}, {"chunks": 40}):
        data = of(states(), dt=0.1, test_fraction=1 / 3, **options)
        for part, owners in ((data.train, range(4)), (data.test, range(4, 6))):
            chunks = data.trajectory(part.y, part.x)[..., 0]
            assert chunks.shape[1] == STEPS + 1
            torch.testing.assert_close(chunks.diff(dim=1), torch.full_like(chunks[:, 1:], 0.001), rtol=0, atol=1e-5)
            assert {int(value + 1e-4) for value in chunks[:, 0]} <= set(owners)
        assert data.dt == 0.1
    assert (len(data.train.x), len(data.test.x)) == (27, 13)


def test_without_a_number_chunks_do_not_overlap():
    data = of(states(), dt=0.1, test_fraction=0)
    starts = data.train.x[:, 0]
    assert len(starts) == 6 * (23 // 5)
    assert len(data.test.x) == 0
    gaps = starts.sort().values.diff()
    assert float(gaps.min()) > 0.0049


def test_the_end_of_a_single_trajectory_is_for_tests():
    data = of(states(1, 100)[0], dt=0.1, test_fraction=0.3)
    assert float(data.train.y.max()) < 0.0695 < float(data.test.x.min()) + 1e-6


def test_files_hold_the_same_as_arrays(tmp_path):
    array, times = states(), 0.5 * np.arange(23)
    np.save(tmp_path / "run.npy", array)
    np.savez(tmp_path / "run.npz", states=array, time=times)
    header = '"Trajectory", time,' + ",".join(f"s{i}" for i in range(6))
    rows = [[run, time, *state] for run, of_run in enumerate(array) for time, state in zip(times, of_run, strict=True)]
    np.savetxt(tmp_path / "run.csv", rows, delimiter=",", header=header, comments="", encoding="utf-8")
    expected = of(array, dt=0.5)
    for name, options in (("run.npy", {"dt": 0.5}), ("run.npz", {}), ("run.csv", {})):
        found = of(tmp_path / name, **options)
        assert found.dt == 0.5
        assert torch.equal(found.train.x, expected.train.x)
        assert torch.equal(found.test.y, expected.test.y)
    for same in (torch.as_tensor(array), list(array)):
        assert torch.equal(of(same, dt=0.5).train.x, expected.train.x)
    shorter = of([*array[:5], array[5, :7]], dt=0.5, test_fraction=0.0)
    assert len(shorter.train.x) == 5 * 4 + 1


def test_what_is_wrong_is_said(tmp_path):
    (tmp_path / "text.csv").write_text("a,b,c,d,e,f\n1,2,3,4,5,six\n")
    (tmp_path / "gap.csv").write_text("time,a,b,c,d,e,f\n" + "\n".join(f"{t},1,2,3,4,5,6" for t in (0, 1, 2, 4, 5, 6)))
    (tmp_path / "bare.csv").write_text("1,2,3,4,5,6\n" * 9)
    np.savez(tmp_path / "other.npz", positions=states())
    bad = states()
    bad[2, 3, 1] = np.nan
    for source, options, message in (
        (states(), {}, "dt must be the time"),
        (states()[..., :5], {"dt": 0.1}, "have 5 numbers, but 2\\*Vector has size 6"),
        (bad, {"dt": 0.1}, "trajectory 2 holds NaN"),
        (states(3, 4), {"dt": 0.1}, "a chunk is 5 states long, but the longest"),
        (states(), {"dt": 0.1, "test_fraction": 1.0}, "test_fraction"),
        (states(), {"dt": 0.1, "steps": 0}, "steps must be"),
        (states(), {"dt": 0.1, "chunks": 0}, "chunks must be"),
        (states(2, 30), {"dt": 0.1}, "leaves no chunk of 5 states for tests"),
        (np.zeros(5), {"dt": 0.1}, "shape"),
        (np.zeros((0, 20, 6)), {"dt": 0.1}, "shape"),
        (states(), {"dt": "0.1"}, "dt must be the time"),
        (tmp_path / "bare.csv", {"dt": 1.0}, "the names of columns"),
        (tmp_path / "text.csv", {"dt": 1.0}, "line 2, column 'f'"),
        (tmp_path / "gap.csv", {}, "evenly spaced"),
        (tmp_path / "other.npz", {"dt": 0.1}, "by the name 'states'"),
        (tmp_path / "run.txt", {"dt": 0.1}, "no .csv, .npz or .npy"),
    ):
        with pytest.raises(ValueError, match=message):
            of(source, **options)
    with pytest.raises(ValueError, match="not known"):
        of(states(), dt=0.1).function(torch.zeros(1, 6))
