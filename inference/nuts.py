"""NUTS: Hamiltonian trajectories that stop where they turn back, by Pyro's kernel.

A trajectory of leapfrog steps in H(z, r) = U(z) + r^T M^-1 r / 2 doubles, forwards or backwards in time, until its ends
approach each other, and the next position is drawn from its points with weights exp(-H) (Hoffman & Gelman, JMLR 2014;
Betancourt, arXiv:1701.02434, appendix A). During warm-up the step size is tuned to a mean acceptance rate, and M^-1 to
the covariance of the draws. Any U and any M leave exp(-U) invariant: there is no discretisation error.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyro
import torch
from jaxtyping import Float
from pyro.infer.mcmc import NUTS as PyroNUTS
from torch import Tensor
from tqdm import tqdm

from bayes_rpp.likelihoods import Params
from inference.chain_settings import ChainSettings, chain_seeds
from inference.data import Data, Model, resolve_data, resolve_device
from inference.metric_choice import MetricName
from inference.posterior import Posterior
from inference.space import Space
from inference.target import Target
from inference.walked_model import as_given, walked_model

logger = logging.getLogger(__name__)

_LARGEST_DENSE_MASS = 2**33  # bytes


@dataclass(frozen=True, kw_only=True)
class NUTS(ChainSettings):
    """The No-U-Turn sampler: exact up to Monte Carlo error, with nothing to tune.

    Every step takes many gradients on all data: for small networks, or as the reference for other engines. Chains run
    one after another; with the identity metric, a chain does not depend on how many there are. Pyro shrinks the
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
    chains, draws, warmup, thin, temperature, parametrization : see ChainSettings.

    Examples
    --------
    >>> posterior = NUTS(chains=4, draws=1000).fit(model, data.train, seed=0)
    >>> posterior.sample_stats["diverging"].sum()
    tensor(0)
    """

    metric: MetricName | None = None
    target_accept: float = 0.8
    max_tree_depth: int = 10
    dense_mass: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.target_accept < 1:
            raise ValueError(f"target_accept must lie between 0 and 1, got {self.target_accept}.")
        if not isinstance(self.max_tree_depth, int) or self.max_tree_depth < 1:
            raise ValueError(f"max_tree_depth must be an integer of at least 1, got {self.max_tree_depth!r}.")
        if not isinstance(self.dense_mass, bool):
            raise ValueError(f"dense_mass must be True or False, got {self.dense_mass!r}.")

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

        Ctrl-C ends the run early and keeps the finished chains, or, if there are none, the draws there are of the first
        (if there are none yet, it is raised).

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
        Posterior with samples name -> (chain, draw, *shape), constrained, on the CPU; ``sample_stats`` has, for the
        step that led to each draw, lp = -U, acceptance_rate, diverging, energy = H of the draw, n_steps, step_size and
        tree_depth; ``stats`` has engine, seed, steps (of each chain), seconds, divergences (of each chain, after
        warm-up) and gradient_evaluations (of all kept chains, with warm-up).

        Raises
        ------
        ValueError, TypeError
            If the data are missing or refused, ``start`` is of another model, a chain starts where U or its gradient is
            not finite, or a dense mass matrix would be too large (the message says how many bytes it would take).
        """
        pair = resolve_data(model, data)
        walked, start = walked_model(self, model, pair, start, seed)
        target = Target(walked, pair, self.temperature, resolve_device(device))
        if self.dense_mass:
            _check_dense_mass(target)
        starts, noise = zip(*chain_seeds(seed, self.chains), strict=True)
        # One by one: a chain is to have the same bits however many there are.
        z = torch.cat([target.initial([own]) for own in starts]) if start is None else target.latest(start, self.chains)
        _check_starts(target, z)
        began = time.perf_counter()
        space = Space(target, self.metric, z, seed)
        with pyro.validation_enabled(False), torch.enable_grad():  # a value out of bounds is no error
            chains = _run(self, space, space.whiten(z), noise, progress)
        stats = {
            "engine": type(self).__name__,
            "seed": seed,
            "temperature": self.temperature,
            "steps": chains[0].steps,
            "seconds": round(time.perf_counter() - began, 3),
            "divergences": [chain.divergences for chain in chains],
            "gradient_evaluations": sum(chain.kernel.evaluations for chain in chains),
        }
        logger.info("%(engine)s: %(gradient_evaluations)d gradient evaluations in %(seconds).1f s", stats)
        if any(chain.divergences for chain in chains):
            logger.warning("%s step(s) of the chains diverged; try a higher target_accept.", stats["divergences"])
        samples = [chain.samples() for chain in chains]
        statistics = [chain.statistics() for chain in chains]
        posterior = Posterior(walked, _stack(samples), stats, data=pair, sample_stats=_stack(statistics))
        return as_given(posterior, model, seed)


class _Point(NamedTuple):
    """A point of a trajectory; nothing of the size of a position is kept."""

    potential: Float[Tensor, ""]
    weight: Float[Tensor, ""]  # log of exp(H_0 - H), with H_0 at the start
    acceptance: Float[Tensor, ""]
    diverging: Tensor


