"""Actors, critics and the policy of soft actor-critic, equivariant but for a dense part."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from gymnasium import spaces
from jaxtyping import Float
from stable_baselines3 import SAC
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import Tensor, nn

from bayes_rpp.groups.group import Group
from bayes_rpp.networks.descriptions import parameters_text
from bayes_rpp.representations.constructors import Regular, matrix_rep
from bayes_rpp.representations.rep import Rep, Scalar
from bayes_rpp.rl.environment_symmetry import EnvironmentSymmetry
from bayes_rpp.rl.features import Features
from bayes_rpp.rl.sac.pathway_adam import PathwayAdam
from bayes_rpp.rl.sac.stacked_linear import StackedRPPLinear
from bayes_rpp.rl.spaces import acts_by_signed_permutations, check_spaces


class RPPActor(Actor):
    """An actor whose mean action transforms with the state, and whose standard deviations change places with the
    actions.

    Parameters
    ----------
    symmetry : of the environment.
    last_scale : of the initial weights of the last layer.
    others : of Actor.
    """

    def __init__(self, *, symmetry: EnvironmentSymmetry, last_scale: float, **others: Any) -> None:
        super().__init__(**others)
        self.symmetry, self.last_scale = symmetry, last_scale
        hidden = _hidden(symmetry.group, self.net_arch)
        reps = [symmetry.rep_state, *hidden]
        layers = [StackedRPPLinear(*pair) for pair in zip(reps, hidden, strict=False)]
        self.latent_pi = _Network(symmetry.features, layers, self.activation_fn, last=True)  # type: ignore[assignment]
        self.mu = _Only(StackedRPPLinear(reps[-1], symmetry.rep_action, scale=last_scale))
        self.log_std = _Only(  # type: ignore[assignment]
            StackedRPPLinear(reps[-1], unsigned(symmetry.rep_action), scale=last_scale)
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"symmetry": self.symmetry, "last_scale": self.last_scale}


class RPPCritic(ContinuousCritic):
    """Critics that are invariant but for a dense part, one stack of all.

    Parameters
    ----------
    symmetry : of the environment.
    others : of ContinuousCritic.
    """

    def __init__(
        self, *, symmetry: EnvironmentSymmetry, net_arch: list[int], n_critics: int = 2, **others: Any
    ) -> None:
        super().__init__(net_arch=[], n_critics=1, **others)
        del self.qf0
        self.n_critics, self.q_networks = n_critics, []
        hidden = _hidden(symmetry.group, net_arch)
        reps = [symmetry.rep_state + symmetry.rep_action, *hidden, Scalar(symmetry.group)]
        layers = [StackedRPPLinear(*pair, members=n_critics) for pair in pairwise(reps)]
        self.stack = _Network(symmetry.features, layers, others.get("activation_fn", nn.ReLU), last=False)

    def forward(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        """Q(s, a) of every critic, (batch, 1) each."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.share_features_extractor):
            observation = self.extract_features(obs, self.features_extractor)
        return self.stack(observation, actions).unbind(0)

    def q1_forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Q(s, a) of the first critic."""
        return self(obs, actions)[0]


class RPPSACPolicy(SACPolicy):
    """The policy of soft actor-critic with residual pathway priors.

    Hidden layers hold copies of the regular representation, on which the ReLU is equivariant; every layer has a dense
    part, which starts at zero and decays (see ``PathwayAdam``). Importing this class makes "RPPPolicy" known to SAC.

    Parameters
    ----------
    symmetry : of the environment, see ``environment_symmetry``; its group must be finite, and actions transform by
        signed permutations.
    decay : of the dense parts: at 0 they are free, at infinity the policy is exactly equivariant.
    rpp_critic : whether the critics are of this kind too, or plain networks.
    last_scale : of the initial weights of the actor's last layer.
    others : of SACPolicy; ``net_arch`` gives the widths, rounded up to multiples of the group's order. gSDE, features
        extractors and other optimisers are not offered.

    Raises
    ------
    ValueError
        If the group is not finite, the symmetry does not fit the environment's spaces, or something is asked for that
        is not offered.

    Examples
    --------
    >>> model = SAC("RPPPolicy", env, policy_kwargs={"symmetry": environment_symmetry("Walker2d-v5")})
    >>> model.learn(100_000)
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        *,
        symmetry: EnvironmentSymmetry,
        decay: float = 10.0,
        rpp_critic: bool = True,
        last_scale: float = 1.0,
        use_sde: bool = False,
        **others: Any,
    ) -> None:
        if use_sde:
            raise ValueError("use_sde=True is not offered: its noise is not equivariant.")
        check_policy_spaces(symmetry, observation_space, action_space)
        for name, only in (("features_extractor_class", FlattenExtractor), ("optimizer_class", torch.optim.Adam)):
            if (given := others.get(name, only)) is not only:
                raise ValueError(f"{name} must be {only.__name__}, which the policy is built for, got {given}.")
        self.symmetry, self.decay, self.rpp_critic, self.last_scale = symmetry, decay, rpp_critic, last_scale
        optimizer_kwargs = others.get("optimizer_kwargs") or {}
        others["optimizer_kwargs"] = (
            optimizer_kwargs if "foreach" in optimizer_kwargs else {"fused": True} | optimizer_kwargs
        )
        super().__init__(observation_space, action_space, lr_schedule, **others)

    def __repr__(self) -> str:
        critic = "RPP critic" if self.rpp_critic else "plain critic"
        return f"RPPSACPolicy({self.symmetry!r}, decay {self.decay:g}, {critic}; {parameters_text(self)})"

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        for part in (self.actor, self.critic):
            layers = [module for module in part.modules() if isinstance(module, StackedRPPLinear)]
            parameters = part.optimizer.param_groups[0]["params"]
            part.optimizer = PathwayAdam(
                parameters, layers=layers, decay=self.decay, lr=lr_schedule(1), **self.optimizer_kwargs
            )

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> RPPActor:
        """See SACPolicy."""
        kwargs = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return RPPActor(symmetry=self.symmetry, last_scale=self.last_scale, **kwargs).to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        """See SACPolicy."""
        if not self.rpp_critic:
            return super().make_critic(features_extractor)
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return RPPCritic(symmetry=self.symmetry, **kwargs).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = {"symmetry": self.symmetry, "decay": self.decay, "rpp_critic": self.rpp_critic}
        return super()._get_constructor_parameters() | own | {"last_scale": self.last_scale}


