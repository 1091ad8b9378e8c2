"""Posteriors on disk: a folder whose posterior.json names the file with the tensors.

Every save writes the tensors under a name of their own, and then replaces posterior.json, in one step. A reader takes
the file that the header names; if that has gone since, the header names another one by now. So readers and writers need
not wait for each other: a reader sees the posterior before a save or after it, and of two writers the last one wins.
"""

from __future__ import annotations

import json
import logging
import os
import re
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bayes_rpp import BayesianModel
from bayes_rpp.serialization.models import describe_model, rebuild_model
from bayes_rpp.types import Params
from inference.atomic_write import atomic_write, check_writable, new_file, remove_abandoned, remove_file
from inference.data import Model, Pair
from inference.json_entries import check_entries, json_values, read_entries
from inference.posterior.draws import Draws, Snapshot
from inference.tensor_file import write_tensors

logger = logging.getLogger(__name__)

FORMAT, VERSION = "bayes_rpp posterior", 2
HEADER = "posterior.json"
_IN_RUN = "posterior"  # the folder of a posterior in that of a run of the command
_TENSORS = re.compile(r"tensors-[0-9a-f]{32}\.safetensors")
_TENSORS_OF_VERSION_1 = "tensors.safetensors"

_ADVICE = "Fit and save the posterior again."

D = TypeVar("D", bound=Draws)


class _Format(TypedDict):
    """What every version of the header says."""

    format: str
    version: int


class _Header(_Format):
    """posterior.json."""

    tensors_file: str
    model: dict[str, Any] | None
    stats: dict[str, Any]
    history: list[int]
    partial: list[dict[str, Any]]
    tensors: dict[str, list[int]]


def save_posterior(posterior: Draws, path: Path, held_out: Pair | None = None) -> Path:
    """Write tensors, then the header that names them, and remove what it has superseded; see Posterior.save. Data that
    were held out may be kept with the posterior, since they are of no use to another one.
    """
    tensors = _draws(posterior)
    for index, partial in enumerate(posterior.partial):
        tensors |= {f"partial/{index}/{name}": value for name, value in _draws(partial).items()}
    for index, snapshot in enumerate(posterior.history):
        tensors |= {f"history/{index}/{name}": value for name, value in snapshot.samples.items()}
    if isinstance(posterior.model, BayesianModel):
        tensors |= {f"frozen/{name}": value for name, value in posterior.model.frozen.items()}
    for name, pair in (("data", posterior.data), ("held_out", held_out)):
        if pair is not None:
            tensors |= {f"{name}/x": pair[0], f"{name}/y": pair[1]}
    file_name = f"tensors-{uuid.uuid4().hex}.safetensors"
    header: _Header = {
        "format": FORMAT,
        "version": VERSION,
        "tensors_file": file_name,
        "model": json_values(describe_model(posterior.model), "the description of posterior.model"),
        "stats": json_values(posterior.stats, "posterior.stats"),
        "history": json_values([snapshot.epoch for snapshot in posterior.history], "posterior.history (the epochs)"),
        "partial": json_values([partial.stats for partial in posterior.partial], "posterior.partial (the stats)"),
        "tensors": {name: list(value.shape) for name, value in tensors.items()},
    }
    text = json.dumps(header, indent=1)
    check_replaceable(path, sum(value.numel() * value.element_size() for value in tensors.values()))
    folder = Path(os.path.realpath(path))
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    superseded = tensors_file(folder)
    try:
        with new_file(folder / file_name) as file:  # locked until the header names it
            write_tensors(file, tensors)
            with atomic_write(folder / HEADER) as beside:
                beside.write_text(text)
        if superseded is not None:
            (folder / superseded).unlink(missing_ok=True)
    finally:
        if tensors_file(folder) != file_name:  # this save failed, or another one was later
            (folder / file_name).unlink(missing_ok=True)
        _remove_abandoned_tensors(folder)
        if new:
            _remove_empty(folder)
    return path


def remove_posterior(path: Path) -> None:
    """Remove a posterior's own files, and its folder if nothing else is in it."""
    if path.is_dir():
        remove_file(path / HEADER)
        _remove_abandoned_tensors(path)
        _remove_empty(path)


def check_replaceable(path: Path, size: int = 0) -> None:
    """Check before long work that a posterior of so many bytes can be saved as a folder; raises OSError if not, or if
    the folder holds anything but an older posterior and hidden files.
    """
    check_writable(path, size)
    found = {entry.name for entry in path.iterdir() if not entry.name.startswith(".")} if path.exists() else set()
    own = {HEADER} | {name for name in found if _TENSORS.fullmatch(name)}
    try:
        others = found - own - {tensors_file(path)}
    except ValueError as error:
        raise FileExistsError(
            f"{path / HEADER} is no header of a posterior that this program could replace: {error} "
            "Save the posterior in a folder of its own."
        ) from error
    if others:
        raise FileExistsError(f"{path} holds other files ({min(others)}); save the posterior in a folder of its own.")


