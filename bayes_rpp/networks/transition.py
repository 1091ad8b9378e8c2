"""Trajectories of a system with actions, by a network that gives the change of its state."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.networks.descriptions import network_text
from bayes_rpp.networks.rollout import Rollout
from bayes_rpp.representations.rep import Rep
from bayes_rpp.types import Params


class TransitionRollout(Rollout):
    r"""States s_1, ..., s_T from a state s_0 and actions a_0, ..., a_{T-1}, by a network that gives the change:

        s_{t+1} = s_t + f(s_t, a_t)

    (Finzi, Benton & Wilson, NeurIPS 2021, section 6). If f is equivariant, so are trajectories. Inputs are flat, the
    state and then the actions in their order, of the representation ``rep_state + steps * rep_action``; see ``Rollout``
    for the outputs.

    Parameters
    ----------
    change : f, a network from ``rep_state + rep_action`` to ``rep_state``.
    rep_action : the representation of an action.
    steps : T.

    Raises
    ------
    ValueError
        If the network's inputs are not a state and an action, or steps is not a positive integer.
    TypeError
        If the network has no representations.

    Examples
    --------
    >>> change = RPPEMLP(Vector + Scalar, Vector, SO(3), channels=32)
    >>> rollout = TransitionRollout(change, Scalar, steps=10)
    >>> rollout(torch.randn(7, 13)).shape, rollout.trajectory(torch.randn(7, 13)).shape
    (torch.Size([7, 30]), torch.Size([7, 11, 3]))
    """

    def __init__(self, change: nn.Module, rep_action: Rep, steps: int) -> None:
        rep_in, rep_state = getattr(change, "rep_in", None), getattr(change, "rep_out", None)
        if not isinstance(rep_in, Rep) or not isinstance(rep_state, Rep):
            raise TypeError(f"change must be a network with rep_in and rep_out, got a {type(change).__name__}.")
        super().__init__(change, rep_state, steps)
        self.change, self.rep_action = change, rep_action(self.group)
        if rep_in != rep_state + self.rep_action:
            raise ValueError(
                f"the network takes {rep_in}, but must take a state and an action, {rep_state + self.rep_action}: its "
                f"outputs, the change of the state, are {rep_state}, and rep_action is {self.rep_action}."
            )
        self.rep_in = rep_state + self.steps * self.rep_action
        self._sizes = rep_state.size, self.rep_action.size  # as numbers, for a compiler

    @property
    def inner(self) -> nn.Module:
        """The network that gives the change."""
        return self.change

    def forward(self, x: Float[Tensor, "*batch state+steps*action"]) -> Float[Tensor, "*batch steps*state"]:
        """The states that follow."""
        return torch.cat(self._states(x), dim=-1)

    def trajectory(self, x: Float[Tensor, "*batch state+steps*action"]) -> Float[Tensor, "*batch steps+1 state"]:
        """The first state and those that follow, one row each."""
        return torch.stack([x[..., : self.rep_state.size], *self._states(x)], dim=-2)

    def __repr__(self) -> str:
        return f"TransitionRollout({network_text(self.change)}, actions {self.rep_action}, steps {self.steps})"

    def over(self, steps: int) -> TransitionRollout:
        """See Rollout."""
        return TransitionRollout(self.change, self.rep_action, steps)

    def summed_weights(self) -> Params:
        """The weights of ``change``, summed over their pathways."""
        return self._expanded.weights(self.change)

    def next_state(
        self, weights: Params, state: Float[Tensor, "*batch state"], action: Float[Tensor, "*batch action"]
    ) -> Float[Tensor, "*batch state"]:
        """One step, by weights that ``summed_weights`` gave."""
        return state + self._expanded(weights, torch.cat([state, action], dim=-1))

    def _states(self, x: Tensor) -> list[Tensor]:
        n, m = self._sizes
        if x.shape[-1:] != (n + self.steps * m,):
            raise ValueError(
                f"x has shape {tuple(x.shape)}, but a state of {n} numbers and {self.steps} actions of {m} are "
                f"{n + self.steps * m} numbers."
            )
        state, actions = x.tensor_split([n], dim=-1)
        weights, states = self.summed_weights(), []
        for action in actions.unflatten(-1, (self.steps, m)).unbind(-2):
            state = self.next_state(weights, state, action)
            states.append(state)
        return states
