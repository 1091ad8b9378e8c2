"""Settings and the one loop of all samplers that walk along stochastic gradients."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from bayes_rpp.likelihoods import Params
from inference.chain_random import ChainRandom
from inference.chain_settings import ChainSettings, chain_seeds, require_positive
from inference.data import Data, Model, Pair, resolve_data, resolve_device
from inference.posterior import Posterior
from inference.target import Target

logger = logging.getLogger(__name__)

State = tuple[Tensor, ...]  # the positions (chain, size), and whatever else a sampler carries along


@dataclass(frozen=True)
class StochasticGradientSampler(ChainSettings, ABC):
    """A sampler whose step takes one (minibatch) gradient of U and one standard normal vector a chain.

    Parameters
    ----------
    step_size : of the update.
    batch_size : examples a step, whose log likelihood counts N / batch_size times; None takes all. Each chain goes
        through the data in its own random order, and shuffles when fewer than a batch are left.
    chains, draws, warmup, thin, temperature : see ChainSettings.
    """

    step_size: float
    batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("step_size", self.step_size)
        if self.batch_size is not None and (not isinstance(self.batch_size, int) or self.batch_size < 1):
            raise ValueError(f"batch_size must be a positive integer or None, got {self.batch_size!r}.")

    @abstractmethod
    def initial_state(self, z: Float[Tensor, "chain size"], noise: Float[Tensor, "chain size"]) -> State:
        """The state at the start, positions first."""

    @abstractmethod
    def advance(
        self, state: State, gradient: Float[Tensor, "chain size"], noise: Float[Tensor, "chain size"], step: int
    ) -> State:
        """The state after a step (counted from 0); the gradient is that of U at the state's positions."""

    def fit(
        self,
        model: Model,
        data: Data,
        *,
        seed: int,
        device: str | torch.device = "auto",
        progress: bool = True,
        start: Posterior | None = None,
    ) -> Posterior:
        """Run the chains, and return their draws.

        A chain that stops being finite is reported with its step and left out; the others go on. Ctrl-C ends the run
        early and keeps the draws there are (if there are none yet, it is raised).

        Parameters
        ----------
        model : a BayesianModel, or a LogDensity with data=None.
        data : (x, y) as tensors or arrays, or a Dataset of such pairs.
        seed : chains take seeds derived from it; the same seed gives the same bits.
        device : "auto" takes an accelerator if there is one.
        progress : whether to show a progress bar, in a terminal.
        start : where to start: the last draw of each of its chains, then the draws before, one a chain, and around
            again where there are too few. None takes the model's initial states.

        Returns
        -------
        Posterior with samples name -> (chain, draw, *shape), constrained, on the CPU; ``stats`` has engine, seed,
        steps, step_size, seconds, and diverged: chain -> the step in which it diverged.

        Raises
        ------
        ValueError, TypeError
            If the data are missing or refused, batch_size is more than N, or ``start`` is of another model.
        RuntimeError
            If every chain diverged.
        """
        pair = resolve_data(model, data)
        _check_batch_size(self.batch_size, pair)
        target = Target(model, pair, self.temperature, resolve_device(device))
        start_seeds, noise_seeds = zip(*chain_seeds(seed, self.chains), strict=True)
        z = target.initial(list(start_seeds)) if start is None else target.latest(start, self.chains)
        record = _Record(target, z, self.draws)
        began = time.perf_counter()
        _run(self, target, z, ChainRandom(target, list(noise_seeds), self.batch_size), record, progress)
        samples = record.samples()
        if not record.kept:
            raise RuntimeError(
                f"all {self.chains} chain(s) diverged, in step(s) {sorted(set(record.diverged.values()))}; "
                f"try a smaller step_size than {self.step_size}, or start from a MAP: start=MAP().fit(...)."
            )
        stats = {
            "engine": type(self).__name__,
            "seed": seed,
            "steps": record.steps,
            "step_size": self.step_size,
            "seconds": round(time.perf_counter() - began, 3),
            "diverged": {str(chain): step for chain, step in record.diverged.items()},
        }
        logger.info("%(engine)s: %(steps)d steps in %(seconds).1f s", stats)
        return Posterior(model=model, samples=samples, stats=stats, data=pair)


@dataclass
class _Record:
    """The draws, in memory that is taken once, and what became of each chain."""

    target: Target
    start: Tensor
    draws: int
    drawn: int = 0
    steps: int = 0
    diverged: dict[int, int] = field(default_factory=dict)  # chain -> the step in which it stopped being finite

    def __post_init__(self) -> None:
        self.alive = torch.ones(len(self.start), dtype=torch.bool, device=self.start.device)
        self.values = {
            name: value.new_empty((len(value), self.draws, *value.shape[1:]), device="cpu")
            for name, value in self.target.params(self.start).items()
        }

    @property
    def kept(self) -> list[int]:
        """The chains that did not diverge."""
        return [chain for chain in range(len(self.start)) if chain not in self.diverged]

    def add(self, z: Tensor) -> None:
        """Keep the positions of all chains as their next draw."""
        for name, value in self.target.params(z).items():
            self.values[name][:, self.drawn] = value
        self.drawn += 1

    def note(self, finite: Tensor) -> None:
        """Report chains that stopped being finite in this step."""
        for chain in (self.alive & ~finite).nonzero().flatten().tolist():
            self.diverged[chain] = self.steps
            others = "; the others go on" if len(finite) > 1 else ""
            logger.warning("chain %d diverged in step %d: it is not finite any more%s.", chain, self.steps, others)
        self.alive &= finite

    def samples(self) -> Params:
        """The draws there are, of the chains that did not diverge."""
        drawn = {name: value[:, : self.drawn] for name, value in self.values.items()}
        self.note(_finite_rows(*drawn.values()).to(self.alive.device))
        if self.drawn == self.draws and not self.diverged:
            return self.values
        return {name: value[self.kept].contiguous() for name, value in drawn.items()}


@torch.no_grad()
def _run(
    sampler: StochasticGradientSampler, target: Target, z: Tensor, random: ChainRandom, record: _Record, progress: bool
) -> None:
    """Walk, and fill the record."""
    state = sampler.initial_state(z, random.noise().clone())
    off = None if progress else True
    try:
        for step in tqdm(range(sampler.steps), desc=f"{len(z)} chain(s)", unit="step", disable=off):
            gradient, potential = target.gradients(state[0], random.batch())
            after = sampler.advance(state, gradient, random.noise(), step)
            record.steps = step + 1
            finite = _finite_rows(potential, *after)
            if not finite.all():
                record.note(finite)
                if not record.alive.any():
                    break
            if record.diverged:  # a chain that diverged stays where it was
                after = tuple(
                    torch.where(record.alive[:, None], new, old) for new, old in zip(after, state, strict=True)
                )
            state = after
            if sampler.keeps(step):
                record.add(state[0])
    except KeyboardInterrupt:
        if not record.drawn:
            raise
        logger.warning("interrupted in step %d of %d; keeping %d draw(s).", record.steps, sampler.steps, record.drawn)


def _finite_rows(*values: Tensor) -> Tensor:
    """Whether all is finite, for each index of the first dimension."""
    return torch.stack([value.reshape(len(value), value[0].numel()).isfinite().all(1) for value in values]).all(0)


def _check_batch_size(batch_size: int | None, pair: Pair | None) -> None:
    if batch_size is None:
        return
    if pair is None:
        raise ValueError(f"a LogDensity has no data to take minibatches of: batch_size must be None, got {batch_size}.")
    if batch_size > len(pair[0]):
        raise ValueError(f"batch_size = {batch_size} is more than the {len(pair[0])} examples there are.")
