"""Posteriors on disk: a folder with posterior.json and tensors.safetensors, whole or absent."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bayes_rpp.serialization.models import describe_model, rebuild_model
from inference.atomic_write import default_permissions
from inference.data import Model
from inference.posterior.draws import Draws, Snapshot

logger = logging.getLogger(__name__)

FORMAT, VERSION = "bayes_rpp posterior", 1
HEADER, TENSORS = "posterior.json", "tensors.safetensors"

D = TypeVar("D", bound=Draws)


def save_posterior(posterior: Draws, path: Path) -> Path:
    """Write a folder beside the final one, then rename it."""
    tensors = _draws(posterior)
    for index, partial in enumerate(posterior.partial):
        tensors |= {f"partial/{index}/{name}": value for name, value in _draws(partial).items()}
    for index, snapshot in enumerate(posterior.history):
        tensors |= {f"history/{index}/{name}": value for name, value in snapshot.samples.items()}
    if posterior.data is not None:
        tensors |= {"data/x": posterior.data[0], "data/y": posterior.data[1]}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "model": describe_model(posterior.model),
        "stats": posterior.stats,
        "history": [snapshot.epoch for snapshot in posterior.history],
        "partial": [partial.stats for partial in posterior.partial],
        "tensors": {name: list(value.shape) for name, value in tensors.items()},
    }
    check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        copies = {n: v.detach().cpu().clone(memory_format=torch.contiguous_format) for n, v in tensors.items()}
        save_file(copies, beside / TENSORS)
        (beside / HEADER).write_text(json.dumps(header, indent=1))
        _replace(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return path


def check_writable(path: Path) -> None:
    """Check before long work that a folder can be written; raises OSError, which names the folder, if not."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    try:
        if not existing.is_dir():
            raise NotADirectoryError(f"{existing} is a file, not a folder")
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise OSError(f"cannot write to {path}: {error}") from error


def check_replaceable(path: Path) -> None:
    """Check before long work that a posterior can be saved as a folder; raises OSError if not, or if the folder holds
    anything but an older posterior and hidden files.
    """
    check_writable(path)
    found = {entry.name for entry in path.iterdir() if not entry.name.startswith(".")} if path.exists() else set()
    if others := found - {HEADER, TENSORS}:
        raise FileExistsError(f"{path} holds other files ({min(others)}); save the posterior in a folder of its own.")


def load_posterior(path: Path, model: Model | None, kind: type[D]) -> D:
    """Read a folder, as a ``kind`` of draws; see Posterior.load."""
    header = _read_header(path)
    tensors = _read_tensors(path, header["tensors"])
    if model is None and header["model"] is not None:
        model = rebuild_model(header["model"])
    if model is None:
        logger.warning("%s holds no model of this package's own; pass model= to predict with it.", path)
    history = [Snapshot(epoch, _under(tensors, f"history/{index}/")) for index, epoch in enumerate(header["history"])]
    data = (tensors["data/x"], tensors["data/y"]) if "data/x" in tensors else None

    def posterior(prefix: str, stats: dict[str, Any]) -> D:
        own = _under(tensors, prefix)
        return kind(model, _under(own, "samples/"), stats, data=data, sample_stats=_under(own, "sample_stats/"))

    result = posterior("", header["stats"])
    result.history = history
    result.partial = [posterior(f"partial/{index}/", stats) for index, stats in enumerate(header["partial"])]
    return result


def _draws(posterior: Draws) -> dict[str, Tensor]:
    """The samples and their statistics, by their names in the file."""
    samples = {f"samples/{name}": value for name, value in posterior.samples.items()}
    return samples | {f"sample_stats/{name}": value for name, value in posterior.sample_stats.items()}


def _read_header(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"{path} holds no saved posterior: there is no such folder.")
    if not (path / HEADER).is_file():
        raise FileNotFoundError(f"{path} holds no saved posterior: {HEADER} is missing.")
    try:
        header = json.loads((path / HEADER).read_text())
        found = header["format"], header["version"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path / HEADER} is damaged: {error!r}. Fit and save the posterior again.") from error
    if found[0] != FORMAT:
        raise ValueError(f"{path / HEADER} is of format {found[0]!r}, not {FORMAT!r}.")
    if found[1] != VERSION:
        raise ValueError(
            f"{path} was written in version {found[1]} of the format; this program reads version {VERSION}."
        )
    if missing := {"model", "stats", "history", "tensors"} - set(header):
        raise ValueError(f"{path / HEADER} is damaged: it lacks {sorted(missing)}. Fit and save the posterior again.")
    return {"partial": []} | header  # older files lack it


def _read_tensors(path: Path, expected: dict[str, list[int]]) -> dict[str, Tensor]:
    try:
        tensors = load_file(path / TENSORS)
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{path / TENSORS} is missing or damaged: {error}. Fit and save the posterior again."
        ) from error
    if not isinstance(expected, dict):
        raise ValueError(f"{path / HEADER} is damaged: its tensors are no mapping. Fit and save the posterior again.")
    found = {name: list(value.shape) for name, value in tensors.items()}
    if found != expected:
        differing = sorted(name for name in found.keys() | expected if found.get(name) != expected.get(name))
        raise ValueError(f"{path / TENSORS} does not match {HEADER}; they differ in {differing[0]!r} first.")
    return {name: tensors[name] for name in expected}


def _replace(beside: Path, path: Path) -> None:
    """Rename a finished folder; an older one stays whole until then."""
    beside.chmod(default_permissions(0o777))
    if not path.exists():
        beside.rename(path)
        return
    older = Path(tempfile.mkdtemp(prefix=f".{path.name}-older-", dir=path.parent))
    os.replace(path, older)
    try:
        os.replace(beside, path)
    except OSError:
        older.rename(path)
        raise
    shutil.rmtree(older)


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
