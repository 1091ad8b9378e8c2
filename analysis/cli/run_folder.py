"""A run's folder: a finished run is replaced only when told to, and an unfinished one is kept apart until it goes on.

posterior/     the finished posterior with its held-out data: there as a whole, or not at all
report.json, equivariance.png     what ``report`` says of it
unfinished/    the options, a checkpoint of each stage, and after an interrupt the posterior so far, of a fit that has
               not ended
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypedDict

from analysis.report.files import remove_report
from analysis.report.run import POSTERIOR, Run
from inference import Posterior
from inference.atomic_write import atomic_write, check_writable, remove_abandoned, remove_file
from inference.data import Pair
from inference.json_entries import read_entries
from inference.posterior.files import HEADER, check_replaceable, remove_posterior, tensors_file

logger = logging.getLogger(__name__)

UNFINISHED, OPTIONS, CHECKPOINT = "unfinished", "run.json", "checkpoint"
_OF_STAGE = re.compile(rf"({CHECKPOINT}(-[a-z0-9]+)*|start)")  # older versions named one "start"
_ABANDONED = re.compile(rf"\.{_OF_STAGE.pattern}")
_FORMAT = "bayes_rpp unfinished run"


class _Begun(TypedDict):
    """run.json: what an unfinished run was begun with, and the finished run that it is to replace."""

    format: str
    options: dict[str, Any]
    replaces: str | None


class RunFolder:
    """Where a run is to be fitted: refuses at the door what would be lost, see ``fit`` for the rest.

    ``options`` are those that decide the result, JSON values by name: an unfinished run goes on under the same ones.
    ``size`` is about the number of bytes that the run will take; ``resume`` is None for a command that cannot resume;
    reports on the run may be in other folders too. Raises OSError if the folder cannot be written or holds a run,
    finished or not, that was not to be replaced, and ValueError if there is nothing to resume.
    """

    def __init__(
        self,
        path: Path,
        options: dict[str, Any],
        size: int,
        *,
        force: bool,
        resume: bool | None,
        reported_in: tuple[Path, ...] = (),
    ) -> None:
        self.path, self.unfinished, self.resume = path, path / UNFINISHED, resume
        self.reported_in, self._finishing, self._made = (path, *reported_in), False, list[Path]()
        self.options: dict[str, Any] = json.loads(json.dumps(options))
        check_writable(path, size)
        check_replaceable(path / POSTERIOR, size)
        self.replaces = tensors_file(path / POSTERIOR)
        try:
            begun = _begun(self.unfinished)
        except (FileExistsError, ValueError) as error:
            raise FileExistsError(f"{error} Give another --out.") from error
        check_replaceable(self.unfinished / POSTERIOR, size)
        if resume:
            self._check_resumable(begun)
        if self.replaces and not force and not (resume and begun and begun["replaces"] == self.replaces):
            raise FileExistsError(
                f"{path} holds a finished run: give another --out, or --force to replace it when the new one is whole."
            )
        kept = begun and (self._checkpoints() or (self.unfinished / POSTERIOR).exists())
        if kept and not (resume or force):
            go_on = "" if resume is None else "--resume to go on with it, "
            raise FileExistsError(
                f"{path} holds an unfinished run: give {go_on}another --out, or --force to drop it and start anew."
            )

    def _check_resumable(self, begun: _Begun | None) -> None:
        if begun is None:
            found = "the run there is finished" if self.replaces else "there is none"
            raise ValueError(f"--resume goes on with an unfinished run in {self.path}, but {found}.")
        before = begun["options"]
        for name in before | self.options:
            if before.get(name) != self.options.get(name):
                raise ValueError(
                    f"--resume goes on with the run in {self.unfinished}, whose {name} was {before.get(name)!r}; "
                    f"here it is {self.options.get(name)!r}. Give the same again, or --force without --resume."
                )

    def fit(self, train: Callable[[Path], Posterior], held_out: Pair) -> Run:
        """Train with a checkpoint, and keep the run with the data that were held out.

        What an interrupt leaves stays in the part for unfinished runs, and KeyboardInterrupt is raised, which says what
        that is; nothing stays of a fit that fails. An older run, and the report on it, are there until the new one is
        whole.
        """
        self._made = [folder for folder in (self.path, *self.path.absolute().parents) if not folder.exists()]
        with self._claimed():
            if not self.resume:
                self._discard()
                begun: _Begun = {"format": _FORMAT, "options": self.options, "replaces": self.replaces}
                with atomic_write(self.unfinished / OPTIONS) as beside:
                    beside.write_text(json.dumps(begun, indent=1))
            before = tensors_file(self.unfinished / POSTERIOR)
            try:
                posterior = self._trained(train)
                run = Run(posterior, *held_out)
                if posterior.interrupted:
                    remove_report(self.unfinished)
                    run.save(self.unfinished)
                    raise KeyboardInterrupt
                self._finish(run)
            except KeyboardInterrupt as interrupt:
                raise KeyboardInterrupt(self._kept(before)) from interrupt
        return run

    def _trained(self, train: Callable[[Path], Posterior]) -> Posterior:
        try:
            return train(self.unfinished / CHECKPOINT)
        except (ValueError, TypeError, RuntimeError):
            if not self.resume:
                self._discard(with_folders=[self.unfinished, *self._made])
            raise

    def _kept(self, before: str | None) -> str:
        """What there is after an interrupt, which may have come at any time: by the files themselves. ``before`` is the
        file of tensors that the part for unfinished runs had.
        """
        if self._finishing and tensors_file(self.path / POSTERIOR) != self.replaces:
            self._discard(with_folders=[self.unfinished])
            return f"the run was finished already, and is in {self.path}"
        go_on = "" if self.resume is None else "; go on with the same command and --resume"
        if tensors_file(self.unfinished / POSTERIOR) != before:
            return f"what was trained is in {self.unfinished}{go_on}"
        if self.resume is not None and self._checkpoints():
            return f"only a checkpoint of what was trained is in {self.unfinished}{go_on}"
        if before is None:
            self._discard(with_folders=[self.unfinished, *self._made])
        return "nothing of what was trained is kept"

    def _finish(self, run: Run) -> None:
        if tensors_file(self.path / POSTERIOR) != self.replaces:
            raise FileExistsError(f"another run was finished in {self.path} meanwhile; replace it by --resume --force.")
        self._finishing = True
        self._remove_reports()
        run.save(self.path)
        self._remove_reports()  # that of the older run, if one was written meanwhile
        self._discard(with_folders=[self.unfinished])

    def _remove_reports(self) -> None:
        for folder in self.reported_in:
            remove_report(folder)

    def _discard(self, with_folders: list[Path] | None = None) -> None:
        """Remove the unfinished run's own files, and these folders as far as nothing else is in them."""
        remove_report(self.unfinished)
        remove_posterior(self.unfinished / POSTERIOR)
        for file in (*self._checkpoints(), self.unfinished / OPTIONS):
            remove_file(file)
        if self.unfinished.is_dir():
            remove_abandoned(self.unfinished, _ABANDONED)  # of a fit that was killed in its first checkpoint
        for folder in with_folders or []:
            with suppress(OSError):
                folder.rmdir()

    def _checkpoints(self) -> list[Path]:
        """Those of all stages, whose names begin alike."""
        files = self.unfinished.iterdir() if self.unfinished.is_dir() else ()
        return [file for file in files if _OF_STAGE.fullmatch(file.name)]

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """A lock on the part for unfinished runs, which ends with the process; no lock where there are none."""
        Path(os.path.realpath(self.unfinished)).mkdir(parents=True, exist_ok=True)
        handle = os.open(self.unfinished, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise FileExistsError(f"another fit is at work in {self.path}: give another --out.") from error
        except OSError:
            pass
        try:
            yield
        finally:
            os.close(handle)


def part_to_report(path: Path) -> Path:
    """The folder of the finished run, or of what an interrupted fit has left; raises FileNotFoundError if there is
    nothing to report on.
    """
    unfinished = path / UNFINISHED
    try:
        begun = _begun(unfinished)
    except (FileExistsError, ValueError) as error:
        logger.warning("%s It is left alone, and is not in this report.", error)
        return path
    if begun is None:
        return path
    if (path / POSTERIOR / HEADER).exists():
        logger.warning("there is also an unfinished run in %s; it is not in this report.", unfinished)
        return path
    if not (unfinished / POSTERIOR / HEADER).exists():
        raise FileNotFoundError(f"the run in {path} is unfinished and has no posterior yet; go on with fit --resume.")
    return unfinished


def _begun(unfinished: Path) -> _Begun | None:
    """What an unfinished run was begun with, if there is one; FileExistsError if the folder is someone else's, and
    ValueError if the run's own file is damaged.
    """
    if not unfinished.exists():
        return None
    if not unfinished.is_dir():
        raise FileExistsError(f"{unfinished} is no folder of an unfinished run, but a file.")
    names = {entry.name for entry in unfinished.iterdir() if not entry.name.startswith(".")}
    if not names:
        return None
    try:
        text = (unfinished / OPTIONS).read_bytes()
        own = json.loads(text)["format"] == _FORMAT
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        own = False
    if not own:
        raise FileExistsError(f"{unfinished} holds other files ({min(names)}) than an unfinished run.")
    return read_entries(text, _Begun, str(unfinished / OPTIONS), "The fit cannot go on from there.")
