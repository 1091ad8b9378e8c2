"""Files that are replaced as a whole: a reader sees the old one or the new one, never a part.

A file is written beside the one that it replaces, under a name that is used once, and renamed at the end. Its writer
holds a lock on it meanwhile, which ends with the process however that ends. A file of such a name without a lock is
therefore what a writer left that was killed, and the next writer removes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; it replaces ``path`` at the end of the block, or goes if the block fails.
    Of a symbolic link the file that it leads to is replaced. The permissions are those of any new file.
    """
    path = Path(os.path.realpath(path))
    beside = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    with new_file(beside) as file:
        try:
            with _named_errors(path):
                yield beside
                os.fsync(file.fileno())
                os.replace(beside, path)
                sync_folder(path.parent)
        finally:
            beside.unlink(missing_ok=True)
    _remove_unfinished(path)


def remove_file(path: Path) -> None:
    """Remove a file, and what writers of it have left that were killed."""
    path.unlink(missing_ok=True)
    _remove_unfinished(path)


def check_writable(path: Path, size: int = 0) -> None:
    """Check before long work that files of so many bytes can be written to a folder; raises OSError, which names the
    folder, if not.
    """
    resolved = Path(os.path.realpath(path))
    existing = next(folder for folder in (resolved, *resolved.parents) if folder.exists())
    try:
        if not existing.is_dir():
            raise NotADirectoryError(f"{existing} is a file, not a folder")
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(bytes(4096))  # a full disk takes a file, but nothing into it
    except OSError as error:
        raise OSError(f"cannot write to {path}: {error}") from error
    if size > (free := shutil.disk_usage(existing).free):
        raise OSError(errno.ENOSPC, f"cannot write to {path}: it takes {size:,} bytes, and {free:,} are free")


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file, open for writing, and locked while the block lasts: ``remove_abandoned`` leaves it alone so long."""
    with _named_errors(path):
        handle = _create(path)
    with os.fdopen(handle, "wb") as file:
        yield file


def remove_abandoned(folder: Path, names: re.Pattern[str], wanted: Callable[[], str | None] = lambda: None) -> None:
    """Remove the files of these names that no living writer has a lock on, but for the one that is ``wanted``: this is
    asked when the lock is held, since a writer may have finished until then. Nothing goes where there are no locks.
    """
    with suppress(OSError):  # a folder that is not to be read
        for name in os.listdir(folder):
            if names.fullmatch(name):
                with suppress(OSError):  # in use, already gone, or of another user
                    _remove_if_abandoned(folder / name, wanted)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the file system can do so."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_unfinished(path: Path) -> None:
    remove_abandoned(path.parent, re.compile(rf"\.{re.escape(path.name)}-[0-9a-f]{{32}}"))


def _create(path: Path) -> int:
    """Open a new file with a lock; where there are no locks, without."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle
        os.close(handle)  # it was taken for abandoned before it had its lock


def _remove_if_abandoned(path: Path, wanted: Callable[[], str | None]) -> None:
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISREG(os.fstat(handle).st_mode) and path.name != wanted():
            path.unlink()
    finally:
        os.close(handle)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Errors such as a full disk come without the name of the file."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno or errno.EIO, f"cannot write {path}: {error.strerror}") from error
