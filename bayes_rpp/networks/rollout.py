"""Trajectories that follow from a network, one step after another."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.networks.expanded import ExpandedNetwork
from bayes_rpp.networks.precision import input_dtype, warn_of_rounded_inputs
from bayes_rpp.positive_integer import positive_integer
from bayes_rpp.representations.rep import Rep


class Rollout(nn.Module):
    """A network whose outputs are the T states that follow a first one, each by the same inner network.

    Outputs are flat, of the representation ``steps * rep_state``, so that likelihoods, equivariance errors and
    ensembles treat a rollout as they do any network; ``trajectory`` gives them as (batch, time, state). Weights of the
    inner network are summed over their pathways once for the whole rollout; it is always in evaluation mode.

    Attributes
    ----------
    rep_in, rep_out, group : of the inputs and the flat outputs.
    rep_state : of one state.
    steps : T.
    """

    rep_in: Rep

    def __init__(self, inner: nn.Module, rep_state: Rep, steps: int) -> None:
        super().__init__()
        self.steps, self.rep_state = positive_integer(steps, "steps"), rep_state
        self.rep_out, self.group = self.steps * rep_state, rep_state.bound_group
        self._expanded = ExpandedNetwork(inner)

    @property
    @abstractmethod
    def inner(self) -> nn.Module:
        """The network that every step applies."""

    @abstractmethod
    def over(self, steps: int) -> Self:
        """The rollout of the same inner network over another number of steps."""

    @property
    def input_dtype(self) -> torch.dtype:
        """The type in which states are taken and given: that of the inner network's inputs."""
        return input_dtype(self.inner)

    @property
    def output_dtype(self) -> torch.dtype:
        """The same."""
        return input_dtype(self.inner)

    def warn_of_rounded_inputs(self, x: Float[Tensor, "batch size_in"]) -> None:
        """See NormalizedNetwork."""
        rep: Rep = self.inner.rep_in  # type: ignore[assignment]
        warn_of_rounded_inputs(self.inner, x[:, : rep.size])

    def flat(self, y: Float[Tensor, "batch *observation"]) -> Float[Tensor, "batch steps*state"]:
        """Observed states (batch, steps, state) as the outputs are, flat; others as they are."""
        return y.flatten(1) if y.shape[1:] == (self.steps, self.rep_state.size) else y
