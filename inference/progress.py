"""Progress of long work: a bar in a terminal, and elsewhere a line in the log every half minute.

The lines are of the level INFO, so that a program sees them if it asks for them:

    logging.getLogger("inference.progress").setLevel(logging.INFO)
"""

from __future__ import annotations

import io
import logging
import sys
import time
from typing import Any

from tqdm import tqdm

logger = logging.getLogger(__name__)

QUIET_SECONDS = 2.0  # before a bar shows, of work that is often short
SECONDS_BETWEEN_LINES = 30.0


class ProgressBar(tqdm):
    """A bar of tqdm, which takes the same settings, and ``progress``: False shows nothing."""

    def __init__(self, *iterable: Any, progress: bool = True, **settings: Any) -> None:
        in_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._is_of_lines = progress and not in_terminal and logger.isEnabledFor(logging.INFO)
        self._last_line = time.monotonic()
        if self._is_of_lines:
            settings["file"] = io.StringIO()
        super().__init__(*iterable, disable=not (progress and (in_terminal or self._is_of_lines)), **settings)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Draw the bar, or log a line if half a minute has passed."""
        if not self._is_of_lines:
            return bool(super().display(msg, pos))
        now = time.monotonic()
        if now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            logger.info("%s", self.line())
        return True

    def line(self) -> str:
        """How far the work is, in words."""
        numbers = self.format_dict
        done, total, elapsed = numbers["n"], numbers["total"], numbers["elapsed"]
        line = f"{self.desc.removesuffix(': ') if self.desc else 'working'}: {done:,}"
        line += f" of {total:,}" if total else ""
        line += f" {self.unit}{'s' * ((total or done) != 1)} in {tqdm.format_interval(elapsed)}"
        if total and done > numbers["initial"]:
            left = elapsed * (total - done) / (done - numbers["initial"])
            line += f", about {tqdm.format_interval(left)} left"
        return line + (f" ({self.postfix})" if self.postfix else "")
