r"""Training of one model under many prior variances at once: the fits of all cells of a sweep are one stack.

    z_cm minimises -log p(y, z | x, v_c) / N    for every member m of every cell c, with variances v_c

All cells start from the same weights and see the same minibatches, so that they differ by their variances alone; the
members of a cell differ by these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.evidence import EvidenceMethod
from bayes_rpp import BayesianModel
from bayes_rpp.known_variances import has_learned_noise, model_at
from bayes_rpp.likelihoods import NOISE
from bayes_rpp.priors.hyperpriors import exact_hyperprior
from bayes_rpp.seeding import seeded_generator
from bayes_rpp.types import Params
from inference import MAP, DeepEnsemble, Posterior
from inference.curvature.names import EvidenceCurvature
from inference.data import Pair
from inference.density.unconstrained import UnconstrainedDensity, float64_density
from inference.laplace.expansion import Expansion
from inference.memory import HeldMemory
from inference.training.loop import train
from inference.training.minibatches import Minibatches, member_seeds
from inference.training.objectives import initial_params, no_wider_than_prior
from inference.training.parameter_stack import ParameterStack, varied_stack

Criterion: TypeAlias = EvidenceMethod | Callable[[Posterior], float]

_BYTES_AT_ONCE = 2**31  # of weights, Adam's moments, and what a gradient holds at its peak
_COPIES = 6  # of the weights
_NOISE_UPDATES = (0.5, 0.6, 0.7, 0.8, 0.9)  # after these shares of the epochs
_REACH = math.log(100.0)  # of one update of the noise, either way


@dataclass(frozen=True)
class Problem:
    """What all cells of a sweep share."""

    model: BayesianModel  # with the settings that are not swept
    pair: Pair
    mode: MAP | DeepEnsemble
    seed: int  # of the starts, the minibatches and the random vectors of the curvature
    device: torch.device
    curvature: EvidenceCurvature  # of the evidence that a learned noise variance maximises
    criteria: Mapping[str, Criterion] = field(default_factory=dict)  # what to measure, by name
    test: Pair | None = None  # other data, for the test error

    def density(self, values: Mapping[str, float]) -> UnconstrainedDensity:
        """The log joint of one cell, in float64."""
        return float64_density(model_at(self.model, values), self.pair, 1.0, self.device)

    @property
    def members(self) -> int:
        """The fits of each cell."""
        return self.mode.members if isinstance(self.mode, DeepEnsemble) else 1

    @property
    def seeds(self) -> list[int]:
        """The seeds of each member's start and minibatches: those of the engine of ``mode`` with the same seed."""
        return member_seeds(self.seed, self.members)


@dataclass(frozen=True)
class TrainedCells:
    """The result of training some cells: the fits of the first cell, then those of the second, and so on."""

    params: Params  # weights name -> (fit, *shape) on the CPU
    values: list[dict[str, float]]  # the variances of each fit, a learned noise variance among them
    epochs: int  # trained: fewer than the settings' after Ctrl-C, or where all fits diverged
    interrupted: bool

    def is_finite(self, fit: int) -> bool:
        """Whether a fit did not diverge."""
        return all(bool(value[fit].isfinite().all()) for value in self.params.values())


