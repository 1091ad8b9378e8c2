"""Labelled images and tables from files: what is read, and what is refused."""

import gzip
import io
import os
import pickle
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from sklearn import datasets

from bayes_rpp.datasets import as_images, cifar10, digits, uci

REAL = os.environ.get("BAYES_RPP_DATA")
needs_real = pytest.mark.skipif(REAL is None, reason="BAYES_RPP_DATA names no folder of the real data")


def write_batches(folder: Path, counts=(2, 2, 2, 2, 2, 3), protocol=2) -> np.ndarray:
    """CIFAR-10 as it was published, with a few images; returns all of them."""
    images = np.random.default_rng(0).integers(0, 256, (sum(counts), 3072), dtype=np.uint8)
    names = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    for name, part in zip(names, np.split(images, np.cumsum(counts)[:-1]), strict=True):
        content = {b"data": part, b"labels": [k % 10 for k in range(len(part))], b"batch_label": b"part"}
        (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))
    return images


def write_table(folder: Path, rows: list[str], masks: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in (("data", rows), ("test_mask", masks)):
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))


@pytest.mark.parametrize("protocol", [2, 5])
def test_published_batches_are_read_as_they_are(tmp_path, protocol):
    images = write_batches(tmp_path, protocol=protocol)
    data = cifar10(tmp_path)
    assert data.image == (3, 32, 32)
    assert data.train.x.dtype == torch.uint8
    assert torch.equal(torch.cat([data.train.x, data.test.x]).flatten(1), torch.from_numpy(images))
    assert data.test.y.tolist() == [0, 1, 2]


