"""One chain of Pyro's No-U-Turn sampler, with the statistics of every step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from pyro.infer.mcmc import NUTS as PyroNUTS
from torch import Tensor

from bayes_rpp.types import Params
from inference.metrics.preconditioned import PreconditionedDensity
from inference.progress import ProgressBar
from inference.sampling.nuts.settings import NUTSSettings


class Point(NamedTuple):
    """A point of a trajectory, without its position, to save memory."""

    potential: Float[Tensor, ""]
    weight: Float[Tensor, ""]  # log of exp(H_0 - H), with H_0 at the start
    acceptance: Float[Tensor, ""]
    diverging: Tensor


class Kernel(PyroNUTS):  # type: ignore[misc, unused-ignore]
    """Pyro's kernel; it counts evaluations of U and keeps the points of the last trajectory."""

    def __init__(self, preconditioned: PreconditionedDensity, settings: NUTSSettings) -> None:
        self.preconditioned, self.evaluations, self.start_energy = preconditioned, 0, math.nan
        self.points: list[Point] = []
        super().__init__(
            potential_fn=self._potential,
            full_mass=settings.dense_mass,
            target_accept_prob=settings.target_accept,
            max_tree_depth=settings.max_tree_depth,
        )

    def _potential(self, params: Params) -> Float[Tensor, ""]:
        self.evaluations += 1
        value = self.preconditioned.potential(params["u"])
        value = value.to(self.preconditioned.dtype)  # Pyro's mass matrix takes its type from it
        return value.where(value > -math.inf, math.inf)  # where it is NaN, too, the density is zero

    def sample(self, params: Params) -> Params:
        """One step; see Pyro."""
        self.points = []
        result: Params = super().sample(params)
        return result

    def _build_basetree(self, *args: Any) -> Any:
        self.start_energy = float(args[-1])
        tree = super()._build_basetree(*args)
        self.points.append(Point(tree.z_proposal_pe, tree.weight, tree.sum_accept_probs, tree.diverging))
        return tree

    def statistics(self) -> dict[str, Any]:
        """The statistics of the last step, by ArviZ's names."""
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


@dataclass
class ChainResult:
    """The draws of a chain so far."""

    u: Float[Tensor, "draw size"]  # the draws, in preconditioned coordinates
    statistics: dict[str, Tensor]  # of every draw, by ArviZ's names
    steps: int  # with the warm-up
    divergences: int  # after the warm-up
    evaluations: int  # of U and its gradient
    error: Exception | None = None  # that ended the chain


class Chain:
    """A kernel, and its draws."""

    def __init__(self, preconditioned: PreconditionedDensity, settings: NUTSSettings) -> None:
        self.kernel, self.settings = Kernel(preconditioned, settings), settings
        self.steps = self.divergences = 0
        self._draws = torch.empty(settings.draws, preconditioned.size, dtype=preconditioned.dtype)
        self._rows: list[dict[str, Any]] = []

    @property
    def drawn(self) -> int:
        """The number of draws so far."""
        return len(self._rows)

    def sample(self, u: Float[Tensor, " size"], bar: ProgressBar) -> None:
        """Warm up and draw."""
        settings = self.settings
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

    def result(self) -> ChainResult:
        """The draws so far."""
        types = {float: torch.float64, int: torch.int64, bool: torch.bool}
        statistics = {
            name: torch.tensor([row[name] for row in self._rows], dtype=types[type(first)])
            for name, first in (self._rows[0].items() if self._rows else ())
        }
        return ChainResult(self._draws[: self.drawn], statistics, self.steps, self.divergences, self.kernel.evaluations)
