"""CIFAR-10 (Krizhevsky, 2009) from files: Parquet, or the pickled batches as they were published."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bayes_rpp.datasets.image_data import ImageData, LabelledImages

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SHAPE = (3, 32, 32)


def cifar10(root: str | Path) -> ImageData:
    """50,000 images to train on and 10,000 to test on, 3 x 32 x 32, of 10 classes.

    Parameters
    ----------
    root : a folder of ``train*.parquet`` and ``test*.parquet``, whose column ``img`` holds encoded images and ``label``
        numbers from 0 to 9 (pip install "bayes_rpp[images]"); or one of ``data_batch_1`` to ``data_batch_5`` and
        ``test_batch``, or one that holds ``cifar-10-batches-py`` with these. From pickles nothing but arrays is read.

    Raises
    ------
    FileNotFoundError
        If the folder has neither.
    ValueError
        If a file is damaged, or holds something else.
    ImportError
        If the files are Parquet and pyarrow is not installed.

    Examples
    --------
    >>> data = cifar10("data/cifar10")
    >>> data.train.x.shape, data.train.x.dtype
    (torch.Size([50000, 3, 32, 32]), torch.uint8)
    """
    folder = Path(root)
    parquet = {part: sorted(folder.glob(f"{part}*.parquet")) for part in ("train", "test")}
    if all(parquet.values()):
        train, test = (_joined([_of_parquet(file) for file in files]) for files in parquet.values())
        return ImageData(train, test, CLASSES)
    for place in (folder, folder / "cifar-10-batches-py"):
        if (place / "test_batch").exists():
            batches = [_of_pickle(place / f"data_batch_{k}") for k in range(1, 6)]
            return ImageData(_joined(batches), _of_pickle(place / "test_batch"), CLASSES)
    raise FileNotFoundError(
        f"{folder} holds neither train*.parquet and test*.parquet nor data_batch_1, ..., test_batch. CIFAR-10 is "
        "published at https://www.cs.toronto.edu/~kriz/cifar.html (the version for Python)."
    )


def _of_parquet(file: Path) -> LabelledImages:
    try:
        import pyarrow
        import pyarrow.parquet
        from PIL import Image
    except ImportError as error:
        raise ImportError(f'{file.name} needs pyarrow: pip install "bayes_rpp[images]".') from error
    try:
        table = pyarrow.parquet.read_table(file, columns=["img", "label"])
        cells = table["img"].to_pylist()
        if not cells:
            raise ValueError("it holds no images.")
        images = np.stack([np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")) for cell in cells])
        labels = np.asarray(table["label"])
    except (pyarrow.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is damaged, or has no columns img (images) and label: {error}") from error
    return _checked(file, images.transpose(0, 3, 1, 2), labels)


def _of_pickle(file: Path) -> LabelledImages:
    if not file.exists():
        raise FileNotFoundError(f"{file.parent} has no {file.name}.")
    try:
        with file.open("rb") as stream:
            content = _ArraysOnly(stream, encoding="bytes").load()
        images, labels = np.asarray(content[b"data"]), np.asarray(content[b"labels"])
        if not len(images):
            raise ValueError("it holds no images.")
        images = images.reshape(-1, *_SHAPE)
    except (EOFError, LookupError, TypeError, ValueError, AttributeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{file} is no batch of CIFAR-10: {error}") from error
    return _checked(file, images, labels)


class _ArraysOnly(pickle.Unpickler):
    """Reads containers, numbers, text and arrays; a pickle that asks for anything else, to run it, is refused."""

    _ALLOWED = frozenset(
        {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy.core.numeric", "_frombuffer"),  # of protocol 5
            ("numpy._core.numeric", "_frombuffer"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """The class or function that a pickle asks for."""
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not an array.")
        return super().find_class(module, name)


def _checked(file: Path, images: np.ndarray, labels: np.ndarray) -> LabelledImages:
    if images.dtype != np.uint8 or images.shape[1:] != _SHAPE or len(images) != len(labels):
        raise ValueError(
            f"{file} holds images {images.shape} of {images.dtype} and {len(labels)} labels; CIFAR-10 has as many "
            f"labels as images, (count, {', '.join(map(str, _SHAPE))}) of uint8."
        )
    if labels.dtype.kind not in "iu" or labels.min(initial=0) < 0 or labels.max(initial=0) >= len(CLASSES):
        raise ValueError(f"{file} has labels from {labels.min()} to {labels.max()}; they must be from 0 to 9.")
    return LabelledImages(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64)))


def _joined(parts: list[LabelledImages]) -> LabelledImages:
    return LabelledImages(torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts]))
