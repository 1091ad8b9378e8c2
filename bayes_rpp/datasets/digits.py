"""Handwritten digits that come with scikit-learn."""

from __future__ import annotations

import torch

from bayes_rpp.datasets.image_data import ImageData, LabelledImages
from bayes_rpp.seeding import seeded_generator


def digits(test: int = 360, seed: int = 0) -> ImageData:
    """1,797 digits, 1 x 8 x 8, with values from 0 to 16 (Alpaydin & Kaynak, 1998): nothing needs to be downloaded.

    Parameters
    ----------
    test : how many to test on, drawn at random; the others are for training.
    seed : of the draw.

    Raises
    ------
    ValueError
        If none would be left to train on.
    ImportError
        If scikit-learn is not installed.

    Examples
    --------
    >>> digits().train.x.shape
    torch.Size([1437, 1, 8, 8])
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError('digits() needs scikit-learn: pip install "bayes_rpp[images]".') from error
    found = load_digits()
    if not 0 <= test < len(found.target):
        raise ValueError(f"test must be at least 0 and below {len(found.target)}, got {test}.")
    x = torch.from_numpy(found.images).to(torch.uint8)[:, None]
    y = torch.from_numpy(found.target).long()
    order = torch.randperm(len(y), generator=seeded_generator(seed))
    held, rest = order[:test], order[test:]
    classes = tuple(str(name) for name in found.target_names)
    return ImageData(LabelledImages(x[rest], y[rest]), LabelledImages(x[held], y[held]), classes)
