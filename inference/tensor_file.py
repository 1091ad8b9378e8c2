"""Tensors as a file in the format of safetensors.

The library's own ``save_file`` writes a temporary file of another name, readable for its owner alone, and a full disk
ends the process; its ``save`` needs all of the file in memory. The format is a length of 8 bytes, a header in JSON, and
the numbers, see https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import torch
from torch import Tensor

from inference.memory import slices_that_fit

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

_SMALL = 16  # times smaller than what fits in memory


def write_tensors(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors by name, one after another, so that no copy of all of them is made, nor of a large one, and bring
    them to the disk.

    Raises TypeError for complex and quantised numbers, before anything is written, and OSError if the disk is full.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    widest_first = sorted(tensors, key=lambda name: -tensors[name].element_size())  # keeps all of them aligned
    end = 0
    for name in widest_first:
        value = tensors[name]
        if value.dtype not in _NAMES:
            raise TypeError(f"tensor {name!r} must hold real numbers, integers or truth values, got {value.dtype}.")
        begin, end = end, end + value.numel() * value.element_size()
        header[name] = {"dtype": _NAMES[value.dtype], "shape": list(value.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in widest_first:
        for part in _parts(tensors[name].detach()):
            file.write(part.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    file.flush()
    os.fsync(file.fileno())


def _parts(value: Tensor) -> Iterator[Tensor]:
    """The numbers of a tensor in order: as it is, or in parts that are, or are small enough to be copied."""
    if not value.ndim or (value.is_contiguous() and value.device.type == "cpu"):
        yield value
        return
    for some in slices_that_fit(slice(0, len(value)), _SMALL * value[:1].nbytes):
        part = value[some]
        yield from _parts(part[0]) if len(part) == 1 else [part]
