"""Types that all packages share, and tensors of what people have for arrays."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

Params = dict[str, Tensor]


def as_tensor(values: Any, name: str) -> Tensor:
    """Tensors as they are, apart from their gradient; arrays, lists, and frames and series of pandas, copied where
    they are read-only or not laid out row by row. Raises TypeError, with the name, for what holds no numbers.
    """
    if isinstance(values, Tensor):
        return values.detach()
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise TypeError(f"{name} must hold numbers in rows of equal length: {error}") from error
    if array.dtype == object and hasattr(values, "columns"):  # a frame of numbers of several types
        with suppress(TypeError, ValueError):
            array = np.asarray(values, dtype=np.float64)
    if array.dtype.kind not in "biuf":
        text = " Columns of text or dates are no numbers: choose others." if hasattr(values, "columns") else ""
        raise TypeError(f"{name} must hold numbers, got {type(values).__name__} of {array.dtype}.{text}")
    usable = array.flags.writeable and array.flags.c_contiguous and array.dtype.isnative
    return torch.from_numpy(array if usable else array.astype(array.dtype.newbyteorder("="), order="C", copy=True))


def as_device(device: str | torch.device) -> torch.device:
    """A device by its name. Raises ValueError if torch knows none of this name, or it is not there."""
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (AssertionError, NotImplementedError, RuntimeError, TypeError) as error:  # torch raises all of these
        cuda = [f"'cuda:{index}'" for index in range(torch.cuda.device_count())]
        there = " or ".join(["'cpu'", *cuda, *(["'mps'"] if torch.backends.mps.is_available() else [])])
        raise ValueError(
            f"device must be one that this machine and this torch have, {there}, got {device!r}."
        ) from error
    return found
