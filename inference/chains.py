"""The one loop of all samplers whose chains run side by side."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from inference.chain_random import ChainRandom
from inference.chain_settings import ChainSettings, chain_seeds
from inference.checkpoint import Checkpoint, digest
from inference.data import Data, Model, Pair, resolve_data, resolve_device
from inference.posterior import Posterior
from inference.record import Record, finite_rows
from inference.space import Space
from inference.target import Target

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60.0  # from one checkpoint to the next
METRIC_FROM = "metric_from"  # in a shared state: the free vectors from which the space's metric was taken anew


@dataclass
class State:
    """Where all chains are.

    Attributes
    ----------
    chains : what each chain has of its own, name -> (chain, ...): ``position`` and what a sampler carries along.
    shared : what all chains share, such as an adapted step size.
    """

    chains: dict[str, Tensor]
    shared: dict[str, Tensor]

    @property
    def position(self) -> Float[Tensor, "chain size"]:
        """In the coordinates of the space."""
        return self.chains["position"]

    def only_where(self, alive: Tensor, before: State) -> State:
        """This state for the chains that go on, and an earlier one for the others."""

        def choose(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(alive.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        return State(
            {name: choose(value, before.chains.get(name, value)) for name, value in self.chains.items()}, self.shared
        )


class ChainsDiverged(RuntimeError):
    """No chain of a run stayed finite; ``partial`` holds the draws that they had before."""

    def __init__(self, message: str, partial: list[Posterior]) -> None:
        super().__init__(message)
        self.partial = partial


@dataclass(frozen=True)
class ChainSampler(ChainSettings, ABC):
    """A sampler that moves all of its chains with one call."""

    @abstractmethod
    def begin(self, space: Space, u: Float[Tensor, "chain size"], random: ChainRandom) -> State:
        """The state at the start."""

    @abstractmethod
    def advance(self, space: Space, state: State, random: ChainRandom, step: int) -> State:
        """The state after a step, counted from 0."""

    @abstractmethod
    def statistics(self, state: State, step: int) -> dict[str, Float[Tensor, " chain"]]:
        """What is kept with a draw, by ArviZ's names for sample_stats."""

    @property
    def minibatch(self) -> int | None:
        """Examples a step; None takes all."""
        return None

    @abstractmethod
    def advice(self) -> str:
        """What to do about chains that diverged."""

    def summary(self, state: State) -> dict[str, Any]:
        """What the sampler adds to the posterior's ``stats``."""
        return {}

    def fit(
        self,
        model: Model,
        data: Data,
        *,
        seed: int,
        device: str | torch.device = "auto",
        progress: bool = True,
        start: Posterior | None = None,
        checkpoint: str | Path | None = None,
    ) -> Posterior:
        """Run the chains, and return their draws.

        A chain that stops being finite is reported with its step; the draws it had are in ``partial``, and the others
        go on. Ctrl-C ends the run early and keeps the draws there are (if there are none yet, it is raised).

        Parameters
        ----------
        model : a BayesianModel, or a LogDensity with data=None.
        data : (x, y) as tensors or arrays, or a Dataset of such pairs.
        seed : chains take seeds derived from it; the same seed gives the same bits.
        device : "auto" takes an accelerator if there is one.
        progress : whether to show a progress bar, in a terminal.
        start : where to start: the last draw of each of its chains, then the draws before, one a chain, and around
            again where there are too few. None takes the model's initial states.
        checkpoint : a file that the run's state is written to every minute, on Ctrl-C and at the end. If it exists, the
            run goes on from there, and ends with the same bits as one without a break.

        Returns
        -------
        Posterior with samples name -> (chain, draw, *shape), constrained, on the CPU; ``stats`` has engine, seed,
        steps, seconds (of all runs, if there were breaks), and diverged: chain -> the step in which it diverged.

        Raises
        ------
        ValueError, TypeError
            If the data are missing or refused, a minibatch is more than N, ``start`` is of another model, or the
            checkpoint of another run.
        ChainsDiverged
            If every chain diverged; a RuntimeError.
        """
        pair = resolve_data(model, data)
        _check_batch_size(self.minibatch, pair)
        target = Target(model, pair, self.temperature, resolve_device(device))
        start_seeds, noise_seeds = zip(*chain_seeds(seed, self.chains), strict=True)
        z = target.initial(list(start_seeds)) if start is None else target.latest(start, self.chains)
        space = Space(target, self.metric, z, seed)
        run = _Run(self, space, z, ChainRandom(target, list(noise_seeds), self.minibatch))
        if checkpoint is not None:
            run.attach(Checkpoint(checkpoint, self._identity(target, z, pair, seed)))
        try:
            run.walk(progress)
        except KeyboardInterrupt:
            if not run.record.drawn:
                raise
            logger.warning("interrupted in step %d of %d; keeping %d draw(s).", run.step, self.steps, run.record.drawn)
        return self._as_posterior(model, pair, seed, run)

    def _identity(self, target: Target, z: Tensor, pair: Pair | None, seed: int) -> dict[str, Any]:
        """What two runs must have in common for one to go on where the other stopped."""
        _, potential = target.gradients(z[:1])
        shapes = {name: list(shape) for name, shape in target.shapes.items()}
        model = {"parameters": shapes, "potential": float(potential).hex()}
        return {"engine": type(self).__name__, "data": digest(pair), "model": model, "seed": seed, **asdict(self)}

    def _as_posterior(self, model: Model, pair: Pair | None, seed: int, run: _Run) -> Posterior:
        record = run.record
        stats: dict[str, Any] = {
            "engine": type(self).__name__,
            "seed": seed,
            "steps": run.step,
            "seconds": round(run.seconds, 3),
            "diverged": {str(chain): step for chain, (step, _) in record.diverged.items()},
            **self.summary(run.state),
        }
        partial = [
            Posterior(model, samples, stats | {"chain": chain}, data=pair, sample_stats=statistics)
            for chain, (samples, statistics) in record.partial().items()
        ]
        if not record.kept:
            steps = sorted({step for step, _ in record.diverged.values()})
            message = f"all {self.chains} chain(s) diverged, in step(s) {steps}; {self.advice()}"
            raise ChainsDiverged(message, partial)
        logger.info("%(engine)s: %(steps)d steps in %(seconds).1f s", stats)
        samples, statistics = record.samples(), record.statistics()
        return Posterior(model, samples, stats, data=pair, sample_stats=statistics, partial=partial)


