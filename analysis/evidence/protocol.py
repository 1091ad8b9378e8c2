"""What every way to an evidence gives, and the protocol that it keeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, ParamSpec, Protocol

import torch

from inference.data import Data, Model

Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class Evidence:
    """A log evidence, or a predictive score in its place, in nats over all data.

    Attributes
    ----------
    value : log p(y | x), or what the method gives in its place.
    method : the name of the method.
    standard_error : of ``value``, where the method has one.
    seconds : what it took.
    gradients : how many gradients of the log joint on all data it took, where it counts them; else None.
    warnings : what should be known before the value is relied on, in sentences.
    details : what else the method found, by name.

    Examples
    --------
    >>> evidence = log_evidence(model, data.train)
    >>> evidence.value, evidence.standard_error
    """

    value: float
    method: str
    standard_error: float | None = None
    seconds: float = 0.0
    gradients: int | None = None
    warnings: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        error = "" if self.standard_error is None else f" +- {self.standard_error:.2g}"
        return f"{self.value:.2f}{error} nats ({self.method}, {self.seconds:.1f} s)"

    def __float__(self) -> float:
        return self.value


def timed(function: Callable[Arguments, Evidence]) -> Callable[Arguments, Evidence]:
    """The function, with the seconds that it took in its result."""

    @wraps(function)
    def measured(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Evidence:
        began = time.perf_counter()
        return replace(function(*args, **kwargs), seconds=time.perf_counter() - began)

    return measured


class EvidenceMethod(Protocol):
    """A way to an evidence: a frozen dataclass of settings with one method."""

    def estimate(
        self, model: Model, data: Data, *, seed: int, device: str | torch.device = "auto", progress: bool = True
    ) -> Evidence:
        """The evidence of a model, see ``log_evidence``; the same seed gives the same bits."""
