"""The draws of chains that run side by side, and the chains that diverged."""

from __future__ import annotations

import logging
from typing import Any, TypedDict

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bayes_rpp.types import Params
from inference.memory import free_memory
from inference.metrics.preconditioned import PreconditionedDensity

logger = logging.getLogger(__name__)


class TraceRecord(TypedDict):
    """How far a trace is: its draws, and chain -> the step in which it diverged and its number of draws before."""

    drawn: int
    diverged: dict[str, tuple[int, int]]


class Trace:
    """Draws and their statistics, in memory that is allocated once; raises ValueError if they would not fit.

    ``start`` holds the first positions in the coordinates of ``preconditioned``, ``draws`` is the number that each
    chain will have, and ``drawn`` that which it has so far. ``diverged`` maps a chain to the step in which it stopped
    being finite, and its number of draws before; the others are ``alive``.
    """

    def __init__(self, preconditioned: PreconditionedDensity, start: Float[Tensor, "chain size"], draws: int) -> None:
        self.preconditioned, self.draws, self.drawn = preconditioned, draws, 0
        self.diverged: dict[int, tuple[int, int]] = {}
        self.alive: Bool[Tensor, " chain"] = torch.ones(len(start), dtype=torch.bool, device=start.device)
        needed, free = start.numel() * draws * start.element_size(), free_memory(torch.device("cpu"))
        if free is not None and needed > free:
            raise ValueError(
                f"{len(start)} chain(s) of {draws:,} draws of {start.shape[1]:,} coordinates take {needed:,} bytes, "
                f"and {free:,} are free; keep fewer draws, by thin= or draws=."
            )
        self._samples = {
            name: value.new_empty((len(value), draws, *value.shape[1:]), device="cpu")
            for name, value in preconditioned.params(start).items()
        }
        self._statistics: dict[str, Tensor] = {}

    def write(self, position: Float[Tensor, "chain size"], statistics: dict[str, Tensor], step: int) -> None:
        """Write the positions of all chains as their next draw, which counts once ``drawn`` does; a chain whose
        parameters are not finite diverged in this step.
        """
        params = self.preconditioned.params(position)
        self.mark_diverged(finite_rows(*params.values()), step)
        for name, value in params.items():
            self._samples[name][:, self.drawn] = value
        for name, value in statistics.items():
            if name not in self._statistics:
                self._statistics[name] = torch.zeros(len(position), self.draws, dtype=value.dtype)
            self._statistics[name][:, self.drawn] = value.cpu()

    def mark_diverged(self, finite: Bool[Tensor, " chain"], step: int) -> None:
        """Report chains that stopped being finite in this step."""
        if finite.all():
            return
        for chain in (self.alive & ~finite).nonzero().flatten().tolist():
            self.diverged[chain] = (step, self.drawn)
            others = "; the others go on" if len(finite) > 1 else ""
            logger.warning("chain %d diverged in step %d: it is not finite any more%s.", chain, step, others)
        self.alive = self.alive & finite

    @property
    def kept(self) -> list[int]:
        """The chains that did not diverge."""
        return [chain for chain in range(len(self.alive)) if chain not in self.diverged]

    def samples(self) -> Params:
        """The draws so far, of the chains that did not diverge."""
        return self._of_kept(self._samples)

    def statistics(self) -> dict[str, Tensor]:
        """The statistics of these draws, name -> (chain, draw)."""
        return self._of_kept(self._statistics)

    def _of_kept(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.drawn == self.draws and not self.diverged:
            return dict(values)
        return {name: value[self.kept, : self.drawn].contiguous() for name, value in values.items()}

    def partial(self) -> dict[int, tuple[Params, dict[str, Tensor]]]:
        """Chain -> the draws and statistics before it diverged, as one chain; those without any are left out."""

        def cut(values: dict[str, Tensor], chain: int, count: int) -> dict[str, Tensor]:
            return {name: value[chain : chain + 1, :count].clone() for name, value in values.items()}

        return {
            chain: (cut(self._samples, chain, count), cut(self._statistics, chain, count))
            for chain, (_, count) in self.diverged.items()
            if count
        }

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain values from which ``restore`` goes on."""
        tensors = {f"samples/{name}": value[:, : self.drawn] for name, value in self._samples.items()}
        tensors |= {f"statistics/{name}": value[:, : self.drawn] for name, value in self._statistics.items()}
        return tensors, {"drawn": self.drawn, "diverged": {str(chain): list(v) for chain, v in self.diverged.items()}}

    def restore(self, tensors: dict[str, Tensor], plain: TraceRecord) -> None:
        """Go on from a ``state``."""
        self.drawn = plain["drawn"]
        self.diverged = {int(chain): (step, count) for chain, (step, count) in plain["diverged"].items()}
        self.alive = torch.ones_like(self.alive)
        self.alive[list(self.diverged)] = False
        for key, value in tensors.items():
            kind, _, name = key.partition("/")
            if kind == "statistics":
                self._statistics[name] = torch.zeros(len(value), self.draws, dtype=value.dtype)
            own = self._statistics if kind == "statistics" else self._samples
            own[name][:, : self.drawn] = value


def finite_rows(*values: Tensor) -> Bool[Tensor, " row"]:
    """Whether all is finite, for each index of the first dimension."""
    return torch.stack([value.reshape(len(value), value[0].numel()).isfinite().all(1) for value in values]).all(0)
