"""Trajectories of a Hamiltonian that a network gives."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.bases.equivariant import equivariant_basis, equivariant_maps
from bayes_rpp.networks.descriptions import network_text
from bayes_rpp.networks.rollout import Rollout
from bayes_rpp.positive_integer import positive_integer
from bayes_rpp.representations.rep import Rep

Field = Callable[[Tensor], Tensor]


class HamiltonianRollout(Rollout):
    r"""States z(dt), z(2 dt), ..., z(T dt) from z(0) = (q, p), under the equations of motion

        dq/dt = dH/dp,   dp/dt = -dH/dq

    of an energy H(q, p) that a network gives (Greydanus, Dzamba & Yosinski, NeurIPS 2019; Finzi, Benton & Wilson,
    2021, section 5.2). One step of the classical Runge-Kutta method of fourth order leads from each state to the next.
    If H is invariant under a group that acts on q, and on p as on the dual, trajectories are equivariant.

    Outputs are flat, of the representation ``steps * rep_in``; see ``Rollout``.

    Parameters
    ----------
    energy : a network from states to one number, with ``rep_in`` and ``group``.
    steps : T, how many states follow the first.
    dt : the time between two states.

    Raises
    ------
    ValueError
        If the energy is not one invariant number, states are not pairs (q, p), the group does not act on p as on the
        dual of q, steps is not a positive integer or dt not a positive number.
    TypeError
        If the energy is no network with representations.

    Examples
    --------
    >>> energy = RPPEMLP(4 * Vector, Scalar, O(3), channels=128)
    >>> rollout = HamiltonianRollout(energy, steps=4, dt=0.2)
    >>> rollout(torch.randn(7, 12)).shape, rollout.trajectory(torch.randn(7, 12)).shape
    (torch.Size([7, 48]), torch.Size([7, 5, 12]))
    """

    def __init__(self, energy: nn.Module, steps: int, dt: float) -> None:
        rep_in, rep_out = getattr(energy, "rep_in", None), getattr(energy, "rep_out", None)
        if not isinstance(rep_in, Rep) or not isinstance(rep_out, Rep):
            raise TypeError(f"energy must be a network with rep_in and rep_out, got a {type(energy).__name__}.")
        if rep_out.size != 1 or equivariant_basis(rep_out).rank != 1:
            raise ValueError(f"the energy must be one invariant number, but the network's outputs are {rep_out}.")
        if not (isinstance(dt, float | int) and 0 < dt < float("inf")):
            raise ValueError(f"dt must be a positive number, got {dt!r}.")
        _check_phase_space(rep_in)
        super().__init__(energy, rep_in, steps)
        self.energy, self.rep_in, self.dt = energy, rep_in, float(dt)

    @property
    def inner(self) -> nn.Module:
        """The energy."""
        return self.energy

    def forward(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch steps*state"]:
        """The states that follow."""
        return torch.cat(list(self._states(x, self.steps)), dim=-1)

    def trajectory(
        self, x: Float[Tensor, "*batch state"], steps: int | None = None
    ) -> Float[Tensor, "*batch steps+1 state"]:
        """The first state and the ``steps`` that follow, by default the network's own number, one row each."""
        return torch.stack(
            [x, *self._states(x, self.steps if steps is None else positive_integer(steps, "steps"))], dim=-2
        )

    def __repr__(self) -> str:
        return f"HamiltonianRollout({network_text(self.energy)}, steps {self.steps}, dt {self.dt:g})"

    def over(self, steps: int) -> HamiltonianRollout:
        """See Rollout."""
        return HamiltonianRollout(self.energy, steps, self.dt)

    def _states(self, x: Tensor, steps: int) -> list[Tensor]:
        field, states = self._field(), []
        for _ in range(steps):
            x = runge_kutta_step(field, x, self.dt)
            states.append(x)
        return states

    def _field(self) -> Field:
        """(dH/dp, -dH/dq) as a function of the state."""
        weights = self._expanded.weights(self.energy)

        def energy(z: Tensor) -> Tensor:
            return self._expanded(weights, z).sum()

        def field(z: Tensor) -> Tensor:
            of_q, of_p = torch.func.grad(energy)(z).chunk(2, dim=-1)
            return torch.cat([of_p, -of_q], dim=-1)

        return field


def runge_kutta_step(field: Field, z: Tensor, dt: float) -> Tensor:
    """The classical method of fourth order."""
    first = field(z)
    second = field(z + 0.5 * dt * first)
    third = field(z + 0.5 * dt * second)
    fourth = field(z + dt * third)
    return z + dt / 6 * (first + 2 * (second + third) + fourth)


def _check_phase_space(rep: Rep) -> None:
    """Raise ValueError unless the group keeps the symplectic form of states (q, p)."""
    if rep.size == 0 or rep.size % 2:
        raise ValueError(f"states are pairs (q, p) of equal sizes, but {rep} has size {rep.size}.")
    half = rep.size // 2
    form = torch.zeros(rep.size, rep.size, dtype=torch.float64)
    form[:half, half:], form[half:, :half] = torch.eye(half), -torch.eye(half)
    kept = equivariant_maps(rep, rep.dual).project(form.flatten())
    if not torch.allclose(kept, form.flatten(), rtol=0, atol=1e-8):
        raise ValueError(
            f"{rep.group} does not act on the second half of {rep}, the momenta, as on the dual of the first half, the "
            "positions: trajectories of an invariant energy would not be equivariant. Order states as all positions, "
            "then all momenta, and take the dual for momenta, as in Vector + Vector.dual."
        )