def train_cells(problem: Problem, values: list[dict[str, float]], progress: bool) -> TrainedCells:
    """Train all fits of some cells side by side, by Adam in units of each cell's prior (see LogJointGivenVariances).

    A start that is wider than a cell's prior is shrunk to its width, parameter by parameter: Adam's small steps would
    not bring it back. A noise variance that the likelihood learns is known in the joint; at five epochs it is set to
    the maximum over v, with the weights and their curvature held fixed, of

        log p(y | x, z, v) + log p(z) - 1/2 log det(I + Sigma K / v) + log p(v) v,

    the Laplace evidence and the density of log v under the likelihood's own prior. At a mode of the joint the noise is
    SSE / (N D), in place of SSE / (N D - effective parameters), since the weights were fitted to the same data. All
    updates are in the second half: an early one would take for noise what the training has not fitted yet, and keep it
    from being fitted. Start from a small noise.

    ``values`` hold, for each cell, all settings that the network takes, and the noise variance if it is swept or
    learned. Ctrl-C ends the training early.
    """
    mode, cells = problem.mode, len(values)
    values = [dict(cell) for cell in values for _ in range(problem.members)]
    stack = _stack(problem, values)
    minibatches = Minibatches(problem.pair, mode.batch_size, problem.seeds, problem.device, repeats=cells)
    shares = _NOISE_UPDATES if has_learned_noise(problem.model) else ()
    updates = {math.floor(mode.epochs * share) for share in shares}

    def update_noise(epoch: int) -> None:
        if epoch in updates:
            values[:] = _with_best_noise(problem, stack.params(), values)
            stack.set_variances(_stacked(values))

    trained = train(stack, minibatches, mode, f"sweep, {cells} cell(s)", progress, [update_noise])
    return TrainedCells(trained.params, values, trained.epochs, trained.interrupted)


def cells_at_once(problem: Problem, values: Mapping[str, float]) -> int:
    """How many cells to train side by side, so that their fits take about 2 GiB."""
    stack = _stack(problem, [dict(values)] * problem.members)
    batch = next(iter(Minibatches(problem.pair, problem.mode.batch_size, problem.seeds, problem.device)))
    with HeldMemory() as held:
        stack.gradients(batch)
    weights = sum(value.numel() * value.element_size() for value in stack.coordinates.values())
    return max(1, _BYTES_AT_ONCE // (_COPIES * weights + max(held.bytes)))


def _stack(problem: Problem, values: list[dict[str, float]]) -> ParameterStack:
    """All fits from their starts; ``values`` has one dict for each fit."""
    starts = _starts(problem, values)
    return varied_stack(problem.model, starts, _stacked(values), len(problem.pair[0]), problem.device)


def _stacked(values: list[dict[str, float]]) -> dict[str, Float[Tensor, " fit"]]:
    return {name: torch.tensor([fit[name] for fit in values], dtype=torch.float64) for name in values[0]}


def _starts(problem: Problem, values: list[dict[str, float]]) -> Params:
    """The common starts, in each cell no wider than its prior; ``values`` has one dict for each fit."""
    starts, cells = initial_params(problem.model, problem.seeds), len(values) // problem.members
    starts = {name: start.repeat(cells, *[1] * (start.ndim - 1)) for name, start in starts.items()}
    return no_wider_than_prior(starts, problem.model.parameter_priors, _stacked(values))


def _with_best_noise(problem: Problem, params: Params, values: list[dict[str, float]]) -> list[dict[str, float]]:
    """The values, with each fit's noise at the maximum of its evidence; those that diverged keep theirs."""
    result = []
    for index, fit in enumerate(values):
        weights = {name: value[index].double() for name, value in params.items()}
        if all(value.isfinite().all() for value in weights.values()):
            density = problem.density(fit)
            generator = seeded_generator(problem.seed, problem.device)
            with torch.no_grad():
                expansion = Expansion.at(density, density.free(weights), problem.curvature, generator=generator)
                fit = {**fit, NOISE: _best_noise(expansion, problem.model, fit[NOISE])}
        result.append(fit)
    return result


def _best_noise(expansion: Expansion, model: BayesianModel, current: float) -> float:
    """The noise variance that maximises the evidence at fixed weights, within a factor of 100 of the current one."""
    likelihood = model.gaussian
    assert likelihood is not None
    law = exact_hyperprior(likelihood.priors(model.num_outputs)[NOISE])

    def loss(log_noise: float) -> float:
        noise = torch.tensor(math.exp(log_noise), dtype=torch.float64)
        return -float(expansion.log_evidence(noise_variance=noise) + law.log_prob(noise) + log_noise)

    least = max(math.log(current) - _REACH, math.log(1.01 * likelihood.floor))
    bounds = least, math.log(current) + _REACH
    return math.exp(scipy.optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3}).x)
