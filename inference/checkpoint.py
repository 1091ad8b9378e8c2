"""A run's state on disk, from which it goes on with the same bits."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from inference.data import Pair

_FORMAT = "bayes_rpp checkpoint 1"


class Checkpoint:
    """One file of tensors and plain values, whole or absent.

    Parameters
    ----------
    path : of the file.
    identity : what a run must have in common with the one that wrote the file, as JSON values by name.

    Raises
    ------
    OSError
        If its folder cannot be made.
    """

    def __init__(self, path: str | Path, identity: dict[str, Any]) -> None:
        self.path = Path(path)
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def save(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Write beside the file, then rename."""
        header = {"format": _FORMAT, "identity": json.dumps(self.identity), "plain": json.dumps(plain)}
        handle, beside = tempfile.mkstemp(prefix=f".{self.path.name}-", dir=self.path.parent)
        os.close(handle)
        try:
            contiguous = {
                name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
                for name, value in tensors.items()
            }
            save_file(contiguous, beside, metadata=header)
            os.replace(beside, self.path)
        finally:
            Path(beside).unlink(missing_ok=True)

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What was saved; None if there is no file yet.

        Raises
        ------
        ValueError
            If the file is damaged, or was written by a run of another model, data, seed or settings.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        except (OSError, SafetensorError) as error:
            raise ValueError(f"the checkpoint {self.path} is damaged: {error}. Remove it to start anew.") from error
        if header.get("format") != _FORMAT:
            raise ValueError(f"{self.path} is no checkpoint of a sampler that this version can read.")
        found = json.loads(header["identity"])
        for name, wanted in self.identity.items():
            if found.get(name) != wanted:
                raise ValueError(
                    f"the checkpoint {self.path} is of another run: its {name} is {_short(found.get(name))}, "
                    f"here it is {_short(wanted)}. Give another path, or remove the file to start anew."
                )
        return tensors, json.loads(header["plain"])


def digest(pair: Pair | None) -> str | None:
    """A fingerprint of the data."""
    if pair is None:
        return None
    result = hashlib.sha256()
    for part in pair:
        result.update(f"{tuple(part.shape)} {part.dtype}".encode())
        result.update(part.detach().cpu().contiguous().numpy().tobytes())
    return result.hexdigest()[:16]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
