"""The fit of all samplers whose chains run side by side."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bayes_rpp.seeding import plain_seed
from inference.checkpoint import Checkpoint
from inference.data import Data, Model, Pair, resolve_data, resolve_device
from inference.density.noncentred import sampling_density
from inference.density.unconstrained import UnconstrainedDensity
from inference.engine_fit import engine_fit
from inference.metrics.preconditioned import PreconditionedDensity
from inference.posterior.posterior import Posterior
from inference.sampling.choose_parametrization import choose_parametrization, in_given_parametrization
from inference.sampling.initialization import advise_start
from inference.sampling.kernel import Kernel, S
from inference.sampling.random_streams import ChainRandom
from inference.sampling.run import Run
from inference.sampling.run_identity import run_identity
from inference.settings import chain_seeds

logger = logging.getLogger(__name__)


class ChainsDiverged(RuntimeError):
    """No chain of a run stayed finite; ``partial`` holds the draws that they had before."""

    def __init__(self, message: str, partial: list[Posterior]) -> None:
        super().__init__(message)
        self.partial = partial


@dataclass(frozen=True)
class ChainSampler(Kernel[S]):
    """A sampler that moves all of its chains with one call."""

    @engine_fit
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
        go on. Ctrl-C ends the run early and keeps the draws so far (without any draws, it is raised).

        Parameters
        ----------
        model : a BayesianModel, or a LogDensity with data=None.
        data : (x, y) as tensors or arrays, or a Dataset of such pairs.
        seed : chains take seeds derived from it; the same seed gives the same bits.
        device : "auto" takes an accelerator if there is one.
        progress : whether to show a progress bar, in a terminal.
        start : a posterior to start from: the last draw of each of its chains, then the draws before, one a chain, and
            again from the first where there are too few. None takes the model's initial states, from which the chains
            of a network have a long way to go: from 100 parameters on, a warning says so.
        checkpoint : a file that the run's state is written to every minute, on Ctrl-C and at the end. If it exists, the
            run goes on from there, and ends with the same bits as one without a break.

        Returns
        -------
        Posterior with samples name -> (chain, draw, *shape), constrained, on the CPU; ``stats`` has engine, seed,
        temperature, steps, seconds (of all runs, if there were breaks), and diverged: chain -> the step in which it
        diverged.

        Raises
        ------
        ValueError, TypeError
            If the data are missing or refused, a minibatch is more than N, ``start`` is of another model, or the
            checkpoint of another run.
        ChainsDiverged
            If every chain diverged; a RuntimeError.
        """
        seed, pair = plain_seed(seed), resolve_data(model, data)
        _check_batch_size(self.minibatch, pair)
        if start is None:
            advise_start(model, self.chains)
        sampled_model, start = choose_parametrization(self, model, pair, start, seed, resolve_device(device))
        density = sampling_density(sampled_model, pair, self.temperature, resolve_device(device), centred=self.centred)
        start_seeds, noise_seeds = zip(*chain_seeds(seed, self.chains), strict=True)
        z = density.initial(list(start_seeds)) if start is None else density.latest(start, self.chains)
        preconditioned = PreconditionedDensity(density, self.metric, z, seed)
        run = Run(self, preconditioned, z, ChainRandom(density, list(noise_seeds), self.minibatch))
        if checkpoint is not None:
            run.attach(Checkpoint(checkpoint, run_identity(self, density, z, pair, seed)))
        example = None if pair is None or self.minibatch is None else _example(density, self.chains, self.minibatch)
        try:
            density.prepare(self.compile, self.steps * self.gradients_per_step, z, example)
            run.sample(progress)
        except KeyboardInterrupt:
            if not run.trace.drawn:
                raise
            logger.warning("interrupted in step %d of %d; keeping %d draw(s).", run.step, self.steps, run.trace.drawn)
        return self._as_posterior(sampled_model, model, pair, seed, run)

    def _as_posterior(self, model: Model, given: Model, pair: Pair | None, seed: int, run: Run) -> Posterior:
        trace = run.trace
        stats: dict[str, Any] = {
            "engine": type(self).__name__,
            "seed": seed,
            "temperature": self.temperature,
            "steps": run.step,
            "seconds": round(run.seconds, 3),
            "diverged": {str(chain): step for chain, (step, _) in trace.diverged.items()},
            **self.summary(run.state),
            **({"interrupted": True} if run.step < self.steps and trace.alive.any() else {}),
        }
        partial = [
            Posterior(
                model,
                samples,
                stats | {"chain": chain, "diverged": trace.diverged[chain][0]},
                data=pair,
                sample_stats=statistics,
            )
            for chain, (samples, statistics) in trace.partial().items()
        ]
        if not trace.kept:
            steps = sorted({step for step, _ in trace.diverged.values()})
            message = f"all {self.chains} chain(s) diverged, in step(s) {steps}; {self.advice()}"
            raise ChainsDiverged(message, [in_given_parametrization(part, given, seed) for part in partial])
        logger.info("%(engine)s: %(steps)d steps in %(seconds).1f s", stats)
        samples, statistics = trace.samples(), trace.statistics()
        posterior = Posterior(model, samples, stats, data=pair, sample_stats=statistics, partial=partial)
        return in_given_parametrization(posterior, given, seed)


def _example(density: UnconstrainedDensity, chains: int, count: int) -> Pair:
    """A minibatch for each chain, of the first examples."""
    assert density.pair is not None
    x, y = (part[:count].expand(chains, count, *part.shape[1:]) for part in density.pair)
    return x, y


def _check_batch_size(batch_size: int | None, pair: Pair | None) -> None:
    if batch_size is None:
        return
    if pair is None:
        raise ValueError(f"a LogDensity has no data to take minibatches of: batch_size must be None, got {batch_size}.")
    if batch_size > len(pair[0]):
        raise ValueError(f"batch_size = {batch_size} is more than the {len(pair[0])} examples there are.")
