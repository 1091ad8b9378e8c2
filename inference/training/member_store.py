"""Where trained members are put as they finish: in memory, or in a file that is read as if it were memory."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from bayes_rpp.types import Params

_ALIGNMENT = 64  # bytes


class MemberStore:
    """Samples, name -> (member, *shape), of which some members come at a time.

    With a folder they are in an unnamed file there, which is gone with the process: the memory that they take is the
    system's cache, which it takes back when it likes.
    """

    def __init__(self, members: int, folder: Path | None) -> None:
        self.members, self.folder, self.filled = members, folder, 0
        self.samples: Params = {}

    def add(self, params: Params) -> None:
        """Put the next members behind those that there are."""
        if not self.samples:
            self.samples = self._allocated(params)
        count = len(next(iter(params.values())))
        for name, value in params.items():
            self.samples[name][self.filled : self.filled + count].copy_(value)
        self.filled += count

    def _allocated(self, like: Params) -> Params:
        shapes = {name: (self.members, *value.shape[1:]) for name, value in like.items()}
        if self.folder is None:
            return {name: torch.empty(shapes[name], dtype=value.dtype) for name, value in like.items()}
        sizes = {name: math.prod(shapes[name]) * value.element_size() for name, value in like.items()}
        places, end = {}, 0
        for name, size in sizes.items():
            places[name], end = end, end + -(-size // _ALIGNMENT) * _ALIGNMENT
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".members-") as file:
            file.truncate(max(end, 1))
            everything = torch.from_file(file.name, shared=True, size=max(end, 1), dtype=torch.uint8)

        def view(name: str) -> Tensor:
            part = everything[places[name] : places[name] + sizes[name]]
            return part.view(like[name].dtype).view(shapes[name])

        return {name: view(name) for name in like}
