"""Variational inference with any Pyro guide.

A guide is a family of distributions q_phi(theta), and phi maximises a Monte Carlo estimate of the evidence lower bound

    ELBO(phi) = E_q [log p(y, theta | x) - log q_phi(theta)] = log p(y | x) - KL(q_phi || posterior)

by Adam (Hoffman, Blei, Wang & Paisley, JMLR 2013; Kucukelbir et al., JMLR 2017; Bingham et al., JMLR 2019). The draws
are draws of q_phi: an approximation of the posterior, unless the posterior is in the family.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import init_to_value

from bayes_rpp.seeding import plain_seed, seeded
from bayes_rpp.types import Params
from bayes_rpp.validation import without_validation
from inference.data import Data, Model, resolve_data, resolve_device
from inference.engine_fit import engine_fit
from inference.posterior.posterior import Posterior
from inference.progress import ProgressBar
from inference.settings import require_integers, require_positive
from inference.variational.pyro_program import Program, PyroProgram

logger = logging.getLogger(__name__)

_HISTORY = 100  # numbers


@dataclass(frozen=True, repr=False)
class PyroGuide:
    """Variational inference with a Pyro guide: AutoNormal, a normalising flow, one written by hand.

    An automatic guide starts at ``model.initial_params(seed)``, unless it is given an ``init_loc_fn``: many of Pyro's
    own start at zero, where a network's gradients vanish. AutoLaplaceApproximation becomes the Gaussian at its mode.

    Parameters
    ----------
    guide : makes a new guide for the model's Pyro program, which takes (x, y), or nothing for a LogDensity: a class of
        ``pyro.infer.autoguide``, a functools.partial of one with its options, or a function of the program that
        returns a guide, itself a function of the same arguments with one sample site for each parameter, constrained.
    steps : of Adam.
    lr : the first learning rate; it goes down to zero along half a cosine.
    particles : draws of q in each step's estimate of the ELBO.
    draws : of the fitted guide.

    Examples
    --------
    >>> PyroGuide(AutoNormal, steps=2000).fit(model, data.train, seed=0)
    >>> PyroGuide(functools.partial(AutoLowRankMultivariateNormal, rank=10)).fit(model, data.train, seed=0)
    """

    guide: Callable[..., Program]
    steps: int = 2000
    lr: float = 1e-2
    particles: int = 1
    draws: int = 1000

    def __post_init__(self) -> None:
        if not callable(self.guide):
            raise TypeError(f"guide must be a class or function that makes a guide for a model, got {self.guide!r}.")
        require_integers(self, steps=1, particles=1, draws=1)
        require_positive("lr", self.lr)

    def __repr__(self) -> str:
        guide: Any = self.guide
        options = ""
        if isinstance(guide, functools.partial):
            options, guide = "".join(f", {name}={value!r}" for name, value in guide.keywords.items()), guide.func
        name = getattr(guide, "__name__", type(guide).__name__)
        settings = f"steps={self.steps}, lr={self.lr}, particles={self.particles}, draws={self.draws}"
        return f"PyroGuide({f'partial({name}{options})' if options else name}, {settings})"

    @engine_fit
    def fit(
        self, model: Model, data: Data, *, seed: int, device: str | torch.device = "auto", progress: bool = True
    ) -> Posterior:
        """Fit the guide, and draw from it. Pyro's parameter store is left as it is.

        Ctrl-C ends the optimisation early, and draws from the guide as it is (before the first step it is raised).

        Parameters
        ----------
        model, data, seed, device, progress : see DeepEnsemble.fit.

        Returns
        -------
        Posterior of one chain, with samples name -> (1, draws, *shape), constrained, on the CPU; ``stats`` has engine,
        guide, seed, steps, seconds, elbo (in nats; the mean over the draws), and elbo_history: estimates of at most 100
        steps, evenly spread.

        Raises
        ------
        ValueError, TypeError
            If the data are missing or refused, or the guide's sites are not the model's parameters.
        RuntimeError
            If the ELBO or a draw is not finite (the message names the step), or a Laplace approximation is taken where
            there is no mode.
        """
        seed, pair = plain_seed(seed), resolve_data(model, data)
        where = resolve_device(device)
        began = time.perf_counter()
        program = PyroProgram(model, pair, where)
        with (
            without_validation(),  # what is not finite is found and reported here
            pyro.get_param_store().scope(),
            torch.enable_grad(),
            _default_dtype(program.dtype),
            warnings.catch_warnings(),
            seeded(seed, where),
        ):
            warnings.filterwarnings("ignore", "Encountered NaN", UserWarning)  # it becomes an error
            initial = {name: value.to(where) for name, value in model.initial_params(seed).items()}
            guide: Any = self._make_guide(program, initial)
            program.check(guide)
            history = self._optimize(program, guide, progress)
            if hasattr(guide, "laplace_approximation"):
                try:
                    guide = guide.laplace_approximation(*program.arguments)
                except torch.linalg.LinAlgError as error:
                    raise RuntimeError(
                        f"after {self.steps} steps the guide is at no mode, where the curvature is positive; take more "
                        "steps."
                    ) from error
            samples, elbo = program.draw(guide, self.draws)
        if not all(value.isfinite().all() for value in (elbo, *samples.values())):
            raise RuntimeError(self._diverged(len(history)))
        stats = {
            "engine": type(self).__name__,
            "guide": getattr(guide, "__name__", type(guide).__name__),
            "seed": seed,
            "steps": len(history),
            "seconds": round(time.perf_counter() - began, 3),
            "elbo": float(elbo.mean()),
            "elbo_history": history[:: math.ceil(len(history) / _HISTORY)],
            **({"interrupted": True} if len(history) < self.steps else {}),
        }
        logger.info("%(engine)s: %(steps)d steps of %(guide)s in %(seconds).1f s, ELBO %(elbo).1f", stats)
        return Posterior(model, samples, stats, data=pair)

    def _make_guide(self, program: Program, initial: Params) -> Program:
        option = inspect.signature(self.guide).parameters.get("init_loc_fn")
        given = isinstance(self.guide, functools.partial) and "init_loc_fn" in self.guide.keywords
        start = {"init_loc_fn": init_to_value(values=initial)} if option and callable(option.default) else {}
        guide = self.guide(program, **({} if given else start))
        if not callable(guide):
            raise TypeError(f"guide must return a guide, a function of {program!r}'s arguments, got {guide!r}.")
        return guide

    def _optimize(self, program: PyroProgram, guide: Program, progress: bool) -> list[float]:
        """The ELBO before each step."""
        options = {"optimizer": torch.optim.Adam, "optim_args": {"lr": self.lr}, "T_max": self.steps}
        optimizer = pyro.optim.CosineAnnealingLR(options)
        svi = SVI(program, guide, optimizer, Trace_ELBO(num_particles=self.particles))
        history: list[float] = []
        try:
            with ProgressBar(range(self.steps), desc="fitting a guide", unit="step", progress=progress) as bar:
                for _ in bar:
                    history.append(-float(svi.step(*program.arguments)))
                    if not math.isfinite(history[-1]):
                        raise RuntimeError(self._diverged(len(history)))
                    optimizer.step()
                    bar.set_postfix_str(f"ELBO {history[-1]:.1f}", refresh=False)
        except KeyboardInterrupt:
            if not history:
                raise
            logger.warning("interrupted in step %d of %d; drawing from the guide.", len(history) + 1, self.steps)
        return history

    def _diverged(self, step: int) -> str:
        return (
            f"the guide diverged in step {step} of {self.steps}: its ELBO or a draw is not finite; try a smaller lr "
            f"than {self.lr}, or more particles than {self.particles}."
        )


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Pyro's flows and structured guides make their parameters in the default type, whatever the model's is."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