def test_parquet_holds_what_was_written(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    cells = []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        cells.append({"bytes": stream.getvalue()})
    for part in ("train", "test"):
        pyarrow.parquet.write_table(pyarrow.table({"img": cells, "label": [3, 0, 9]}), tmp_path / f"{part}-0.parquet")
    data = cifar10(tmp_path)
    assert torch.equal(data.train.x, torch.from_numpy(images).movedim(-1, 1))
    assert data.train.y.tolist() == [3, 0, 9]
    none = pyarrow.table({"img": pyarrow.array([], pyarrow.struct([("bytes", pyarrow.binary())])), "label": []})
    pyarrow.parquet.write_table(none, tmp_path / "train-0.parquet")
    with pytest.raises(ValueError, match=r"train-0.parquet is damaged, .*: it holds no images"):
        cifar10(tmp_path)
    pyarrow.parquet.write_table(pyarrow.table({"img": cells, "label": [3, 0, 9]}), tmp_path / "train-0.parquet")
    whole = (tmp_path / "test-0.parquet").read_bytes()
    (tmp_path / "test-0.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"test-0.parquet is damaged, or has no columns img \(images\) and label"):
        cifar10(tmp_path)


class Harmful:
    """What a pickle can do to whoever reads it."""

    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_a_pickle_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_batches(tmp_path)
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps({b"data": Harmful()}))
    with pytest.raises(ValueError, match=r"data_batch_3 is no batch of CIFAR-10: it asks for (posix|nt).mkdir"):
        cifar10(tmp_path)
    assert not (tmp_path / "harm").exists()


def test_damaged_batches_are_refused_by_name(tmp_path):
    write_batches(tmp_path)
    good = pickle.loads((tmp_path / "test_batch").read_bytes())
    for content, message in (
        (b"", "test_batch is no batch"),
        (pickle.dumps({**good, b"labels": [0, 1, 10]}), "labels from 0 to 10; they must be from 0 to 9"),
        (pickle.dumps({**good, b"labels": [0, 1]}), "2 labels"),
        (pickle.dumps({**good, b"data": good[b"data"][:, :100]}), "test_batch is no batch"),
        (pickle.dumps({b"data": good[b"data"]}), "test_batch is no batch"),
        (pickle.dumps({**good, b"data": good[b"data"][:0]}), "it holds no images"),
    ):
        (tmp_path / "test_batch").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            cifar10(tmp_path)
    (tmp_path / "data_batch_2").unlink()
    with pytest.raises(FileNotFoundError, match="has no data_batch_2"):
        cifar10(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds neither"):
        cifar10(tmp_path / "empty")


def test_a_table_is_split_by_its_masks(tmp_path):
    write_table(tmp_path / "t", ["1,2,3", "4,5,6", "7,8,9"], ["0,1", "1,0", "0,0"])
    data = uci("t", 1, tmp_path)
    assert data.train.x.tolist() == [[4, 5], [7, 8]]
    assert data.train.y.tolist() == [[6], [9]]
    assert data.test.y.tolist() == [[3]]
    assert (data.rep_in.size, data.rep_out.size) == (2, 1)
    with pytest.raises(ValueError, match=r"t has 2 splits, numbered from 0; there is no split 2"):
        uci("t", 2, tmp_path)
    with pytest.raises(ValueError, match="split must not be negative"):
        uci("t", -1, tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no"):
        uci("other", 0, tmp_path)
    for rows, message in (
        (["1,2,3", "4,five,6", "7,8,9"], r"line 2, column 2: 'five' is no finite number"),
        (["1,2,3", "4,,6", "7,8,9"], r"line 2, column 2: '' is no finite number"),
        (["1,2,3", "4,5,6"], "must have 2 rows of 0 and 1"),
    ):
        write_table(tmp_path / "t", rows, ["0,1", "1,0", "0,0"])
        with pytest.raises(ValueError, match=message):
            uci("t", 0, tmp_path)


def test_a_table_of_openml_has_a_tenth_to_test_on(monkeypatch):
    frame = pandas.DataFrame({"a": np.arange(40.0), "b": np.arange(40.0) ** 2, "c": ["text"] * 40})

    class Found:
        data, target = frame, pandas.Series(np.arange(40.0))

    monkeypatch.setattr(datasets, "fetch_openml", lambda name, **_: Found)
    data = uci("anything", 3)
    assert data.train.x.shape == (36, 2)
    assert torch.equal(torch.cat([data.train.y, data.test.y]).flatten().sort().values, torch.arange(40.0))
    assert not torch.equal(uci("anything", 4).test.y, data.test.y)


def test_openml_out_of_reach_is_said_so(monkeypatch):
    def unreachable(*arguments, **options):
        raise URLError("no network")

    monkeypatch.setattr(datasets, "fetch_openml", unreachable)
    with pytest.raises(ConnectionError, match=r"OpenML, which cannot be reached: no network\. For files, give root="):
        uci("energy")


def test_rows_become_the_smallest_nearly_square_images():
    for columns, shape in ((1, (1, 1)), (8, (2, 4)), (9, (3, 3)), (10, (3, 4)), (11, (3, 4))):
        x = torch.arange(2.0 * columns).reshape(2, columns)
        images = as_images(x)
        assert images.shape == (2, 1, *shape)
        assert torch.equal(images.flatten(1)[:, :columns], x)
        assert not images.flatten(1)[:, columns:].any()


def test_digits_are_split_at_random_and_the_same_for_a_seed():
    data, again, other = digits(), digits(), digits(seed=1)
    assert data.train.x.shape == (1437, 1, 8, 8)
    assert torch.equal(data.test.x, again.test.x)
    assert not torch.equal(data.test.x, other.test.x)
    assert torch.equal(data.train.y.unique(), torch.arange(10))
    with pytest.raises(ValueError, match="test must be at least 0 and below 1797, got 1797"):
        digits(test=1797)


@needs_real
def test_real_data_have_their_known_sizes():
    root = Path(REAL or "")
    for name, rows, columns in (("energy", 768, 8), ("fertility", 100, 9), ("pendulum", 630, 9), ("wine", 1599, 11)):
        sizes = []
        for split in range(10):
            data = uci(name, split, root / "uci")
            assert data.train.x.shape[1] == columns
            assert len(data.train.x) + len(data.test.x) == rows
            sizes.append(len(data.test.x))
        assert max(sizes) - min(sizes) <= 1
    data = cifar10(root / "cifar10")
    for images, count in ((data.train, 5000), (data.test, 1000)):
        assert (images.y.bincount() == count).all()
        assert 100 < images.x.float().mean() < 140
