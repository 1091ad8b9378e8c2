"""What a command has to say, to people and to programs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """Words for people, and the same as JSON values by name."""

    words: str
    values: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> str:
        """The values, with null for what is no number."""
        return json.dumps(_strict(self.values), indent=1)


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _strict(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
