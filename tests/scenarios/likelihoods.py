"""One model of every likelihood, with data that it generated itself; and two likelihoods of a user's own."""

import pyro.distributions as dist
import torch
from torch.distributions import constraints

from bayes_rpp import (
    RPPEMLP,
    SO,
    BayesianModel,
    Bernoulli,
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    LaplaceNoise,
    Likelihood,
    Poisson,
    RPPPrior,
    Scalar,
    StudentT,
    Vector,
)


class Exponential(Likelihood):
    """Waiting times with rate exp(f(x)): the least that a likelihood has to say."""

    def distribution(self, output, params):
        return dist.Exponential(output.exp()).to_event(1)

    def check(self, y, num_outputs):
        if y.shape[1:] != (num_outputs,) or not (y > 0).all():
            raise ValueError(f"waiting times must be positive, of shape (batch, {num_outputs}).")


class GammaTimes:
    """Waiting times with mean exp(f(x)) and a learned shape: no subclass, and with a parameter of its own."""

    def parameters(self, num_outputs):
        return {"shape": torch.tensor(2.0)}

    def priors(self, num_outputs):
        return {"shape": dist.LogNormal(torch.tensor(0.7), torch.tensor(1.0))}

    def constraints(self):
        return {"shape": constraints.positive}

    def distribution(self, output, params):
        return dist.Gamma(params["shape"], params["shape"] * (-output).exp()).to_event(1)

    def log_prob(self, output, y, params):
        return self.distribution(output, params).log_prob(y)

    def check(self, y, num_outputs):
        Exponential().check(y, num_outputs)


OWN = {"a user's": Exponential(), "a user's with a parameter": GammaTimes()}
BUILT_IN = {
    "Gaussian": Gaussian(0.2),
    "Gaussian, learned": Gaussian(0.2, learned=True),
    "LaplaceNoise": LaplaceNoise(0.3),
    "LaplaceNoise, learned": LaplaceNoise(0.3, learned=True, per_output=True),
    "StudentT": StudentT(4.0, 0.3),
    "StudentT, learned": StudentT(5.0, (0.3, 0.2, 0.4), learned=True),
    "HeteroscedasticGaussian": HeteroscedasticGaussian((2, 1)),
    "Categorical": Categorical(),
    "Bernoulli": Bernoulli(),
    "Poisson": Poisson(),
}
LIKELIHOODS = BUILT_IN | OWN


def numbers(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def own_parameters(likelihood, num_outputs, dtype=torch.float64):
    return {name: value.to(dtype) for name, value in likelihood.parameters(num_outputs).items()}


def outputs_of(name):
    """The number of outputs of the likelihood of this name: three numbers are observed, or one label."""
    return 5 if name == "HeteroscedasticGaussian" else 3


def observations(likelihood, output, seed=0):
    """A draw of y at the initial values of the likelihood's parameters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return likelihood.distribution(output, own_parameters(likelihood, output.shape[1], output.dtype)).sample()


def likelihood_model(name, layers=0, num_data=40, dtype=torch.float64, seed=0):
    """A model of this likelihood, and data that are drawn from it: the true outputs are linear in x."""
    likelihood, num_outputs = LIKELIHOODS[name], outputs_of(name)
    network = RPPEMLP(Vector + Scalar, num_outputs * Scalar, SO(3), channels=4, layers=layers).to(dtype)
    x = numbers(num_data, 4, seed=seed + 1, dtype=dtype)
    output = x @ numbers(4, num_outputs, seed=2, dtype=dtype) / 2
    return BayesianModel(network, RPPPrior(1.0, 0.5, scaling="none"), likelihood), (
        x,
        observations(likelihood, output, seed),
    )