class _Run:
    """A run of a sampler: its state, its record, and its checkpoint."""

    def __init__(self, sampler: ChainSampler, space: Space, z: Tensor, random: ChainRandom) -> None:
        self.sampler, self.space, self.random = sampler, space, random
        u = space.whiten(z)
        self.record = Record(space, u, sampler.draws)
        self.step, self.seconds = 0, 0.0
        with torch.no_grad():
            self.state = sampler.begin(space, u, random)
        self.checkpoint: Checkpoint | None = None

    def attach(self, checkpoint: Checkpoint) -> None:
        """Write checkpoints, and go on from one that is there."""
        self.checkpoint = checkpoint
        if (saved := checkpoint.load()) is None:
            return
        tensors, plain = saved
        device = self.space.device
        self.step, self.seconds = plain["step"], plain["seconds"]
        self.state = State(_under(tensors, "chains/", device), _under(tensors, "shared/", device))
        if METRIC_FROM in self.state.shared:
            self.space.refresh(self.state.shared[METRIC_FROM])
        self.random.restore(_under(tensors, "random/"))
        self.record.restore(_under(tensors, "record/"), plain)
        logger.info("going on from %s, step %d of %d", checkpoint.path, self.step, self.sampler.steps)

    def save(self) -> None:
        """Write a checkpoint, if there is to be one."""
        if self.checkpoint is None:
            return
        drawn, plain = self.record.state()
        tensors = {f"chains/{name}": value for name, value in self.state.chains.items()}
        tensors |= {f"shared/{name}": value for name, value in self.state.shared.items()}
        tensors |= {f"random/{name}": value for name, value in self.random.state().items()}
        tensors |= {f"record/{name}": value for name, value in drawn.items()}
        self.checkpoint.save(tensors, plain | {"step": self.step, "seconds": self.seconds})

    @torch.no_grad()
    def walk(self, progress: bool) -> None:
        """All steps that are left."""
        sampler, record = self.sampler, self.record
        bar = tqdm(
            total=sampler.steps, initial=self.step, desc=f"{sampler.chains} chain(s)", unit="step",
            disable=None if progress else True,
        )  # fmt: skip
        began, earlier, saved = time.perf_counter(), self.seconds, time.perf_counter()
        try:
            while self.step < sampler.steps and record.alive.any():
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
        step, record = self.step, self.record
        after = self.sampler.advance(self.space, self.state, self.random, step)
        record.note(finite_rows(after.position), step + 1)
        if record.diverged:  # a chain that diverged stays where it was
            after = after.only_where(record.alive, self.state)
        keep = self.sampler.keeps(step)
        if keep:
            record.write(after.position, self.sampler.statistics(after, step), step + 1)
        # No call between these: an interrupt comes before all of them or after.
        self.state, self.step, record.drawn = after, step + 1, record.drawn + keep


def _under(tensors: dict[str, Tensor], prefix: str, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    chosen = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return {name: value.to(device) for name, value in chosen.items()}


def _check_batch_size(batch_size: int | None, pair: Pair | None) -> None:
    if batch_size is None:
        return
    if pair is None:
        raise ValueError(f"a LogDensity has no data to take minibatches of: batch_size must be None, got {batch_size}.")
    if batch_size > len(pair[0]):
        raise ValueError(f"batch_size = {batch_size} is more than the {len(pair[0])} examples there are.")
