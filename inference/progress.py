"""Progress bars of long work."""

from __future__ import annotations

QUIET_SECONDS = 2.0  # before a bar shows, of work that is often short


def off_unless(progress: bool) -> bool | None:
    """What tqdm takes as ``disable``: None shows a bar in a terminal only."""
    return None if progress else True
