"""The chains of NUTS one after another: interrupts, chains that fail, and checkpoints."""

from __future__ import annotations

import dataclasses
import logging
from typing import TypedDict

from jaxtyping import Float
from torch import Tensor

from bayes_rpp.seeding import seeded
from inference.checkpoint import Checkpoint
from inference.metrics.preconditioned import PreconditionedDensity
from inference.progress import ProgressBar
from inference.sampling.nuts.kernel import Chain, ChainResult
from inference.sampling.nuts.settings import NUTSSettings

logger = logging.getLogger(__name__)


class _Counts(TypedDict):
    """What a checkpoint holds of a chain beside tensors."""

    steps: int
    divergences: int
    evaluations: int


class _Plain(TypedDict):
    chains: dict[str, _Counts]


def sample_sequentially(
    settings: NUTSSettings,
    preconditioned: PreconditionedDensity,
    u: Float[Tensor, "chain size"],
    seeds: tuple[int, ...],
    checkpoint: Checkpoint | None,
    progress: bool,
) -> tuple[list[ChainResult], dict[int, ChainResult]]:
    """The chains to keep, sampled one after another, and those that failed, by their numbers; finished chains of the
    checkpoint are not sampled again. After an interrupt with nothing to keep but draws of chains that failed, only
    these.
    """
    finished = {} if checkpoint is None else _saved(checkpoint)
    failed: dict[int, ChainResult] = {}
    chain = Chain(preconditioned, settings)
    try:
        with ProgressBar(
            total=settings.chains * settings.steps, initial=len(finished) * settings.steps,
            desc=f"{settings.chains} chain(s)", unit="step", progress=progress,
        ) as bar:  # fmt: skip
            for number, (own, seed) in enumerate(zip(u, seeds, strict=True)):
                if number in finished:
                    continue
                chain = Chain(preconditioned, settings)
                try:
                    with seeded(seed, preconditioned.device):
                        chain.sample(own, bar)
                except Exception as error:  # the other chains are worth keeping, whatever it is
                    logger.warning("chain %d failed in step %d: %r.", number, chain.steps + 1, error)
                    failed[number] = dataclasses.replace(chain.result(), error=error)
                    continue
                finished[number] = chain.result()
                if checkpoint is not None:
                    _save(checkpoint, finished)
    except KeyboardInterrupt:
        drawn = chain.drawn or sum(len(other.u) for other in failed.values())
        if not finished and not drawn:
            raise
        kept = f"{len(finished)} finished chain(s)" if finished else f"{drawn} draw(s)"
        at = len(finished) + len(failed) + 1
        logger.warning("interrupted in chain %d of %d; keeping %s.", at, settings.chains, kept)
        if not finished and chain.drawn:
            return [chain.result()], failed
    return [finished[number] for number in sorted(finished)], failed


def _save(checkpoint: Checkpoint, finished: dict[int, ChainResult]) -> None:
    tensors, plain = {}, {}
    for number, chain in finished.items():
        tensors[f"{number}/u"] = chain.u
        tensors |= {f"{number}/statistics/{name}": value for name, value in chain.statistics.items()}
        plain[str(number)] = {
            "steps": chain.steps, "divergences": chain.divergences, "evaluations": chain.evaluations,
        }  # fmt: skip
    checkpoint.save(tensors, {"chains": plain})


def _saved(checkpoint: Checkpoint) -> dict[int, ChainResult]:
    if (found := checkpoint.load(_Plain)) is None:
        return {}
    tensors, plain = found
    finished = {}
    for number, counts in plain["chains"].items():
        prefix = f"{number}/statistics/"
        statistics = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        finished[int(number)] = ChainResult(tensors[f"{number}/u"], statistics, **counts)
    logger.info("going on from %s, with %d finished chain(s)", checkpoint.path, len(finished))
    return finished
