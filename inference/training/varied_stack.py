r"""Gradient training of many members at once, each under prior variances and a noise variance of its own.

A parameter is trained in units of its prior, theta = s u with s = min(1, 10 x prior standard deviation): Adam's steps
have about the size of its learning rate, whatever the gradient, and would carry weights of a narrow prior far out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp import BayesianModel
from bayes_rpp.likelihoods import NOISE, Gaussian
from bayes_rpp.priors.variance_settings import ParameterLaw
from bayes_rpp.types import Params
from inference.data import Pair

_UNITS = 10.0


class VariedStack:
    """A stack of parameters, with one optimiser and one graph for all members.

    Parameters
    ----------
    model : whose network and likelihood they share.
    starts : name -> (member, *shape), of the network's parameters.
    values : variances of each member, (member,), by the names of ``RPPPrior.variances``, and "noise_variance" of a
        Gaussian likelihood, if it is to differ from the model's.
    lr : Adam's learning rate, in units of the prior.
    device : where to compute.
    """

    def __init__(self, model: BayesianModel, starts: Params, values: Params, lr: float, device: torch.device) -> None:
        self.model = model.to(device)
        self.device, self.members = device, len(next(iter(starts.values())))
        self.laws = model.prior.laws(model.network)
        self.likelihood = model.likelihood
        if isinstance(self.likelihood, Gaussian) and NOISE in values:
            self.likelihood = replace(self.likelihood, learned=True)
        self.values = {name: value.to(device) for name, value in values.items()}
        self.scales = self._scales()
        self.units = {name: (value.to(device) / self.scales[name]).requires_grad_() for name, value in starts.items()}
        self.optimizer = torch.optim.Adam(self.units.values(), lr=lr, fused=True)

    def step(self, batch: Pair, num_data: int) -> Float[Tensor, " member"]:
        """One step of Adam on -log joint / N of every member; returns the losses before it.

        Parameters
        ----------
        batch : (x, y), each with a leading member dimension.
        num_data : N.
        """

        def loss(units: Params, scales: Params, values: Params, x: Tensor, y: Tensor) -> Tensor:
            params = {name: value * scales[name] for name, value in units.items()}
            prior = torch.stack([law.at(values).log_prob(params[name]) for name, law in self.laws.items()]).sum()
            outputs = self.model.output(params, x)
            noise = {NOISE: values[NOISE].to(outputs)} if NOISE in values else {}
            likelihood = self.likelihood.log_prob(outputs, y, noise).sum()
            return -(prior + num_data / len(x) * likelihood) / num_data

        losses = torch.func.vmap(loss)(self.units, self.scales, self.values, *batch)
        gradients = torch.autograd.grad(losses.sum(), list(self.units.values()))
        for leaf, gradient in zip(self.units.values(), gradients, strict=True):
            leaf.grad = gradient.contiguous()  # the fused optimiser misreads expanded gradients
        self.optimizer.step()
        return losses.detach()

    @torch.no_grad()
    def set_values(self, values: Params) -> None:
        """Go on from the same weights, under other variances."""
        self.values = {name: value.to(self.device) for name, value in values.items()}
        before, self.scales = self.scales, self._scales()
        for name, leaf in self.units.items():
            ratio = self.scales[name] / before[name]
            leaf /= ratio
            if state := self.optimizer.state.get(leaf):
                state["exp_avg"] *= ratio
                state["exp_avg_sq"] *= ratio**2

    @torch.no_grad()
    def params(self) -> Params:
        """A copy of the network's parameters, name -> (member, *shape), on the CPU."""
        return {name: (value * self.scales[name]).cpu() for name, value in self.units.items()}

    def _scales(self) -> Params:
        """s of every parameter, (member, 1, ...)."""
        return {
            name: _spread(torch.vmap(lambda values, law=law: prior_deviation(law, values))(self.values), law)
            for name, law in self.laws.items()
        }


def stacked_starts(model: BayesianModel, seeds: list[int]) -> Params:
    """The network's parameters as the model draws them, name -> (member, *shape)."""
    starts = [model.initial_params(seed) for seed in seeds]
    return {name: torch.stack([start[name] for start in starts]) for name, _ in model.network.named_parameters()}


def prior_deviation(law: ParameterLaw, values: Params) -> Float[Tensor, ""]:
    """The prior standard deviation of a parameter, on average over its coordinates."""
    prior = law.at(values)
    variance = prior.dense_variance
    for basis, pathway in zip(prior.bases, prior.pathway_variances, strict=True):
        variance = variance + pathway * basis.rank / basis.size
    return variance.sqrt()


def no_wider_than_prior(starts: Params, laws: Mapping[str, ParameterLaw], values: Params) -> Params:
    """Starts that are wider than the prior, shrunk to its width, parameter by parameter: Adam's small steps would not
    bring them back.

    Parameters
    ----------
    starts : name -> (member, *shape).
    laws : of the parameters.
    values : the variances of each member, (member,).
    """
    result = {}
    for name, law in laws.items():
        deviation = torch.vmap(lambda member, law=law: prior_deviation(law, member))(values)
        shrink = (deviation / starts[name].flatten(1).square().mean(1).sqrt()).clamp_max(1.0)
        result[name] = starts[name] * shrink.to(starts[name]).reshape(-1, *[1] * len(law.shape))
    return result


def _spread(deviation: Float[Tensor, " member"], law: ParameterLaw) -> Tensor:
    return (_UNITS * deviation).clamp_max(1.0).reshape(-1, *[1] * len(law.shape))
