r"""What gradient training minimises, -log p(y, theta | x) / N, under the model's own prior or under other variances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

from bayes_rpp import BayesianModel
from bayes_rpp.likelihoods import NOISE, Gaussian
from bayes_rpp.priors.variance_settings import ParameterLaw
from bayes_rpp.types import Params
from inference.data import Model
from inference.training.parameter_stack import ParameterStack

_LARGEST_UNIT, _DEVIATIONS = 1.0, 10.0


class LogJoint:
    """-log p(y, theta | x) / N of a model as it is; of a LogDensity, -log p(theta)."""

    def __init__(self, model: Model, num_data: int) -> None:
        self.model, self.num_data, self.constraints = model, num_data, model.constraints

    def units(self, variances: Params) -> Params:
        """See Objective."""
        return {}

    def loss(self, params: Params, variances: Params, x: Tensor | None, y: Tensor | None) -> Float[Tensor, ""]:
        """See Objective."""
        if isinstance(self.model, BayesianModel):
            return -self.model.log_joint(params, x, y, num_data=self.num_data) / self.num_data
        return -self.model.log_joint(params)


class LogJointGivenVariances:
    """-log p(y, theta | x, v) / N with prior variances, and a noise variance, that differ between the members.

    A parameter is trained in units of its prior, s = min(1, 10 x prior standard deviation): Adam's steps would carry
    weights of a narrow prior far out.
    """

    def __init__(self, model: BayesianModel, num_data: int, learned_noise: bool) -> None:
        self.model, self.num_data, self.likelihood = model, num_data, model.likelihood
        if isinstance(model.likelihood, Gaussian) and learned_noise:
            self.likelihood = replace(model.likelihood, learned=True)
        self.laws = model.prior.laws(model.network)
        self.constraints = dict.fromkeys(self.laws, constraints.real)

    def units(self, variances: Params) -> Params:
        """See Objective."""
        return {
            name: (_DEVIATIONS * _prior_deviations(law, variances))
            .clamp_max(_LARGEST_UNIT)
            .reshape(-1, *[1] * len(law.shape))
            for name, law in self.laws.items()
        }

    def loss(self, params: Params, variances: Params, x: Tensor | None, y: Tensor | None) -> Float[Tensor, ""]:
        """See Objective."""
        assert x is not None
        assert y is not None
        prior = torch.stack([law.at(variances).log_prob(params[name]) for name, law in self.laws.items()]).sum()
        outputs = self.model.output(params, x)
        noise = {NOISE: variances[NOISE].to(outputs)} if NOISE in variances else {}
        likelihood = self.likelihood.log_prob(outputs, y, noise).sum()
        return -(prior + self.num_data / len(x) * likelihood) / self.num_data


def joint_stack(model: Model, seeds: list[int], num_data: int, device: torch.device | str = "cpu") -> ParameterStack:
    """Members of a model as it is, each from the initial state of its seed, which means the same on every device."""
    return ParameterStack(LogJoint(model.to(device), num_data), initial_params(model, seeds), device)


def varied_stack(
    model: BayesianModel, starts: Params, variances: Params, num_data: int, device: torch.device | str = "cpu"
) -> ParameterStack:
    """Members under variances of their own.

    Parameters
    ----------
    model : whose network and likelihood they share.
    starts : of the network's parameters, name -> (member, *shape).
    variances : of each member, (member,), by the names of ``RPPPrior.variances``, and "noise_variance" of a Gaussian
        likelihood, if it is to differ from the model's.
    num_data : N.
    """
    objective = LogJointGivenVariances(model.to(device), num_data, NOISE in variances)
    return ParameterStack(objective, starts, device, variances)


def initial_params(model: Model, seeds: list[int]) -> Params:
    """Initial states as the model draws them, name -> (member, *shape)."""
    starts = [model.initial_params(seed) for seed in seeds]
    return {name: torch.stack([start[name] for start in starts]) for name in starts[0]}


def no_wider_than_prior(starts: Params, laws: Mapping[str, ParameterLaw], variances: Params) -> Params:
    """Starts of the network's parameters, those that are wider than the prior shrunk to its width, parameter by
    parameter: Adam's small steps would not bring them back.

    Parameters
    ----------
    starts : name -> (member, *shape).
    laws : of the parameters.
    variances : of each member, (member,).
    """
    result = {}
    for name, law in laws.items():
        shrink = (_prior_deviations(law, variances) / starts[name].flatten(1).square().mean(1).sqrt()).clamp_max(1.0)
        result[name] = starts[name] * shrink.to(starts[name]).reshape(-1, *[1] * len(law.shape))
    return result


def _prior_deviations(law: ParameterLaw, variances: Params) -> Float[Tensor, " member"]:
    """The prior standard deviation of a parameter for each member, on average over its coordinates."""

    def deviation(values: Mapping[str, Tensor]) -> Tensor:
        prior = law.at(values)
        variance = prior.dense_variance
        for basis, pathway in zip(prior.bases, prior.pathway_variances, strict=True):
            variance = variance + pathway * basis.rank / basis.size
        return variance.sqrt()

    result: Tensor = torch.vmap(deviation)(variances)
    return result