class _Kernel(PyroNUTS):  # type: ignore[misc, unused-ignore]
    """Pyro's kernel on a Space, which counts evaluations of U and remembers the points of the last trajectory."""

    def __init__(self, space: Space, settings: NUTS) -> None:
        self.space, self.evaluations, self.start_energy = space, 0, math.nan
        self.points: list[_Point] = []
        super().__init__(
            potential_fn=self._potential,
            full_mass=settings.dense_mass,
            target_accept_prob=settings.target_accept,
            max_tree_depth=settings.max_tree_depth,
        )

    def _potential(self, params: Params) -> Float[Tensor, ""]:
        self.evaluations += 1
        value = self.space.potential(params["u"])
        return value.where(value > -math.inf, math.inf)  # NaN, too, is an impossible place

    def sample(self, params: Params) -> Params:
        """One step; see Pyro."""
        self.points = []
        result: Params = super().sample(params)
        return result

    def _build_basetree(self, *args: Any) -> Any:
        self.start_energy = float(args[-1])
        tree = super()._build_basetree(*args)
        self.points.append(_Point(tree.z_proposal_pe, tree.weight, tree.sum_accept_probs, tree.diverging))
        return tree

    def statistics(self) -> dict[str, Any]:
        """Of the last step, by ArviZ's names."""
        chosen = [point for point in self.points if point.potential is self._potential_energy_last]
        return {
            "lp": -float(self._potential_energy_last),
            "acceptance_rate": float(torch.stack([point.acceptance for point in self.points]).mean()),
            "diverging": bool(self.points[-1].diverging),  # a trajectory ends where it diverges
            "energy": self.start_energy - (float(chosen[0].weight) if chosen else 0.0),
            "n_steps": len(self.points),
            "step_size": float(self.step_size),
            "tree_depth": len(self.points).bit_length(),  # the d-th doubling takes the steps from 2^(d-1) to 2^d - 1
        }


class _Chain:
    """A kernel, and what is kept of it."""

    def __init__(self, settings: NUTS, space: Space) -> None:
        self.kernel = _Kernel(space, settings)
        self.steps = self.divergences = 0
        self._space = space
        self._draws = torch.empty(settings.draws, space.size, dtype=space.dtype)
        self._rows: list[dict[str, Any]] = []

    @property
    def drawn(self) -> int:
        """How many draws there are."""
        return len(self._rows)

    def walk(self, settings: NUTS, u: Float[Tensor, " size"], bar: tqdm) -> None:
        """Warm up and draw."""
        params = self.kernel.initial_params = {"u": u.clone()}
        self.kernel.setup(settings.warmup)
        for step in range(settings.steps):
            params = self.kernel.sample(params)
            self.steps = step + 1
            self.divergences += step >= settings.warmup and bool(self.kernel.points[-1].diverging)
            if settings.keeps(step):
                self._draws[self.drawn] = params["u"].detach()
                self._rows.append(self.kernel.statistics())
            bar.set_postfix_str(f"step size {self.kernel.step_size:.1e}", refresh=False)
            bar.update()
        self.kernel.cleanup()

    @torch.no_grad()
    def samples(self) -> Params:
        """The draws there are, constrained."""
        params = self._space.params(self._draws[: self.drawn].to(self._space.device))
        return {name: value.cpu() for name, value in params.items()}

    def statistics(self) -> Params:
        """Of every draw there is."""
        types = {float: torch.float64, int: torch.int64, bool: torch.bool}
        return {
            name: torch.tensor([row[name] for row in self._rows], dtype=types[type(first)])
            for name, first in self._rows[0].items()
        }


def _run(
    settings: NUTS, space: Space, u: Float[Tensor, "chain size"], seeds: tuple[int, ...], progress: bool
) -> list[_Chain]:
    """The chains to keep, one after another."""
    finished: list[_Chain] = []
    chain = _Chain(settings, space)
    total, off = settings.chains * settings.steps, None if progress else True
    try:
        with tqdm(total=total, desc=f"{settings.chains} chain(s)", unit="step", disable=off) as bar:
            for own, seed in zip(u, seeds, strict=True):
                chain = _Chain(settings, space)
                with seeded(seed, space.device):
                    chain.walk(settings, own, bar)
                finished.append(chain)
    except KeyboardInterrupt:
        if not finished and not chain.drawn:
            raise
        kept = f"{len(finished)} finished chain(s)" if finished else f"{chain.drawn} draw(s)"
        logger.warning("interrupted in chain %d of %d; keeping %s.", len(finished) + 1, settings.chains, kept)
    return finished or [chain]


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Global random numbers from a seed, for libraries that take no Generator; afterwards they are as they were."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def _stack(chains: list[Params]) -> Params:
    return {name: torch.stack([chain[name] for chain in chains]) for name in chains[0]}


def _check_starts(target: Target, z: Float[Tensor, "chain size"]) -> None:
    for chain, own in enumerate(z):
        gradient, value = target.gradients(own[None])
        if not (value.isfinite().all() and gradient.isfinite().all()):
            what = "its gradient is not finite" if value.isfinite() else f"the log density is {-float(value)}"
            raise ValueError(
                f"chain {chain} starts where {what}; start from a mode: start=MAP().fit(model, data, seed=0)."
            )


def _check_dense_mass(target: Target) -> None:
    needed = 5 * target.size**2 * target.dtype.itemsize  # the matrix, two square roots, and the running covariance
    if needed > _LARGEST_DENSE_MASS:
        raise ValueError(
            f"a dense mass matrix of {target.size:,} parameters would take {needed:,} bytes (the limit is "
            f"{_LARGEST_DENSE_MASS:,}); use dense_mass=False."
        )
