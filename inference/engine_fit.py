"""What every engine does around its ``fit``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from inference.gradients import with_gradients

F = TypeVar("F", bound=Callable[..., Any])


def engine_fit(fit: F) -> F:
    """The same method, which takes gradients inside of ``torch.no_grad()`` and ``torch.inference_mode()`` too, and
    notes among the ``stats`` of the posterior what the columns of frames are called: predictions of other frames take
    these columns, in whatever order they are.
    """

    @functools.wraps(fit)
    def enabled(engine: Any, model: Any, data: Any, **settings: Any) -> Any:
        posterior = with_gradients(fit)(engine, model, data, **settings)
        if names := _column_names(data, getattr(model, "num_outputs", 0)):
            posterior.stats["table"] = names
        return posterior

    return enabled  # type: ignore[return-value]


def _column_names(data: Any, outputs: int) -> dict[str, list[str]] | None:
    """Those of inputs and of outputs, where a pair of frames or series has texts for them; labels have none."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        return None
    x, y = ([str(name) for name in _names(part)] for part in data)
    y = y if len(y) == outputs else []
    return {"x": x, "y": y, "classes": []} if x or y else None


def _names(part: Any) -> list[str]:
    names = list(getattr(part, "columns", [getattr(part, "name", None)]))
    return names if all(isinstance(name, str) for name in names) else []