SAC.policy_aliases["RPPPolicy"] = RPPSACPolicy


class _Network(nn.Module):
    """Layers with activations between them, on the features of observations, and on actions behind these."""

    def __init__(
        self, features: Features, layers: list[StackedRPPLinear], activation: type[nn.Module], last: bool
    ) -> None:
        super().__init__()
        self.features, self.layers, self.activation, self.last = features, nn.ModuleList(layers), activation(), last

    def forward(self, observation: Float[Tensor, "batch n"], *actions: Float[Tensor, "batch a"]) -> Tensor:
        h = torch.cat([self.features.of(observation), *actions], dim=-1) if actions else self.features.of(observation)
        for k, layer in enumerate(self.layers):
            h = layer(h)
            if self.last or k < len(self.layers) - 1:
                h = self.activation(h)
        return h


class _Only(nn.Module):
    """The outputs of a stack of one."""

    def __init__(self, layer: StackedRPPLinear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Float[Tensor, "1 batch n"]) -> Float[Tensor, "batch m"]:
        return self.layer(x).squeeze(0)


def _hidden(group: Group, widths: list[int]) -> list[Rep]:
    """Copies of the regular representation, at least as wide as asked for."""
    order = group.order
    assert order is not None  # policies need a finite group
    return [(-(-width // order) * Regular)(group) for width in widths]


def unsigned(rep: Rep) -> Rep:
    """The representation by the absolute values of signed permutation matrices."""
    images = rep.rho(rep.bound_group.generators).abs()
    return matrix_rep(rep.bound_group, generators=images, name="unsigned")


def check_policy_spaces(symmetry: EnvironmentSymmetry, observations: spaces.Space, actions: spaces.Space) -> None:
    """Raise ValueError unless a policy that is equivariant under the symmetry can be built for the spaces."""
    if not isinstance(symmetry, EnvironmentSymmetry):
        raise TypeError(f"symmetry must be an EnvironmentSymmetry, see environment_symmetry, got {symmetry!r}.")
    if not symmetry.group.is_finite:
        raise ValueError(
            f"policies need a finite group, got {symmetry.group}: their hidden layers hold its regular representation."
        )
    if not acts_by_signed_permutations(symmetry.rep_action):
        raise ValueError("actions must transform by signed permutations, since tanh squashes each by itself.")
    check_spaces(symmetry.observation_size, symmetry.rep_action, observations, actions, "the environment")
