"""Results that are shown in words."""

from __future__ import annotations


class InWords:
    """A result whose ``str`` says what was found; its ``repr`` says the same, after the name of its class, since arrays
    in full would hide it.
    """

    def __repr__(self) -> str:
        words = str(self)
        return f"{type(self).__name__}:{chr(10) if chr(10) in words else ' '}{words}"
