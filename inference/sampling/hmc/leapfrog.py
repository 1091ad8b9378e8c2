"""The leapfrog: Hamiltonian dynamics of H(theta, v) = U(theta) + |v|^2 / 2 in the coordinates theta = S u.

    v <- v - (h / 2) S^T grad U(theta)
    theta <- theta + h S v                     L times
    v <- v - (h / 2) S^T grad U(theta)

It is reversible, preserves volume, and its error in H over a given time is of second order in h (Leimkuhler & Reich,
Simulating Hamiltonian Dynamics, 2004). The two half steps between two updates of theta are taken as one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from jaxtyping import Float
from torch import Tensor

from inference.metrics.preconditioned import PreconditionedDensity


class Positioned(Protocol):
    """Positions, and what is known of the density there."""

    @property
    def position(self) -> Float[Tensor, "chain size"]: ...  # noqa: D102


P = TypeVar("P", bound=Positioned)


class Hamiltonian(Protocol[P]):
    """U and the coordinates in which momenta are standard normal."""

    def at(self, position: Float[Tensor, "chain size"]) -> P:
        """Evaluate U and its gradient at new positions."""

    def gradient(self, point: P) -> Float[Tensor, "chain size"]:
        """S^T grad U."""

    def velocity(self, momentum: Float[Tensor, "chain size"]) -> Float[Tensor, "chain size"]:
        """S v."""


def leapfrog(
    hamiltonian: Hamiltonian[P], point: P, momentum: Float[Tensor, "chain size"], step_size: float, steps: int
) -> tuple[P, Float[Tensor, "chain size"]]:
    """A trajectory of every chain: where it ends, and the momentum there."""
    momentum = momentum - step_size / 2 * hamiltonian.gradient(point)
    for step in range(1, steps + 1):
        point = hamiltonian.at(point.position + step_size * hamiltonian.velocity(momentum))
        momentum = momentum - (step_size if step < steps else step_size / 2) * hamiltonian.gradient(point)
    return point, momentum


class Point(NamedTuple):
    """Positions u, and U(S u) and its gradient in u there."""

    position: Float[Tensor, "chain size"]
    gradient: Float[Tensor, "chain size"]
    potential: Float[Tensor, " chain"]


@dataclass(frozen=True)
class PreconditionedHamiltonian:
    """The Hamiltonian of HMC, whose positions are u themselves."""

    preconditioned: PreconditionedDensity

    def at(self, position: Float[Tensor, "chain size"]) -> Point:
        """See Hamiltonian."""
        return Point(position, *self.preconditioned.gradients(position))

    def gradient(self, point: Point) -> Float[Tensor, "chain size"]:
        """See Hamiltonian."""
        return point.gradient

    def velocity(self, momentum: Float[Tensor, "chain size"]) -> Float[Tensor, "chain size"]:
        """See Hamiltonian."""
        return momentum
