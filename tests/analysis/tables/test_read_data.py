"""Reading a user's data from files, as people have them."""

import gzip
import importlib

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.tables.labels import refuse_what_may_be_labels
from analysis.tables.read_data import read_data as read_table

TABLE = np.random.default_rng(0).normal(size=(6, 5))


def read_data(path, x, y):
    data = read_table(path, x, y)
    return data.x, data.y


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
        ("x,y\n\n1,2\n1,two\n3,4\n5,6\n", "x*", r"line 4 of .*data\.csv, column 'y', holds 'two', which is no number"),
        ("x,y\n1,two\n", "x*", r"column 'y' of .*data\.csv holds text, 1 different: two\. For labels .*categorical"),
        ("x,y\n1,2\n1,\n", "x*", r"line 3 of .*, column 'y', is empty.* 1 of 2 rows have gaps.*--drop-incomplete"),
        ("x,y\n1,2\n3\n", "x*", r"line 3 of .*data\.csv has 1 field\(s\), but the header names 2 columns"),
        ("x,y\n1,2,3\n", "x*", r"line 2 of .* has 3 field\(s\), but the header names 2"),
        ("x,y\n1,inf\n", "x*", r"line 2 of .*column 'y', holds 'inf', which is not finite"),
        ("x,x,y\n1,2,3\n", "x", r"data\.csv .*'x'.*(twice|more than once|2)"),
        ("1.5,2\n3,4\n", "x*", r"the first line of .* holds numbers, 1\.5, 2: put a line above it"),
    ],
    ids=[
        "empty",
        "header alone",
        "missing column",
        "no names",
        "overlap",
        "text in a row",
        "text",
        "gap",
        "short row",
        "long rows",
        "infinite",
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
    for name, message in (("data.ods", r"must be a \.csv, .* not '\.ods'"), ("data", r"not .*suffix")):
        (tmp_path / name).write_text("x")
        with pytest.raises(ValueError, match=message):
            read_data(tmp_path / name, "x*", "y*")
    for path, words in ((tmp_path / "nowhere.csv", "there is no data file"), (tmp_path, "is a folder, not a table")):
        with pytest.raises(FileNotFoundError, match=words):
            read_data(path, "x*", "y*")


FORMS = {
    "semicolons": ("x0;x1;y\n1.5;2;3\n", "utf-8"),
    "decimal commas": ("x0;x1;y\n1,5;2;3\n", "utf-8"),
    "tabs": ("x0\tx1\ty\n1.5\t2\t3\n", "utf-8"),
    "bars": ("x0|x1|y\n1.5|2|3\n", "utf-8"),
    "utf-16": ("x0\tx1\ty\n1.5\t2\t3\n", "utf-16"),
    "umlauts": ("Größe °C,x0,x1,y\n7,1.5,2,3\n", "cp1252"),
    "index": (",x0,x1,y\n0,1.5,2,3\n", "utf-8"),
    "spaces": ("x0, x1, y\n1.5, 2, 3\n\n", "utf-8"),
    "text beside": ("name,x0,x1,y\n'a; b',1.5,2,3\n", "utf-8"),
}


def test_tables_are_read_as_people_have_them(tmp_path):
    for text, encoding in FORMS.values():
        data = text.encode(encoding)
        for name, content in (("data.csv", data), ("data.tsv", data), ("data.csv.gz", gzip.compress(data))):
            (tmp_path / name).write_bytes(content)
            x, y = read_data(tmp_path / name, "x*", "y")
            assert (x.tolist(), y.tolist()) == ([[1.5, 2.0]], [[3.0]])


def test_frames_and_arrays_are_read_alike(tmp_path, monkeypatch):
    frame = pd.DataFrame(TABLE, columns=["x0", "x1", "x2", "y0", "y1"])
    frame.to_parquet(tmp_path / "data.parquet")
    np.save(tmp_path / "data.npy", TABLE)
    for name, x, y in (("data.parquet", "x*", "y*"), ("data.npy", "0,1,2", "3,4")):
        found = read_data(tmp_path / name, x, y)
        assert np.array_equal(torch.cat(found, 1), TABLE)
    frame.loc[4, "y1"] = None
    frame.to_parquet(tmp_path / "data.parquet")
    with pytest.raises(ValueError, match=r"row 5 of .*data\.parquet, column 'y1', is empty"):
        read_data(tmp_path / "data.parquet", "x*", "y*")
    (tmp_path / "data.xlsx").touch()
    for name, package in (("data.parquet", "pyarrow"), ("data.xlsx", "openpyxl")):
        with monkeypatch.context() as without:
            for reader in ("read_parquet", "read_excel"):
                without.setattr(pd, reader, lambda _: importlib.import_module("a package that is not there"))
            with pytest.raises(ValueError, match=rf'needs the package {package}.*pip install "bayes_rpp\[tables\]"'):
                read_data(tmp_path / name, "x*", "y*")


def test_spreadsheets_are_read_as_they_are_shown(tmp_path):
    frame = pd.DataFrame(TABLE, columns=["x0", "x1", "x2", "y0", "y1"])
    frame["day"], frame["kind"] = pd.Timestamp("2026-01-01"), ["a", "b"] * (len(frame) // 2) + ["a"] * (len(frame) % 2)
    frame.to_excel(tmp_path / "data.xlsx", index=False)
    assert np.allclose(torch.cat(read_data(tmp_path / "data.xlsx", "x*", "y*")[:2], 1), TABLE)
    assert read_table(tmp_path / "data.xlsx", "x*", "kind", labels=True).classes == ["a", "b"]
    with pytest.raises(ValueError, match=r"column 'day' of .*data\.xlsx holds dates or times"):
        read_data(tmp_path / "data.xlsx", "x*", "day")
    frame.loc[4, "y1"] = None
    frame.to_excel(tmp_path / "data.xlsx", index=False)
    with pytest.raises(ValueError, match=r"row 6 of .*data\.xlsx, column 'y1', is empty"):
        read_data(tmp_path / "data.xlsx", "x*", "y*")
    (tmp_path / "data.xlsx").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"data\.xlsx is no readable \.xlsx file"):
        read_data(tmp_path / "data.xlsx", "x*", "y*")


STRANGE = {
    "a short row beside": ("x0,x1,y,note\n1,2,3,a\n4,5,6\n", r"line 3 of .* has 3 field"),
    "an open quote": ('x0,x1,y,note\n1,2,3,a\n4,5,6,"b\n7,8,9,c\n', r"cannot be read up to line 4, as of a quote"),
    "thousands": ("x0;x1;y\n1,5;1.234;3,0\n2,5;999;4,0\n3,0;1;1\n", r"line 2 of .* column 'x1', holds '1\.234'"),
    "underscores": ("x0,x1,y\n1_2,1,2\n3,4,5\n", r"column 'x0', holds '1_2', which is no number"),
    "a bad decimal": ("x0;x1;y\n1,5;1;3,0\n2,5;2;abc\n3,0;1;1\n", r"line 3 of .*column 'y', holds 'abc'"),
}


def test_what_would_be_read_wrongly_is_refused_with_its_line(tmp_path):
    for text, message in STRANGE.values():
        (tmp_path / "data.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_data(tmp_path / "data.csv", "x0,x1", "y")
    (tmp_path / "data.csv").write_text("x0,x1,y\r1,2,3\r")  # as old Macs end lines
    assert read_data(tmp_path / "data.csv", "x*", "y")[1].tolist() == [[3.0]]
    with pytest.raises(ValueError, match=r"--x has an empty name"):
        read_data(tmp_path / "data.csv", "x0,", "y")
    (tmp_path / "data.csv.gz").write_bytes(gzip.compress(b"x,y\n1,2\n" * 500)[:-20] + b"\0" * 20)
    with pytest.raises(ValueError, match=r"cannot be unpacked"):
        read_data(tmp_path / "data.csv.gz", "x", "y")
    pd.DataFrame({"x": [1.0], "y": pd.to_datetime(["2020-01-01"])}).to_parquet(tmp_path / "data.parquet")
    with pytest.raises(ValueError, match=r"column 'y' .* holds dates or times"):
        read_data(tmp_path / "data.parquet", "x", "y")


def test_labels_stay_as_they_are_written(tmp_path):
    (tmp_path / "data.csv").write_text("x,y\n1,01\n2,Na\n3,1\n4,None\n5,\n")
    data = read_table(tmp_path / "data.csv", "x", "y", labels=True, drop_incomplete=True)
    assert (data.classes, data.y.tolist(), data.dropped) == (["01", "1", "Na", "None"], [0, 2, 1, 3], 1)


def test_rows_with_gaps_are_left_out_when_asked(tmp_path):
    (tmp_path / "data.csv").write_text("x,y,note\n1,2,\n3,,a\nNA,5,b\n7,8,c\n")
    data = read_table(tmp_path / "data.csv", "x", "y", drop_incomplete=True)
    assert (data.x.tolist(), data.y.tolist(), data.dropped, data.kept.tolist()) == ([[1], [7]], [[2], [8]], 2, [0, 3])
    (tmp_path / "data.csv").write_text("x,y\n1,\n,2\n")
    with pytest.raises(ValueError, match=r"every row of .* has a gap in a column of x, y"):
        read_table(tmp_path / "data.csv", "x", "y", drop_incomplete=True)


def test_labels_are_read_as_labels_and_not_as_numbers(tmp_path):
    (tmp_path / "data.csv").write_text("x,text,number\n" + "1,b,3\n2,a,10\n3,c,3\n" * 5)
    text, number = (read_table(tmp_path / "data.csv", "x", name, labels=True) for name in ("text", "number"))
    assert (text.classes, text.y[:3].tolist()) == (["a", "b", "c"], [1, 0, 2])
    assert (number.classes, number.y[:3].tolist()) == (["3", "10"], [0, 1, 0])
    again = read_table(tmp_path / "data.csv", "x", "text", labels=True, classes=["c", "b", "a"])
    assert again.y[:3].tolist() == [1, 2, 0]
    for name, classes, message in (
        ("text", ["a", "b"], "column 'text' .* has labels that the run does not know: c"),
        ("x,text", None, "labels are one column, but --y takes 2"),
    ):
        with pytest.raises(ValueError, match=message):
            read_table(tmp_path / "data.csv", "number", name, labels=True, classes=classes)
    numbers = read_table(tmp_path / "data.csv", "x", "number")
    with pytest.raises(
        ValueError, match=r"column 'number' .* 2 different whole numbers in 15 rows: 3, 10\. For labels"
    ):
        refuse_what_may_be_labels(tmp_path / "data.csv", numbers.y_names, numbers.y)
    refuse_what_may_be_labels(tmp_path / "data.csv", ["y"], torch.arange(15.0)[:, None])
    refuse_what_may_be_labels(tmp_path / "data.csv", ["y"], torch.tensor([0.5, 1.0]).repeat(20)[:, None])


def test_rows_of_spreadsheets_are_counted_as_they_show_them(tmp_path, monkeypatch):
    path = tmp_path / "data.xlsx"
    path.touch()
    monkeypatch.setattr(pd, "read_excel", lambda _: pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, np.nan]}))
    with pytest.raises(ValueError, match=r"row 3 of .*data\.xlsx, column 'y', is empty"):
        read_data(path, "x", "y")
    assert read_table(path, "x", "y", drop_incomplete=True).x.tolist() == [[1.0]]
