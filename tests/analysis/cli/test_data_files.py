"""Reading a user's data from .csv and .npz files."""

import numpy as np
import pytest
import torch

from analysis.cli.data_files import read_data

TABLE = np.random.default_rng(0).normal(size=(6, 5))


def write_csv(path, header="x0,x1,x2,y0,y1", rows=TABLE):
    path.write_text("\n".join([header, *(",".join(f"{value:.17g}" for value in row) for row in rows)]) + "\n")
    return path


def test_csv_comes_back_exactly(tmp_path):
    x, y = read_data(write_csv(tmp_path / "data.csv"), "x*", "y*")
    assert (x.dtype, y.dtype) == (torch.float64, torch.float64)
    assert np.array_equal(x, TABLE[:, :3])
    assert np.array_equal(y, TABLE[:, 3:])


def test_names_take_columns_in_the_order_given_and_patterns_in_the_files(tmp_path):
    path = write_csv(tmp_path / "data.csv", "mass, pos_z,pos_x,I_xx,I_zz")
    x, y = read_data(path, "pos_x, mass,pos_*", "I_zz,I_??")
    assert np.array_equal(x, TABLE[:, [2, 0, 1]])  # pos_* adds pos_z alone, since pos_x is there
    assert np.array_equal(y, TABLE[:, [4, 3]])


def test_one_row_and_one_column_stay_tables(tmp_path):
    x, y = read_data(write_csv(tmp_path / "data.csv", "x,y", [[1.0, 2.0]]), "x", "y")
    assert (x.tolist(), y.tolist()) == ([[1.0]], [[2.0]])


def test_nan_is_read_as_it_is(tmp_path):
    (tmp_path / "data.csv").write_text("x,y\n1,nan\n2,3\n")
    assert torch.isnan(read_data(tmp_path / "data.csv", "x", "y")[1][0, 0])


@pytest.mark.parametrize("text", ["\ufeffx0,x1,y\r\n1,2,3\r\n", '"x0","x1","y"\n"1","2","3"\n'], ids=["BOM", "quotes"])
def test_files_of_spreadsheets_are_read(tmp_path, text):
    (tmp_path / "data.csv").write_bytes(text.encode())
    x, y = read_data(tmp_path / "data.csv", "x*", "y*")
    assert (x.tolist(), y.tolist()) == ([[1.0, 2.0]], [[3.0]])


def test_suffixes_may_be_upper_case(tmp_path):
    assert read_data(write_csv(tmp_path / "DATA.CSV"), "x*", "y*")[0].shape == (6, 3)


