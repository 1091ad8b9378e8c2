"""NUTS: Hamiltonian trajectories that stop where they turn back, by Pyro's kernel.

A trajectory of leapfrog steps in H(z, r) = U(z) + r^T M^-1 r / 2 doubles, forwards or backwards in time, until its ends
approach each other, and the next position is drawn from its points with weights exp(-H) (Hoffman & Gelman, JMLR 2014;
Betancourt, arXiv:1701.02434, appendix A). During warm-up the step size is tuned to a mean acceptance rate, and M^-1 to
the covariance of the draws. Any U and any M leave exp(-U) invariant: the discretisation causes no error.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.seeding import plain_seed
from bayes_rpp.validation import without_validation
from inference.checkpoint import Checkpoint
from inference.data import Data, Model, Pair, resolve_data, resolve_device
from inference.density.noncentred import sampling_density
from inference.density.unconstrained import UnconstrainedDensity
from inference.engine_fit import engine_fit
from inference.metrics.preconditioned import PreconditionedDensity
from inference.posterior.posterior import Posterior
from inference.sampling.chain_sampler import ChainsDiverged
from inference.sampling.choose_parametrization import choose_parametrization, in_given_parametrization
from inference.sampling.initialization import advise_start, check_starts, initialize_chains
from inference.sampling.nuts.chains import sample_sequentially
from inference.sampling.nuts.kernel import ChainResult
from inference.sampling.nuts.settings import NUTSSettings
from inference.sampling.run_identity import run_identity
from inference.settings import chain_seeds

logger = logging.getLogger(__name__)

_LARGEST_DENSE_MASS = 2**33  # bytes
_SHORTEST_WARMUP = 50


@dataclass(frozen=True, kw_only=True)
class NUTS(NUTSSettings):
    """The No-U-Turn sampler: exact up to Monte Carlo error, with nothing to tune.

    Every step takes many gradients on all data: for small networks, or as the reference for other engines. Chains run
    one after another; with the identity metric, a chain does not depend on the number of chains. Pyro shrinks the
    variances that it adapts to towards 1e-3, with the weight of five draws: directions with far smaller variances are
    slow, unless a metric scales them.

    Parameters
    ----------
    target_accept : the mean acceptance rate that warm-up tunes the step size to; nearer 1 takes smaller steps, against
        divergences.
    max_tree_depth : a trajectory has fewer than 2^max_tree_depth steps.
    dense_mass : adapt M^-1 to the whole covariance of the draws, not only to their variances; it has as many entries as
        the parameters squared.
    metric : as for HMC; M^-1 is adapted on top of it.
    chains, draws, warmup, thin, temperature, parametrization, centred : see ChainSettings.

    Examples
    --------
    >>> posterior = NUTS(chains=4, draws=1000).fit(model, data.train, seed=0)
    >>> posterior.sample_stats["diverging"].sum()
    tensor(0)
    """

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

        A chain that fails with an error is reported with its step; the draws it had are in ``partial``, and the others
        go on. Ctrl-C ends the run early and keeps the finished chains, or, if none is finished, the draws so far of the
        chain that was interrupted (without any draws, it is raised).

        Parameters
        ----------
        model, data, seed, device, progress, start : see HMC.fit.
        checkpoint : a file that every finished chain is written to. If it exists, they are not sampled again, and the
            run ends with the same bits as one without a break.

        Returns
        -------
        Posterior with samples name -> (chain, draw, *shape), constrained, on the CPU; ``sample_stats`` has, for the
        step that led to each draw, lp = -U, acceptance_rate, diverging, energy = H of the draw, n_steps, step_size and
        tree_depth; ``stats`` has engine, seed, steps (of each chain), seconds, divergences (of each chain, after
        warm-up) and gradient_evaluations (of all kept chains, with warm-up).

        Raises
        ------
        ValueError, TypeError
            If the data are missing or refused, ``start`` is of another model, the checkpoint of another run, a chain
            starts where U or its gradient is not finite, or a dense mass matrix would be too large (the message says
            how many bytes it would take).
        ChainsDiverged
            If every chain failed, or every one before an interrupt, and some had draws; a RuntimeError.
        """
        if self.warmup < _SHORTEST_WARMUP:
            logger.warning(
                "a warmup of %d steps is too short to adapt the step size and the mass matrix: the draws may "
                "not be those of the posterior. Take %d steps or more.",
                self.warmup, _SHORTEST_WARMUP,
            )  # fmt: skip
        seed, pair = plain_seed(seed), resolve_data(model, data)
        if start is None:
            advise_start(model, self.chains)
        sampled_model, start = choose_parametrization(self, model, pair, start, seed, resolve_device(device))
        density = sampling_density(sampled_model, pair, self.temperature, resolve_device(device), centred=self.centred)
        if self.dense_mass:
            _check_dense_mass(density)
        starts, noise = zip(*chain_seeds(seed, self.chains), strict=True)
        # One by one: a chain has the same bits whatever the number of chains.
        z = (
            torch.cat([density.initial([own]) for own in starts])
            if start is None
            else density.latest(start, self.chains)
        )
        _check_starts(density, z)
        began = time.perf_counter()
        saved = None if checkpoint is None else Checkpoint(checkpoint, run_identity(self, density, z, pair, seed))
        preconditioned = PreconditionedDensity(density, self.metric, z, seed)
        if self.warmup and self.metric is None and not preconditioned.from_curvature:
            z, _ = initialize_chains(preconditioned, z)
        with without_validation(), torch.enable_grad():  # a value out of bounds is no error
            chains, failed = sample_sequentially(self, preconditioned, preconditioned.whiten(z), noise, saved, progress)
        stats = {
            "engine": type(self).__name__,
            "seed": seed,
            "temperature": self.temperature,
            "steps": self.steps if not chains else chains[0].steps,
            "diverged": {str(number): chain.steps + 1 for number, chain in failed.items()},
            "seconds": round(time.perf_counter() - began, 3),
            "divergences": [chain.divergences for chain in chains],
            "gradient_evaluations": sum(chain.evaluations for chain in chains),
            **({"interrupted": True} if _interrupted(self, chains, failed) else {}),
        }
        logger.info("%(engine)s: %(gradient_evaluations)d gradient evaluations in %(seconds).1f s", stats)
        if any(chain.divergences for chain in chains):
            logger.warning("%s step(s) of the chains diverged; try a higher target_accept.", stats["divergences"])
        partial = []
        for number, chain in failed.items():
            if len(chain.u):
                own = stats | {"chain": number, "diverged": chain.steps + 1}
                partial.append(_posterior(sampled_model, preconditioned, [chain], own, pair))
        if not chains:
            what = "all" if len(failed) == self.chains else "interrupted; before that, all"
            message = f"{what} {len(failed)} chain(s) failed; the first error is the cause of this one."
            raise ChainsDiverged(
                message, [in_given_parametrization(part, model, seed) for part in partial]
            ) from failed[0].error
        posterior = _posterior(sampled_model, preconditioned, chains, stats, pair)
        posterior.partial = partial
        return in_given_parametrization(posterior, model, seed)


