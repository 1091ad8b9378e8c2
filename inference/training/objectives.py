r"""What gradient training minimises, -log p(y, theta | x) / N, under the model's own prior or under other variances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

from bayes_rpp import BayesianModel, PathwayNormal
from bayes_rpp.likelihoods import NOISE
from bayes_rpp.priors.parameter_prior import ParameterPrior
from bayes_rpp.types import Params
from inference.data import Model

_LARGEST_UNIT, _DEVIATIONS = 1.0, 10.0


class LogJoint:
    """-log p(y, theta | x) / N of a model as it is; of a LogDensity, -log p(theta)."""

    def __init__(self, model: Model, num_data: int) -> None:
        self.model, self.num_data, self.constraints = model, num_data, model.constraints

    def units(self, variances: Params) -> Params:
        """s of every parameter, (member, 1, ...), given the variances of each member; empty where all are one."""
        return {}

    def fixed_priors(self, variances: Params) -> dict[str, PathwayNormal]:
        """The priors that depend on no parameter, given the variances of each member."""
        return self.model.fixed_priors if isinstance(self.model, BayesianModel) else {}

    def rest(self, params: Params, variances: Params, x: Tensor | None, y: Tensor | None) -> Float[Tensor, ""]:
        """The loss of one member on a minibatch, without the terms of the fixed priors."""
        if not isinstance(self.model, BayesianModel):
            return -self.model.log_joint(params)
        assert x is not None
        assert y is not None
        others = self.model.log_prior(params, without=self.model.fixed_priors)
        return -(others + self.num_data / len(x) * self.model.log_likelihood(params, x, y)) / self.num_data


class LogJointGivenVariances(LogJoint):
    """-log p(y, theta | x, v) / N with prior variances, and a noise variance, that differ between the members. A
    weight is trained in units of its prior, s = min(1, 10 x prior standard deviation): Adam's steps would carry
    weights of a narrow prior far out. Other parameters of the likelihood are trained with the weights.
    """

    def __init__(self, model: BayesianModel, num_data: int, learned_noise: bool) -> None:
        super().__init__(model, num_data)
        self.network_output, self.likelihood = model.output, model.likelihood
        if model.gaussian is not None and learned_noise:
            self.likelihood = replace(model.gaussian, learned=True)
        self.laws = model.parameter_priors
        self.own = {} if learned_noise else self.likelihood.priors(model.num_outputs)
        own = {name: self.likelihood.constraints()[name] for name in self.own}
        self.constraints = {**dict.fromkeys(self.laws, constraints.real), **own}

    def units(self, variances: Params) -> Params:
        """See LogJoint."""
        units = {
            name: (_DEVIATIONS * _prior_deviations(law, variances))
            .clamp_max(_LARGEST_UNIT)
            .reshape(-1, *[1] * len(law.shape))
            for name, law in self.laws.items()
        }
        one = torch.ones_like(next(iter(units.values())).flatten())
        return units | {name: one.reshape(-1, *[1] * len(law.event_shape)) for name, law in self.own.items()}

    def fixed_priors(self, variances: Params) -> dict[str, PathwayNormal]:
        """See LogJoint."""
        return {name: law.at(variances) for name, law in self.laws.items()}

    def rest(self, params: Params, variances: Params, x: Tensor | None, y: Tensor | None) -> Float[Tensor, ""]:
        """See LogJoint."""
        assert x is not None
        assert y is not None
        outputs = self.network_output(params, x)
        noise = {NOISE: variances[NOISE].to(outputs)} if NOISE in variances else {}
        terms = [law.log_prob(params[name]) for name, law in self.own.items()]
        likelihood = self.likelihood.log_prob(outputs, y, params | noise).sum()
        return -(sum(terms) + self.num_data / len(x) * likelihood) / self.num_data


def initial_params(model: Model, seeds: list[int]) -> Params:
    """Initial states as the model draws them, name -> (member, *shape)."""
    starts = [model.initial_params(seed) for seed in seeds]
    return {name: torch.stack([start[name] for start in starts]) for name in starts[0]}


def no_wider_than_prior(starts: Params, laws: Mapping[str, ParameterPrior], variances: Params) -> Params:
    """The starts, (member, *shape), under prior variances (member,); those of the network's parameters wider than the
    prior are shrunk to its width, parameter by parameter: Adam's small steps would not bring them back.
    """
    result = dict(starts)
    for name, law in laws.items():
        if not law.settings:  # its prior has no settings that could be narrow
            continue
        shrink = (_prior_deviations(law, variances) / starts[name].flatten(1).square().mean(1).sqrt()).clamp_max(1.0)
        result[name] = starts[name] * shrink.to(starts[name]).reshape(-1, *[1] * len(law.shape))
    return result


def _prior_deviations(law: ParameterPrior, variances: Params) -> Float[Tensor, " member"]:
    """The prior standard deviation of a parameter for each member, on average over its coordinates."""

    def deviation(values: Mapping[str, Tensor]) -> Tensor:
        prior = law.at(values)
        variance = prior.dense_variances.mean()
        for basis, pathway in zip(prior.bases, prior.coordinate_variances, strict=True):
            variance = variance + pathway.mean() * basis.rank / basis.size
        return variance.sqrt()

    result: Tensor = torch.vmap(deviation)(variances)
    return result
