"""Trajectories of transition models: particles that follow the draws of a posterior."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from bayes_rpp import BayesianModel, TransitionRollout
from bayes_rpp.likelihoods.noise import NoiseAroundOutput
from bayes_rpp.networks.rollout import Rollout
from bayes_rpp.positive_integer import positive_integer
from bayes_rpp.seeding import seeded, seeded_generator
from bayes_rpp.types import Params
from bayes_rpp.validation import without_validation
from inference.memory import AT_ONCE, check_result, even_slices
from inference.posterior.map_draws import count_draws, map_draws
from inference.posterior.predictive import output_cost

Members = Literal["fixed", "random"]


def over_steps(model: BayesianModel, draws: Params, steps: int) -> BayesianModel:
    """The model of trajectories over another number of steps, see ``Posterior.over``."""
    if not isinstance(model.network, Rollout):
        raise TypeError(f"over needs the posterior of a rollout, got one of a {type(model.network).__name__}.")
    longer = BayesianModel(model.network.over(steps), model.prior, model.likelihood)
    first, zeros = {name: value[0] for name, value in draws.items()}, torch.zeros(1, longer.num_outputs)
    try:
        longer.log_likelihood_of_outputs(zeros, zeros, first)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"the likelihood is one of {model.num_outputs} outputs, and {steps} steps have {longer.num_outputs}: "
            "give it one noise for all outputs."
        ) from error
    return longer


@torch.no_grad()
def rolled_out(
    model: BayesianModel,
    draws: Params,
    state: Float[Tensor, "batch n"],
    actions: Float[Tensor, "batch time m"],
    particles: int,
    members: Members,
    noise: bool,
    seed: int,
) -> Float[Tensor, "particle batch time+1 n"]:
    """The trajectories of ``Posterior.rollout``, of draws name -> (draw, *shape)."""
    network = model.network
    if not isinstance(network, TransitionRollout):
        raise TypeError(f"this needs the posterior of a TransitionRollout, got one of a {type(network).__name__}.")
    state, actions = _checked(network, state, actions)
    particles = positive_integer(particles, "particles")
    if members not in ("fixed", "random"):
        raise ValueError(f"members must be 'fixed' or 'random', got {members!r}.")
    check_result("these trajectories", particles * actions[..., 0].numel() * state.shape[1] * state.element_size())
    count, batch, generator = count_draws(draws), len(state), seeded_generator(seed)
    which = (
        torch.randperm(count, generator=generator).repeat(-(-particles // count))[:particles].repeat_interleave(batch)
    )
    weights = _summed_weights(network, model.frozen, draws)
    row = output_cost(model, draws, state.new_zeros(2, network.rep_in.size)).row
    result = state.new_empty(particles, batch, actions.shape[1] + 1, state.shape[1])
    result[:, :, 0] = state
    noise_seed = int(torch.randint(2**62, (), generator=generator))  # another stream than that of the choice of draws
    with seeded(noise_seed, state.device), without_validation():
        for t, action in enumerate(actions.unbind(1)):
            if members == "random":
                which = torch.randint(count, which.shape, generator=generator)
            inputs = result[:, :, t].flatten(0, 1), action.repeat(particles, 1)
            after = _next_states(network, weights, which, inputs, row)
            after = _with_noise(model, draws, which, after) if noise else after
            result[:, :, t + 1] = after.unflatten(0, (particles, batch))
    return result


def one_action_each(state: Float[Tensor, "batch n"], action: Float[Tensor, "batch m"]) -> Float[Tensor, "batch 1 m"]:
    """One action for each state, as those of trajectories of one step; raises ValueError for other numbers of them."""
    action, count = torch.as_tensor(action), len(torch.as_tensor(state))
    if action.ndim != 2 or len(action) != count:
        raise ValueError(f"action must have shape ({count}, m), one for each state, got {tuple(action.shape)}.")
    return action[:, None]


def _checked(network: TransitionRollout, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    n, m = network.rep_state.size, network.rep_action.size
    state, actions = (torch.as_tensor(part).detach().cpu() for part in (state, actions))
    if state.ndim != 2 or state.shape[1] != n or not len(state):
        raise ValueError(f"state must have shape (batch, {n}), got {tuple(state.shape)}.")
    if actions.ndim != 3 or actions.shape[::2] != (len(state), m):
        raise ValueError(f"actions must have shape ({len(state)}, time, {m}), got {tuple(actions.shape)}.")
    cast = state.to(network.input_dtype), actions.to(network.input_dtype)
    for name, given, part in zip(("state has", "actions have"), (state, actions), cast, strict=True):
        if not torch.isfinite(given).all():
            raise ValueError(f"{name} NaN or infinite numbers.")
        if not torch.isfinite(part).all():
            raise ValueError(f"{name} numbers that {part.dtype}, the type of the network's inputs, cannot hold.")
    return cast


class _SummedWeights(nn.Module):
    """The summed weights as a function of the parameters."""

    def __init__(self, rollout: TransitionRollout) -> None:
        super().__init__()
        self.rollout = copy.deepcopy(rollout)

    def forward(self) -> Params:
        return self.rollout.summed_weights()


def _summed_weights(network: TransitionRollout, frozen: Params, draws: Params) -> Params:
    """Of every draw, name -> (draw, *shape)."""
    module, own = _SummedWeights(network), dict(network.named_parameters()).keys()

    def summed(params: Params) -> Params:
        given = {f"rollout.{name}": value for name, value in {**frozen, **params}.items() if name in own}
        weights: Params = functional_call(module, given)
        return weights

    result: Params = torch.func.vmap(summed)(draws)
    return result


def _next_states(
    network: TransitionRollout,
    weights: Params,
    which: Int[Tensor, " row"],
    inputs: tuple[Float[Tensor, "row n"], Float[Tensor, "row m"]],
    cost: int,
) -> Float[Tensor, "row n"]:
    """The next state of each row by the draw ``which``: rows of one draw together, all draws side by side. A row costs
    so many bytes.
    """
    used, group, counts = which.unique(return_inverse=True, return_counts=True)
    order, first = group.argsort(stable=True), counts.cumsum(0) - counts
    place = torch.empty_like(group)
    place[order] = torch.arange(len(group)) - first[group[order]]
    rows = group.new_zeros(len(used), int(counts.max()))
    rows[group, place] = torch.arange(len(group))
    chosen = {name: value[used] for name, value in weights.items()}

    def step(drawn: tuple[Params, Tensor, Tensor]) -> Tensor:
        return network.next_state(*drawn)

    pieces = even_slices(slice(0, rows.shape[1]), AT_ONCE // max(1, cost * len(used)))
    after = [map_draws(step, (chosen, *(part[rows[:, piece]] for part in inputs))) for piece in pieces]
    return torch.cat(after, dim=1)[group, place]


def _with_noise(
    model: BayesianModel, draws: Params, which: Int[Tensor, " row"], state: Float[Tensor, "row n"]
) -> Float[Tensor, "row n"]:
    """Next states as they are observed, with the noise that the likelihood has for the first step."""
    likelihood, n = model.likelihood, state.shape[1]
    if not isinstance(likelihood, NoiseAroundOutput):
        raise TypeError(f"noise=True needs noise around the output, but the likelihood is {likelihood!r}: noise=False.")
    parameter, params = likelihood.noise_parameter, {}
    if parameter.learned:
        value = draws[parameter.name][which]
        params = {parameter.name: value[:, None] if value.ndim == 1 else value[:, :n]}
    elif isinstance(parameter.value, tuple):
        likelihood = replace(likelihood, **{parameter.field: parameter.value[:n]})  # type: ignore[type-var]
    observed: Tensor = likelihood.distribution(state, params).sample()
    return observed
