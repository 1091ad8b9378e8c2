"""A run of many chains: their state, the loop of their steps, and its checkpoints."""

from __future__ import annotations

import logging
import time
from typing import Generic

import torch
from torch import Tensor

from inference.checkpoint import CHECKPOINT_SECONDS, Checkpoint
from inference.metrics.preconditioned import PreconditionedDensity
from inference.progress import ProgressBar
from inference.sampling.kernel import Kernel, S, named_tensors, where, with_tensors
from inference.sampling.random_streams import ChainRandom
from inference.sampling.trace import Trace, TraceRecord, finite_rows

logger = logging.getLogger(__name__)


class _Plain(TraceRecord):
    """What a checkpoint holds beside tensors."""

    step: int
    seconds: float


class Run(Generic[S]):
    """A run of a sampler: its state, its trace, and its checkpoint."""

    def __init__(
        self, sampler: Kernel[S], preconditioned: PreconditionedDensity, z: Tensor, random: ChainRandom
    ) -> None:
        self.sampler, self.preconditioned, self.random = sampler, preconditioned, random
        u = preconditioned.whiten(z)
        self.trace = Trace(preconditioned, u, sampler.draws)
        self.step, self.seconds = 0, 0.0
        with torch.no_grad():
            self.state = sampler.begin(preconditioned, u, random)
        self.checkpoint: Checkpoint | None = None

    def attach(self, checkpoint: Checkpoint) -> None:
        """Write checkpoints, and go on from the one that exists."""
        self.checkpoint = checkpoint
        if (saved := checkpoint.load(_Plain)) is None:
            return
        tensors, plain = saved
        self.step, self.seconds = plain["step"], plain["seconds"]
        self.state = with_tensors(self.state, "state", tensors, self.preconditioned.device)
        self.sampler.resume(self.preconditioned, self.state)
        self.random.restore(_under(tensors, "random/"))
        self.trace.restore(_under(tensors, "trace/"), plain)
        logger.info("going on from %s, step %d of %d", checkpoint.path, self.step, self.sampler.steps)

    def save(self) -> None:
        """Write a checkpoint, if one is attached."""
        if self.checkpoint is None:
            return
        drawn, plain = self.trace.state()
        tensors = named_tensors(self.state, "state")
        tensors |= {f"random/{name}": value for name, value in self.random.state().items()}
        tensors |= {f"trace/{name}": value for name, value in drawn.items()}
        self.checkpoint.save(tensors, plain | {"step": self.step, "seconds": self.seconds})

    @torch.no_grad()
    def sample(self, progress: bool) -> None:
        """All steps that are left."""
        sampler, trace = self.sampler, self.trace
        bar = ProgressBar(
            total=sampler.steps, initial=self.step, desc=f"{sampler.chains} chain(s)", unit="step",
            progress=progress,
        )  # fmt: skip
        began, earlier, saved = time.perf_counter(), self.seconds, time.perf_counter()
        try:
            while self.step < sampler.steps and trace.alive.any():
                before = self.random.state()
                try:
                    self._advance()
                except BaseException:  # an interrupted step is made again by the run that goes on
                    self.random.restore(before)
                    raise
                self.seconds = earlier + time.perf_counter() - began
                bar.update()
                if self.checkpoint is not None and time.perf_counter() - saved > CHECKPOINT_SECONDS:
                    self.save()
                    saved = time.perf_counter()
        finally:
            bar.close()
            self.save()

    def _advance(self) -> None:
        step, trace = self.step, self.trace
        after, statistics = self.sampler.advance(self.preconditioned, self.state, self.random, step)
        trace.mark_diverged(finite_rows(after.chains.position), step + 1)
        if trace.diverged:  # such a chain keeps its last finite state
            chains = where(trace.alive, after.chains, self.state.chains)
            after = after._replace(chains=chains)  # type: ignore[attr-defined]
        keep = self.sampler.keeps(step)
        if keep:
            trace.write(after.chains.position, statistics, step + 1)
        # No call between these: an interrupt comes before all of them or after.
        self.state, self.step, trace.drawn = after, step + 1, trace.drawn + keep


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
