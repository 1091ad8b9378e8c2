"""What every engine does around its ``fit``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from inference.gradients import with_gradients
from inference.posterior.named_columns import column_names

F = TypeVar("F", bound=Callable[..., Any])


def engine_fit(fit: F) -> F:
    """The same method, which takes gradients inside of ``torch.no_grad()`` and ``torch.inference_mode()`` too, and
    notes among the ``stats`` of the posterior what the columns of frames are called: predictions of other frames take
    these columns, in whatever order they are.
    """

    guarded = with_gradients(fit)

    @functools.wraps(fit)
    def enabled(engine: Any, model: Any, data: Any, **settings: Any) -> Any:
        posterior = guarded(engine, model, data, **settings)
        if names := column_names(data, getattr(model, "num_outputs", 0)):
            posterior.stats["table"] = names
        return posterior

    return enabled  # type: ignore[return-value]
