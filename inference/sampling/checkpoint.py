"""A run's state on disk, from which it is resumed with the same bits."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bayes_rpp.serialization.models import model_identity
from inference.atomic_write import atomic_write
from inference.data import Pair
from inference.density.unconstrained import UnconstrainedDensity

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_FORMAT = "bayes_rpp checkpoint 3"


class Checkpoint:
    """One file of tensors and plain values, whole or absent. Its ``identity``, JSON values by name, is what a run must
    have in common with the one that wrote the file. Raises OSError if its folder cannot be made.
    """

    def __init__(self, path: str | Path, identity: dict[str, Any]) -> None:
        self.path = Path(path)
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def save(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Replace the file as a whole."""
        header = {"format": _FORMAT, "identity": json.dumps(self.identity), "plain": json.dumps(plain)}
        contiguous = {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()
        }
        with atomic_write(self.path) as beside:
            save_file(contiguous, beside, metadata=header)

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What was saved, or None if no file exists yet. Raises ValueError if it is damaged, or of another run."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        except (OSError, SafetensorError) as error:
            raise ValueError(f"the checkpoint {self.path} is damaged: {error}. Remove it to start anew.") from error
        if (written := header.get("format")) != _FORMAT:
            raise ValueError(
                f"{self.path} is no checkpoint of a sampler that this version can read: its format is {written!r}, "
                f"and this version reads {_FORMAT!r}. Give another path, or remove the file to start anew."
            )
        found = json.loads(header["identity"])
        for name, wanted in self.identity.items():
            if not _agree(found.get(name), wanted):
                where, there, here = _difference(name, found.get(name), wanted)
                raise ValueError(
                    f"the checkpoint {self.path} is of another run: its {where} is {_short(there)}, here it is "
                    f"{_short(here)}. Give another path, or remove the file to start anew."
                )
        return tensors, json.loads(header["plain"])


def run_identity(
    settings: DataclassInstance,
    density: UnconstrainedDensity,
    z: Float[Tensor, "chain size"],
    pair: Pair | None,
    seed: int,
) -> dict[str, Any]:
    """What two runs must have in common for one to resume the other. A model is known by the settings of its prior,
    likelihood and network, exactly, and by its density at two points, which is all that tells a LogDensity from
    another. The densities, and the projection of each chain that identifies a start, are compared up to rounding, which
    differs between machines and numbers of threads.
    """
    initial = density.initial([0])
    aside = 0.1 * torch.arange(density.size, dtype=z.dtype, device=z.device).cos()
    densities = [-float(density.gradients(z)[1]) for z in (initial, initial + aside)]
    parameters = {name: (list(shape), str(density.model.constraints[name])) for name, shape in density.shapes.items()}
    within = torch.finfo(z.dtype).eps ** 0.5
    named = {name: repr(value) if is_dataclass(value) else value for name, value in vars(settings).items()}
    run = {"engine": type(settings).__name__, **named, "seed": seed}
    return run | {
        "data": None if pair is None else _digest(*pair),
        "model": {
            **model_identity(density.model),
            "parameters": parameters,
            "log_densities": {"at_two_points": densities, "within": within},
        },
        "start": {"projections": (z.double() @ aside.double()).tolist(), "within": within},
    }


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


def _digest(*tensors: Tensor) -> str:
    """A fingerprint of tensors."""
    result = hashlib.sha256()
    for part in tensors:
        result.update(f"{tuple(part.shape)} {part.dtype}".encode())
        result.update(part.detach().cpu().contiguous().numpy().tobytes())
    return result.hexdigest()[:16]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