def tensors_file(path: Path) -> str | None:
    """The name of the file with the tensors, which differs between any two saves; None if the folder holds no
    posterior. Raises ValueError for a header that is damaged or of another format.
    """
    try:
        return _read_header(path)["tensors_file"]
    except FileNotFoundError:
        return None


def load_posterior(path: Path, model: Model | None, kind: type[D]) -> D:
    """Read a folder, as a ``kind`` of draws; see Posterior.load."""
    return load_with_held_out(path, model, kind)[0]


def load_with_held_out(path: Path, model: Model | None, kind: type[D]) -> tuple[D, Pair | None]:
    """The same, and the data that were held out, if any were saved with it."""
    path = path if (path / HEADER).exists() or not (path / _IN_RUN / HEADER).exists() else path / _IN_RUN
    header, tensors = _read(path)
    if model is None and header["model"] is not None:
        try:
            model = rebuild_model(header["model"], _under(tensors, "frozen/"))
        except ValueError as error:
            raise ValueError(f"of the model in {path / HEADER}: {error}") from error
    elif isinstance(model, BayesianModel):
        _check_frozen(path, model, _under(tensors, "frozen/"))
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
    held_out = (tensors["held_out/x"], tensors["held_out/y"]) if "held_out/x" in tensors else None
    return result, held_out


def _check_frozen(path: Path, model: BayesianModel, saved: Params) -> None:
    """Raise ValueError if a model's frozen parameters are not those that the draws were made with."""
    for name in sorted(saved.keys() | model.frozen):
        if name not in saved or name not in model.frozen:
            which = "the model" if name in model.frozen else "the posterior"
            raise ValueError(f"the parameter {name!r} is frozen in {which} only; {path} needs the model of its draws.")
        if not torch.equal(saved[name].to(model.frozen[name]), model.frozen[name]):
            raise ValueError(f"the frozen parameter {name!r} has other values than when {path} was saved.")


def _draws(posterior: Draws) -> dict[str, Tensor]:
    """The samples and their statistics, by their names in the file."""
    samples = {f"samples/{name}": value for name, value in posterior.samples.items()}
    return samples | {f"sample_stats/{name}": value for name, value in posterior.sample_stats.items()}


def _read(path: Path) -> tuple[_Header, dict[str, Tensor]]:
    """Header and tensors of one save, whatever is saved meanwhile."""
    while True:
        header = _read_header(path)
        try:
            return header, _read_tensors(path / header["tensors_file"], header["tensors"])
        except ValueError:
            if tensors_file(path) == header["tensors_file"]:
                raise


def _read_header(path: Path) -> _Header:
    if not path.exists():
        raise FileNotFoundError(f"{path} holds no saved posterior: there is no such folder.")
    if not (path / HEADER).exists():
        raise FileNotFoundError(f"{path} holds no saved posterior: {HEADER} is missing.")
    where, text = str(path / HEADER), _bytes(path / HEADER)
    found = read_entries(text, _Format, where, _ADVICE)
    if found["format"] != FORMAT:
        raise ValueError(f"{where} is of format {found['format']!r}, not {FORMAT!r}.")
    if found["version"] not in (1, VERSION):
        raise ValueError(
            f"{path} was written in version {found['version']} of the format; this program reads versions 1 and "
            f"{VERSION}."
        )
    # The oldest files lack "partial".
    older = {"partial": [], "tensors_file": _TENSORS_OF_VERSION_1} if found["version"] == 1 else {}
    header = check_entries({**older, **found}, _Header, where, _ADVICE)
    if not (found["version"] == 1 or _TENSORS.fullmatch(header["tensors_file"])):
        raise ValueError(f"{where} is damaged: it names no file of tensors. {_ADVICE}")
    for name, parts in {"history": len(header["history"]), "partial": len(header["partial"])}.items():
        kept = {key.split("/")[1] for key in header["tensors"] if key.startswith(f"{name}/")}
        if kept != {str(index) for index in range(parts)}:
            raise ValueError(
                f"{where} is damaged: its entry {name!r} has {parts} part(s), but there are tensors of {len(kept)}. "
                f"{_ADVICE}"
            )
    return header


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except IsADirectoryError as error:
        raise ValueError(f"{path} is a folder, not the header of a posterior.") from error


def _read_tensors(path: Path, expected: dict[str, list[int]]) -> dict[str, Tensor]:
    try:
        tensors = load_file(path)
    except (OSError, RuntimeError, SafetensorError) as error:  # a RuntimeError if it goes while it is opened
        raise ValueError(f"{path} is missing or damaged: {error}. {_ADVICE}") from error
    found = {name: list(value.shape) for name, value in tensors.items()}
    if found != expected:
        differing = sorted(name for name in found.keys() | expected if found.get(name) != expected.get(name))
        raise ValueError(f"{path} does not match {HEADER}; they differ in {differing[0]!r} first.")
    return {name: tensors[name] for name in expected}


def _remove_abandoned_tensors(folder: Path) -> None:
    """Remove files of tensors that writers left that were killed."""
    with suppress(ValueError):  # of a damaged header nobody knows what it names
        remove_abandoned(folder, _TENSORS, lambda: tensors_file(folder))


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # it is not empty
        folder.rmdir()


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