def _interrupted(settings: NUTSSettings, chains: list[ChainResult], failed: dict[int, ChainResult]) -> bool:
    """Whether chains are missing or one has not taken all of its steps, without having failed."""
    return len(chains) + len(failed) < settings.chains or any(chain.steps < settings.steps for chain in chains)


def _posterior(
    model: Model,
    preconditioned: PreconditionedDensity,
    chains: list[ChainResult],
    stats: dict[str, Any],
    pair: Pair | None,
) -> Posterior:
    with torch.no_grad():
        u = torch.stack([chain.u for chain in chains]).to(preconditioned.device)
        samples = {name: value.cpu() for name, value in preconditioned.params(u).items()}
    names = chains[0].statistics
    statistics = {name: torch.stack([chain.statistics[name] for chain in chains]) for name in names}
    return Posterior(model, samples, stats, data=pair, sample_stats=statistics)


def _check_starts(density: UnconstrainedDensity, z: Float[Tensor, "chain size"]) -> None:
    for chain, own in enumerate(z):  # one by one, as they are sampled
        check_starts(*density.gradients(own[None]), first=chain)


def _check_dense_mass(density: UnconstrainedDensity) -> None:
    needed = 5 * density.size**2 * density.dtype.itemsize  # the matrix, two square roots, and the running covariance
    if needed > _LARGEST_DENSE_MASS:
        raise ValueError(
            f"a dense mass matrix of {density.size:,} parameters would take {needed:,} bytes (the limit is "
            f"{_LARGEST_DENSE_MASS:,}); use dense_mass=False."
        )
