"""A run's state on disk, from which it is resumed with the same bits."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bayes_rpp.serialization.models import of_today
from inference.atomic_write import atomic_write, check_writable
from inference.json_entries import json_values, read_entries
from inference.tensor_file import write_tensors

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60.0  # from one checkpoint to the next

_FORMAT = "bayes_rpp checkpoint 3"

E = TypeVar("E")


class Checkpoint:
    """One file of tensors and plain values, whole or absent. Its ``identity``, JSON values by name, is what a run must
    have in common with the one that wrote the file. Raises OSError if its folder cannot be written.
    """

    def __init__(self, path: str | Path, identity: dict[str, Any]) -> None:
        self.path = Path(path)
        self.identity: dict[str, Any] = json.loads(json.dumps(json_values(identity, "the run's identity")))
        check_writable(self.path.parent)
        self.path.parent.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def identity_of(path: Path) -> dict[str, Any]:
        """The identity of the run that wrote a file; empty if it cannot be read."""
        with suppress(OSError, SafetensorError, ValueError), safe_open(path, framework="pt") as file:
            found: dict[str, Any] = json.loads((file.metadata() or {}).get("identity", "{}"))
            return found
        return {}

    def save(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Replace the file as a whole. What is computed is worth more than the file: if it cannot be written, that is
        reported, and the run goes on.
        """
        header = {
            "format": _FORMAT,
            "identity": json.dumps(self.identity),
            "plain": json.dumps(json_values(plain, "the run's state")),
        }
        try:
            with atomic_write(self.path) as beside, beside.open("r+b") as file:
                write_tensors(file, tensors, header)
        except OSError as error:
            logger.error("the checkpoint %s could not be written: %s. The run goes on.", self.path, error)

    def load(self, kind: type[E]) -> tuple[dict[str, Tensor], E] | None:
        """The tensors, and the plain values as a ``kind`` of TypedDict, or None if no file exists yet. Raises
        ValueError if the file is damaged, or of another run.
        """
        if not self.path.exists():
            return None
        if self.path.is_dir():
            raise ValueError(f"{self.path} is no checkpoint of a run, but a folder: give the path of a file.")
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        except (OSError, SafetensorError) as error:
            raise ValueError(f"the checkpoint {self.path} is damaged: {error}. Remove it to start anew.") from error
        if (written := header.get("format")) != _FORMAT:
            raise ValueError(
                f"{self.path} is no checkpoint of a run that this version can read: its format is {written!r}, "
                f"and this version reads {_FORMAT!r}. Give another path, or remove the file to start anew."
            )
        where, advice = f"the checkpoint {self.path}", "Remove it to start anew."
        found = of_today(read_entries(header.get("identity", ""), dict[str, Any], where, advice))
        for name, wanted in self.identity.items():
            if not _agree(found.get(name), wanted):
                where, there, here = _difference(name, found.get(name), wanted)
                raise ValueError(
                    f"the checkpoint {self.path} is of another run: its {where} is {_short(there)}, here it is "
                    f"{_short(here)}. Give another path, or remove the file to start anew."
                )
        return tensors, read_entries(header.get("plain", ""), kind, where, advice)


def _agree(found: Any, wanted: Any, within: float | None = None) -> bool:
    """Whether JSON values are equal; floats in a dict that has "within" only up to that, relative or absolute."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        within = wanted.get("within", within)
        return found.keys() == wanted.keys() and all(_agree(found[name], wanted[name], within) for name in wanted)
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(partial(_agree, within=within), found, wanted))
    if within is not None and isinstance(wanted, float) and isinstance(found, float):
        both_nan = math.isnan(found) and math.isnan(wanted)
        return both_nan or math.isclose(found, wanted, rel_tol=within, abs_tol=within)
    return bool(found == wanted)


def _difference(name: str, found: Any, wanted: Any) -> tuple[str, Any, Any]:
    """The first value that differs, by its dotted name, and the two values."""
    if isinstance(wanted, dict) and isinstance(found, dict) and found.keys() == wanted.keys():
        within = wanted.get("within")
        for part in wanted:
            if not _agree(found[part], wanted[part], within):
                return _difference(f"{name}.{part}", found[part], wanted[part])
    return name, found, wanted


@overload
def stage_file(path: str | Path, stage: str) -> Path: ...


@overload
def stage_file(path: str | Path | None, stage: str) -> Path | None: ...


def stage_file(path: str | Path | None, stage: str) -> Path | None:
    """The file of a stage or a part of a fit, beside the one that is named; that itself for a stage without a name."""
    if path is None or not stage:
        return None if path is None else Path(path)
    return Path(path).with_name(f"{Path(path).name}-{stage}")


def digest(*tensors: Tensor) -> str:
    """A fingerprint of tensors."""
    result = hashlib.sha256()
    for part in tensors:
        result.update(f"{tuple(part.shape)} {part.dtype}".encode())
        result.update(part.detach().cpu().contiguous().numpy().tobytes())
    return result.hexdigest()[:16]


def direction(z: Float[Tensor, "chain size"]) -> Float[Tensor, " size"]:
    """A vector with no zeros, along which starts differ."""
    return 0.1 * torch.arange(z.shape[1], dtype=z.dtype, device=z.device).cos()


def start_identity(z: Float[Tensor, "chain size"]) -> dict[str, Any]:
    """What tells a start from another: a projection of each chain, up to rounding."""
    aside = direction(z).double()
    projections = [float(chain.double() @ aside) for chain in z]
    return {"projections": projections, "within": torch.finfo(z.dtype).eps ** 0.5}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
