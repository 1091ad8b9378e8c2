"""Files that are replaced as a whole: a reader sees the old one or the new one, never a part."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; it replaces ``path`` at the end of the block, or goes if the block fails."""
    path = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        beside.chmod(default_permissions(0o666))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def default_permissions(wanted: int) -> int:
    """The permissions that a new file or folder would have under the process's umask."""
    umask = os.umask(0)
    os.umask(umask)
    return wanted & ~umask
