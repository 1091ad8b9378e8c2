"""Particles that go from a reference to a posterior, all side by side.

    reweight    w_i <- w_i f_t'(z_i) / f_t(z_i) = w_i exp((t' - t) D(z_i))
    resample    within an island, where the effective number of its particles is below half of them
    move        by HMC that leaves f_t' invariant

The mean weight of an island has the evidence as its expectation, whatever the number of particles, if the temperatures
and the kernels are fixed (Del Moral, Doucet & Jasra, Journal of the Royal Statistical Society B 2006). With islands of
one particle each this is annealed importance sampling (Neal, Statistics and Computing 2001).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayes_rpp.seeding import seeded_generator
from inference.progress import QUIET_SECONDS, ProgressBar
from inference.sampling.hmc.leapfrog import leapfrog
from inference.tempering.curvature import Coordinates
from inference.tempering.path import Particles, TemperedPath
from inference.tempering.schedule import Guide, Kernel


@dataclass(frozen=True)
class Annealing:
    """The result of a run."""

    log_weights: Float[Tensor, " island"]  # the log of each island's mean weight: an estimate of the log evidence
    particles: Particles  # at the end
    temperatures: list[float]  # without the first
    acceptance: list[float]  # the mean acceptance at each temperature


@torch.no_grad()
def anneal(
    path: TemperedPath,
    guide: Guide,
    shape: tuple[int, int],
    seeds: tuple[int, int],
    *,
    moves: int = 1,
    progress: bool = True,
) -> Annealing:
    """Take independent draws of the reference to t = 1, with ``moves`` trajectories at each temperature.

    ``shape`` is the number of islands, and of particles in each; ``seeds`` are those of the draws of the reference, and
    of everything else. Ctrl-C is raised, and ValueError if no draw of the reference has a finite gain.
    """
    generator = seeded_generator(seeds[1], path.density.device)
    particles = path.at(path.sample(shape[0] * shape[1], seeds[0]))
    if not particles.gain.isfinite().any():
        raise ValueError(
            f"none of {len(particles.gain)} draws of the reference has a finite log density; take more particles, or a "
            "prior under which the data are possible."
        )
    total = torch.zeros(shape[0], dtype=particles.gain.dtype, device=particles.gain.device)
    within = torch.full(shape, 1 / shape[1], dtype=total.dtype, device=total.device).log()
    t, temperatures, acceptance = 0.0, [], []
    with ProgressBar(desc="tempering", unit="level", progress=progress, delay=QUIET_SECONDS) as bar:
        while t < 1:
            before, t = t, guide.next_temperature(t, particles.gain, (total[:, None] + within).flatten())
            within = within + (t - before) * particles.gain.reshape(shape)
            grown = within.logsumexp(1)
            total, within = total + grown, _equal_if_all_zero(within - grown[:, None])
            particles, within = _resample(particles, within, generator)
            accepted = 0.0
            for _ in range(moves):
                particles, rate = move(path, particles, t, guide.kernel(t, particles), generator)
                guide.learn(rate)
                accepted += rate / moves
            temperatures.append(t)
            acceptance.append(accepted)
            bar.update()
            bar.set_postfix(t=f"{t:.3g}")
    return Annealing(total, particles, temperatures, acceptance)


@dataclass(frozen=True)
class TemperedHamiltonian:
    """The Hamiltonian of f_t, whose positions are z = S u and whose momenta are those of u."""

    path: TemperedPath
    t: float
    coordinates: Coordinates

    def at(self, position: Float[Tensor, "particle size"]) -> Particles:
        """See Hamiltonian."""
        return self.path.at(position)

    def gradient(self, point: Particles) -> Float[Tensor, "particle size"]:
        """See Hamiltonian."""
        return self.coordinates.pull(point.slope(self.t))

    def velocity(self, momentum: Float[Tensor, "particle size"]) -> Float[Tensor, "particle size"]:
        """See Hamiltonian."""
        return self.coordinates.color(momentum)


def trajectory(
    path: TemperedPath, particles: Particles, t: float, kernel: Kernel, momentum: Float[Tensor, "particle size"]
) -> tuple[Particles, Float[Tensor, "particle size"]]:
    """The leapfrog's trajectory of each particle: where it ends, and the momentum there."""
    hamiltonian = TemperedHamiltonian(path, t, kernel.coordinates)
    return leapfrog(hamiltonian, particles, momentum, kernel.step_size, kernel.steps)


def move(
    path: TemperedPath, particles: Particles, t: float, kernel: Kernel, generator: torch.Generator
) -> tuple[Particles, float]:
    """A transition of HMC for each particle, which leaves f_t invariant, and the mean acceptance."""
    like = particles.position
    momentum = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
    proposal, after = trajectory(path, particles, t, kernel, momentum)
    change = proposal.energy(t) - particles.energy(t) + (after.square() - momentum.square()).sum(1) / 2
    probability = torch.where(change.isnan(), 0.0, (-change).clamp(max=0).exp())
    uniform = torch.rand(len(like), generator=generator, dtype=like.dtype, device=like.device)
    return proposal.where(uniform < probability, particles), float(probability.mean())


def _equal_if_all_zero(within: Float[Tensor, "island particle"]) -> Float[Tensor, "island particle"]:
    """Equal log weights for an island of which all weights are zero: its mean weight stays zero."""
    lost = within.isnan().any(1, keepdim=True)
    return torch.where(lost, torch.full_like(within, 1 / within.shape[1]).log(), within)


def _resample(
    particles: Particles, within: Float[Tensor, "island particle"], generator: torch.Generator
) -> tuple[Particles, Float[Tensor, "island particle"]]:
    """Draw particles anew in islands where the effective number is below half of them, with equal weights."""
    islands, size = within.shape
    due = (2 * within).logsumexp(1).neg().exp() < size / 2
    if not due.any():
        return particles, within
    index = torch.where(due[:, None], systematic(within.exp(), generator), torch.arange(size).to(within.device))
    index = index + size * torch.arange(islands, device=within.device)[:, None]
    equal = torch.full_like(within, 1 / size).log()
    return particles.chosen(index.flatten()), torch.where(due[:, None], equal, within)


def systematic(weights: Float[Tensor, "island particle"], generator: torch.Generator) -> Int[Tensor, "island particle"]:
    """Systematic resampling: particle i is drawn P W_i times in expectation, and never more than one off. The weights W
    add up to one in each island, which takes one uniform number.
    """
    islands, size = weights.shape
    start = torch.rand(islands, 1, generator=generator, dtype=weights.dtype, device=weights.device)
    levels = (start + torch.arange(size, device=weights.device)) / size
    cumulative = weights.cumsum(1)
    cumulative = cumulative / cumulative[:, -1:]
    return torch.searchsorted(cumulative, levels, right=True).clamp(max=size - 1)
