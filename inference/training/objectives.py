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

_LARGEST_UNIT, _DEVIATIONS, _NOISE_UNIT = 1.0, 10.0, 10.0


class LogJoint:
    """-log p(y, theta | x) / N of a model as it is; of a LogDensity, -log p(theta).

    A weight is trained in units of its prior, s = min(1, 10 x prior standard deviation): Adam's steps have about the
    size of the learning rate, and would carry weights of a narrow prior far out and back. The likelihood's own
    parameters are trained in units of ten of a free coordinate (the logarithm of a noise variance), since they may have
    orders of magnitude to go.
    """

    def __init__(self, model: Model, num_data: int) -> None:
        self.model, self.num_data, self.constraints = model, num_data, model.constraints

    def units(self, variances: Params) -> Params:
        """s of every parameter, one number or (member,), given the variances of each member; empty if all are one."""
        if not isinstance(self.model, BayesianModel):
            return {}
        return {
            name: _unit(self.model.fixed_priors[name]) if name in self.model.fixed_priors else torch.tensor(_NOISE_UNIT)
            for name in self.constraints
        }

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
    """-log p(y, theta | x, v) / N with prior variances, and a noise variance, that differ between the members. Other
    parameters of the likelihood are trained with the weights.
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

        def units(values: Mapping[str, Tensor]) -> Params:
            return {name: _unit(law.at(values)) for name, law in self.laws.items()}

        found: Params = torch.vmap(units)(variances)
        return found | dict.fromkeys(self.own, torch.tensor(_NOISE_UNIT))

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


def initial_states(model: Model, seeds: list[int]) -> Params:
    """Initial states, name -> (member, *shape), that are no wider than the model's prior."""
    starts = initial_params(model, seeds)
    if not isinstance(model, BayesianModel):
        return starts
    known = model.prior.variances(model.network).items()
    variances = {
        name: torch.full((len(seeds),), value, dtype=torch.float64)
        for name, value in known
        if name not in model.hyperpriors
    }
    return no_wider_than_prior(starts, {name: model.parameter_priors[name] for name in model.fixed_priors}, variances)


def no_wider_than_prior(starts: Params, laws: Mapping[str, ParameterPrior], variances: Params) -> Params:
    """The starts, (member, *shape), under prior variances (member,); those of the network's parameters wider than the
    prior are shrunk to its width, parameter by parameter: Adam's small steps would not bring them back.
    """

    def deviations(values: Mapping[str, Tensor]) -> Params:
        return {name: _deviation(law.at(values)) for name, law in laws.items() if law.settings}

    result = dict(starts)
    for name, width in torch.vmap(deviations)(variances).items():
        shrink = (
            (width / starts[name].reshape(len(starts[name]), -1).square().mean(1).sqrt())
            .clamp_max(1.0)
            .to(starts[name])
        )
        result[name] = starts[name] * shrink.reshape(-1, *[1] * len(laws[name].shape))
    return result


def _unit(prior: PathwayNormal) -> Float[Tensor, ""]:
    return (_DEVIATIONS * _deviation(prior)).clamp_max(_LARGEST_UNIT)


def _deviation(prior: PathwayNormal) -> Float[Tensor, ""]:
    """The standard deviation of a parameter, on average over its coordinates."""
    variance = prior.dense_variances.mean()
    for basis, pathway in zip(prior.bases, prior.coordinate_variances, strict=True):
        variance = variance + pathway.mean() * basis.rank / basis.size
    return variance.sqrt()
