"""What ``fit`` takes as data, as a pair of tensors on a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from bayes_rpp import BayesianModel, LogDensity

Data = Sequence[Any] | Dataset | None
Model = BayesianModel | LogDensity
Pair = tuple[Tensor, Tensor]


def resolve_data(model: Model, data: Data) -> Pair | None:
    """Turn a pair of tensors or arrays, or a map-style Dataset of pairs, into two checked tensors; None for a
    LogDensity.

    Raises
    ------
    TypeError, ValueError
        If data are missing, needless, of the wrong form, or refused by ``model.check_data``.
    """
    if isinstance(model, LogDensity):
        if data is not None:
            raise ValueError("a LogDensity holds its data itself: pass data=None.")
        return None
    if data is None:
        raise ValueError("this model needs data: a pair (x, y) or a torch Dataset.")
    if isinstance(data, Dataset):
        examples = [data[i] for i in range(len(data))]  # type: ignore[arg-type]
        x = torch.stack([torch.as_tensor(example[0]) for example in examples])
        y = torch.stack([torch.as_tensor(example[1]) for example in examples])
    else:
        if not isinstance(data, Sequence) or len(data) != 2:
            raise TypeError(f"data must be a pair (x, y) or a torch Dataset, got {type(data).__name__}.")
        x, y = torch.as_tensor(data[0]), torch.as_tensor(data[1])
    parameter_type = next((p.dtype for p in model.network.parameters()), torch.get_default_dtype())
    x = x.to(parameter_type) if x.is_floating_point() else x
    y = y.to(parameter_type) if y.is_floating_point() else y
    model.check_data(x, y)
    return x, y


def resolve_device(device: str | torch.device) -> torch.device:
    """The device; "auto" is an accelerator if torch sees one, else the CPU."""
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
