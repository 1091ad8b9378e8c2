"""Particles that follow the temperatures from a reference to a posterior, all side by side.

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
from tqdm import tqdm

from inference.progress import QUIET_SECONDS, off_unless
from inference.tempering.path import Cloud, TemperedPath
from inference.tempering.schedule import Guide, Kernel


@dataclass(frozen=True)
class Annealing:
    """The end of a run.

    Attributes
    ----------
    log_weights : of each island, the log of its mean weight: an estimate of the log evidence.
    cloud : the particles at the end.
    temperatures : that they went through, without the first.
    acceptance : the mean acceptance at each.
    """

    log_weights: Float[Tensor, " island"]
    cloud: Cloud
    temperatures: list[float]
    acceptance: list[float]


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
    """From independent draws of the reference to t = 1. Ctrl-C is raised.

    Parameters
    ----------
    path : of the densities.
    guide : chooses the temperatures and the kernels.
    shape : the number of islands, and of particles in each.
    seeds : of the draws of the reference, and of everything else.
    moves : trajectories at each temperature.
    progress : whether to show a bar, in a terminal.

    Raises
    ------
    ValueError
        If no draw of the reference has a finite gain.
    """
    generator = torch.Generator(path.density.device).manual_seed(seeds[1])
    cloud = path.at(path.sample(shape[0] * shape[1], seeds[0]))
    if not cloud.gain.isfinite().any():
        raise ValueError(
            f"none of {len(cloud.gain)} draws of the reference has a finite log density; take more particles, or a "
            "prior under which the data are possible."
        )
    total = torch.zeros(shape[0], dtype=cloud.gain.dtype, device=cloud.gain.device)
    within = torch.full(shape, 1 / shape[1], dtype=total.dtype, device=total.device).log()
    t, temperatures, acceptance = 0.0, [], []
    with tqdm(desc="tempering", unit="level", disable=off_unless(progress), delay=QUIET_SECONDS) as bar:
        while t < 1:
            before, t = t, guide.next_temperature(t, cloud.gain, (total[:, None] + within).flatten())
            within = within + (t - before) * cloud.gain.reshape(shape)
            grown = within.logsumexp(1)
            total, within = total + grown, _or_even(within - grown[:, None])
            cloud, within = _resample(cloud, within, generator)
            accepted = 0.0
            for _ in range(moves):
                cloud, rate = move(path, cloud, t, guide.kernel(t, cloud), generator)
                guide.learn(rate)
                accepted += rate / moves
            temperatures.append(t)
            acceptance.append(accepted)
            bar.update()
            bar.set_postfix(t=f"{t:.3g}")
    return Annealing(total, cloud, temperatures, acceptance)


def move(path: TemperedPath, cloud: Cloud, t: float, kernel: Kernel, generator: torch.Generator) -> tuple[Cloud, float]:
    """One trajectory of HMC for each particle, which leaves f_t invariant, and its mean acceptance."""
    like = cloud.position
    velocity = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
    proposal, after = trajectory(path, cloud, t, kernel, velocity)
    change = proposal.energy(t) - cloud.energy(t) + (after.square() - velocity.square()).sum(1) / 2
    probability = torch.where(change.isnan(), 0.0, (-change).clamp(max=0).exp())
    uniform = torch.rand(len(like), generator=generator, dtype=like.dtype, device=like.device)
    return proposal.where(uniform < probability, cloud), float(probability.mean())


def trajectory(
    path: TemperedPath, cloud: Cloud, t: float, kernel: Kernel, velocity: Float[Tensor, "particle size"]
) -> tuple[Cloud, Float[Tensor, "particle size"]]:
    """The leapfrog's trajectory of each particle: where it ends, and the velocity there.

    v <- v - (h / 2) S^T grad;    z <- z + h S v;    v <- v - (h / 2) S^T grad
    """
    coordinates, size = kernel.coordinates, kernel.step_size
    velocity = velocity - size / 2 * coordinates.pull(cloud.slope(t))
    for made in range(1, kernel.steps + 1):
        cloud = path.at(cloud.position + size * coordinates.color(velocity))
        velocity = velocity - (size if made < kernel.steps else size / 2) * coordinates.pull(cloud.slope(t))
    return cloud, velocity


def _or_even(within: Float[Tensor, "island particle"]) -> Float[Tensor, "island particle"]:
    """Even log weights for an island whose particles have none left: its mean weight is zero for good."""
    lost = within.isnan().any(1, keepdim=True)
    return torch.where(lost, torch.full_like(within, 1 / within.shape[1]).log(), within)


def _resample(
    cloud: Cloud, within: Float[Tensor, "island particle"], generator: torch.Generator
) -> tuple[Cloud, Float[Tensor, "island particle"]]:
    """Draw particles anew in islands where the effective number is below half, and make their weights even."""
    islands, particles = within.shape
    due = (2 * within).logsumexp(1).neg().exp() < particles / 2
    if not due.any():
        return cloud, within
    index = torch.where(due[:, None], systematic(within.exp(), generator), torch.arange(particles).to(within.device))
    index = index + particles * torch.arange(islands, device=within.device)[:, None]
    even = torch.full_like(within, 1 / particles).log()
    return cloud.chosen(index.flatten()), torch.where(due[:, None], even, within)


def systematic(weights: Float[Tensor, "island particle"], generator: torch.Generator) -> Int[Tensor, "island particle"]:
    """Systematic resampling: particle i is drawn P W_i times in expectation, and never more than one off.

    Parameters
    ----------
    weights : W, which add up to one in each island.
    generator : of one uniform number for each island.
    """
    islands, particles = weights.shape
    start = torch.rand(islands, 1, generator=generator, dtype=weights.dtype, device=weights.device)
    places = (start + torch.arange(particles, device=weights.device)) / particles
    edges = weights.cumsum(1)
    edges = edges / edges[:, -1:]
    return torch.searchsorted(edges, places, right=True).clamp(max=particles - 1)