@pytest.mark.parametrize(
    ("text", "x", "message"),
    [
        ("", "x*", r"data\.csv is empty"),
        ("x,y\n", "x*", r"data\.csv .*0 rows"),
        ("x,y\n1,2\n", "z*", r"no column 'z\*' \(from --x\); its columns are x, y"),
        ("x,y\n1,2\n", "", r"--x"),
        ("x,y\n1,2\n", "*", r"column 'y' of .*data\.csv is both an input and an output; narrow --x or --y"),
        ("x,y\n1,two\n", "x*", r"data\.csv must hold numbers below its header.*'two'"),
        ("x,y\n1,\n", "x*", r"data\.csv must hold numbers below its header"),
        ("x,y\n1,2\n3\n", "x*", r"data\.csv must hold numbers below its header"),
        ("x,y\n1,2,3\n", "x*", r"names 2 columns"),
        ("x;y\n1;2\n", "x*", r"data\.csv"),
        ("x,x,y\n1,2,3\n", "x", r"data\.csv .*'x'.*(twice|more than once|2)"),
        ("1.5,2\n3,4\n", "x*", r"no column 'x\*'.*its columns are 1\.5, 2"),
    ],
    ids=[
        "empty",
        "header alone",
        "missing column",
        "no names",
        "overlap",
        "text",
        "gap",
        "short row",
        "long rows",
        "semicolons",
        "same name twice",
        "no header",
    ],
)
def test_bad_csv_is_refused_by_name(tmp_path, text, x, message):
    (tmp_path / "data.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_data(tmp_path / "data.csv", x, "y*")


def test_csv_that_is_no_text_is_refused_by_name(tmp_path):
    (tmp_path / "data.csv").write_bytes(b"x,y\n\xff\xfe\x00,1\n")
    with pytest.raises(ValueError, match=r"data\.csv"):
        read_data(tmp_path / "data.csv", "x*", "y*")


def test_npz_comes_back_exactly(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x=TABLE[:, :3], y=TABLE[:, 3].astype(np.float64), other=np.arange(3))
    for names in (("x*", "y*"), ("x", "y")):
        x, y = read_data(path, *names)
        assert np.array_equal(x, TABLE[:, :3])
        assert np.array_equal(y, TABLE[:, 3:4])


def test_npz_arrays_are_flattened_row_by_row_and_counts_are_numbers(tmp_path):
    tensors = np.arange(36).reshape(4, 3, 3)
    np.savez(tmp_path / "data.npz", positions=np.ones((4, 2), dtype=np.float32), inertia=tensors)
    _, y = read_data(tmp_path / "data.npz", "positions", "inertia")
    assert np.array_equal(y, tensors.reshape(4, 9))


OBJECTS = np.array([{"a": 1}, None], dtype=object)


@pytest.mark.parametrize(
    ("arrays", "names", "message"),
    [
        ({"inputs": TABLE, "y": TABLE}, ("x*", "y*"), r"no array 'x' \(from --x\); its arrays are inputs, y"),
        ({"x": np.array(["a"]), "y": TABLE}, ("x*", "y*"), r"array 'x' of .*data\.npz must hold rows of numbers"),
        ({"x": np.array(1.0), "y": TABLE}, ("x*", "y*"), r"must hold rows of numbers, got float64 of shape \(\)"),
        ({"x": OBJECTS, "y": TABLE}, ("x*", "y*"), r"'x' of .*data\.npz"),
        ({"x": TABLE * 1j, "y": TABLE}, ("x*", "y*"), r"'x' of .*data\.npz.*complex"),
        ({"x": TABLE[:5], "y": TABLE}, ("x*", "y*"), r"5.*6"),
        ({"x": TABLE, "y": TABLE[:5]}, ("x*", "y*"), r"6.*5"),
        ({"x": TABLE, "y": TABLE}, ("x", "x"), r"both an input and an output"),
        ({"x": TABLE[:0], "y": TABLE[:0]}, ("x*", "y*"), r"0 rows|no rows|empty"),
    ],
    ids=["missing", "text", "number", "objects", "complex", "fewer x", "fewer y", "same array", "no rows"],
)
def test_bad_npz_is_refused_by_name(tmp_path, arrays, names, message):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_data(tmp_path / "data.npz", *names)


def test_damaged_npz_is_refused_by_name(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x=TABLE, y=TABLE)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"no zip at all", b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"data\.npz is no readable \.npz file"):
            read_data(path, "x", "y")


def test_npy_under_the_name_of_npz_is_refused_by_name(tmp_path):
    with (tmp_path / "data.npz").open("wb") as file:
        np.save(file, TABLE)
    with pytest.raises(ValueError, match=r"data\.npz is no readable \.npz file"):
        read_data(tmp_path / "data.npz", "x", "y")


def test_other_kinds_and_missing_files_are_refused(tmp_path):
    for name, message in (("data.xlsx", r"must be a \.csv or a \.npz file, not '\.xlsx'"), ("data", r"not .*suffix")):
        (tmp_path / name).write_text("x")
        with pytest.raises(ValueError, match=message):
            read_data(tmp_path / name, "x*", "y*")
    for path in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no data file"):
            read_data(path, "x*", "y*")
