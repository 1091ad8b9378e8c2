"""Joint densities: a network with a prior and a likelihood, or any log density over a dict of tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cached_property

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import biject_to, constraints
from torch.func import functional_call

from bayes_rpp.likelihoods import Likelihood, Params
from bayes_rpp.priors import RPPPrior

Constraints = Mapping[str, constraints.Constraint]


class BayesianModel:
    """p(theta) p(y | f(x; theta)): a network, a prior over its parameters, and a likelihood.

    Its functions take one dict of tensors, the network's parameters and the likelihood's own (``noise_variance``),
    constrained. They are pure, and work under ``torch.func`` (grad, vmap, jvp).

    Parameters
    ----------
    network : a module from inputs (batch, n) to outputs (batch, m). Networks of this package know their
        representations.
    prior : an RPPPrior.
    likelihood : Gaussian, Categorical, or any Likelihood.
    num_outputs : m, needed only for a network that has no ``rep_out``.

    Raises
    ------
    ValueError
        If num_outputs is missing, or the prior does not fit the network.

    Examples
    --------
    >>> net = RPPEMLP(Vector, Scalar, SO(3), channels=8, layers=1)
    >>> model = BayesianModel(net, RPPPrior(), Gaussian(noise_variance=0.1))
    >>> model.log_joint(model.initial_params(seed=0), torch.randn(5, 3), torch.randn(5, 1)).shape
    torch.Size([])
    """

    def __init__(
        self, network: nn.Module, prior: RPPPrior, likelihood: Likelihood, num_outputs: int | None = None
    ) -> None:
        if num_outputs is None:
            rep_out = getattr(network, "rep_out", None)
            if rep_out is None:
                raise ValueError("this network has no `rep_out`: tell BayesianModel its num_outputs.")
            num_outputs = rep_out.size
        self.network, self.prior, self.likelihood = network, prior, likelihood
        self.num_outputs = num_outputs
        clash = set(likelihood.parameters(self.num_outputs)) & {name for name, _ in network.named_parameters()}
        if clash:
            raise ValueError(f"network and likelihood both have a parameter named {min(clash)!r}.")
        self.prior_distributions: dict[str, dist.Distribution] = {
            **prior.distributions(network),
            **likelihood.priors(self.num_outputs),
        }

    @cached_property
    def constraints(self) -> dict[str, constraints.Constraint]:
        """The constraint of every parameter; real for weights."""
        real = dict.fromkeys(self.prior_distributions, constraints.real)
        return {**real, **self.likelihood.constraints()}

    def initial_params(self, seed: int) -> Params:
        """A fresh initial state, by the layers' own ``reset_parameters``; the network itself is left as it is."""
        network = copy.deepcopy(self.network)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for module in network.modules():
                if callable(reset := getattr(module, "reset_parameters", None)):
                    reset()
        params = {name: parameter.detach() for name, parameter in network.named_parameters()}
        like = next(iter(params.values()), torch.zeros(()))
        own = {name: value.to(like) for name, value in self.likelihood.parameters(self.num_outputs).items()}
        return {**params, **own}

    def output(self, params: Params, x: Float[Tensor, "batch *input"]) -> Float[Tensor, "batch *output"]:
        """The network's noise-free output."""
        weights = {name: value for name, value in params.items() if name not in self.likelihood.constraints()}
        result: Tensor = functional_call(self.network, weights, (x,))
        return result

    def log_prior(self, params: Params) -> Float[Tensor, ""]:
        """log p(theta), over all parameters."""
        terms = [distribution.log_prob(params[name]) for name, distribution in self.prior_distributions.items()]
        return torch.stack(terms).sum()

    def log_likelihood(self, params: Params, x: Tensor, y: Tensor) -> Float[Tensor, ""]:
        """log p(y | x, theta), summed over all examples and outputs."""
        return self.log_likelihood_per_example(params, x, y).sum()

    def log_likelihood_per_example(self, params: Params, x: Tensor, y: Tensor) -> Float[Tensor, " batch"]:
        """log p(y_i | x_i, theta) of each example."""
        return self.likelihood.log_prob(self.output(params, x), y, params)

    def log_joint(
        self, params: Params, x: Tensor | None, y: Tensor | None, num_data: int | None = None
    ) -> Float[Tensor, ""]:
        """log p(y, theta | x), in nats.

        Parameters
        ----------
        params : every parameter.
        x, y : all data, or a minibatch.
        num_data : the size N of the whole data set; a minibatch's log likelihood is scaled by N / batch.
        """
        if x is None or y is None:
            raise ValueError("a BayesianModel's log joint needs data: x and y.")
        scale = 1.0 if num_data is None else num_data / len(x)
        return self.log_prior(params) + scale * self.log_likelihood(params, x, y)

    def pyro_model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The same joint as a Pyro program: one sample site for each parameter, and ``obs``.

        Any Pyro algorithm runs on it: ``NUTS(model.pyro_model)``, ``AutoNormal(model.pyro_model)``.
        """
        params = {name: pyro.sample(name, distribution) for name, distribution in self.prior_distributions.items()}
        observed = self.likelihood.distribution(self.output(params, x), params)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("obs", observed, obs=y)

    def check_data(self, x: Tensor, y: Tensor) -> None:
        """Refuse data that cannot be right.

        Raises
        ------
        ValueError, TypeError
            If sizes disagree, a number is not finite, or the width is not the network's.
        """
        if x.ndim == 0 or y.ndim == 0:
            raise ValueError(f"x and y must be batches of examples, got shapes {tuple(x.shape)} and {tuple(y.shape)}.")
        if len(x) != len(y) or len(x) == 0:
            raise ValueError(f"x has {len(x)} examples and y has {len(y)}; they must agree, and there must be some.")
        self.check_inputs(x)
        _check_finite("y", y)
        self.likelihood.check(y, self.num_outputs)
        if y.is_floating_point() and hasattr(self.network, "rep_out") and y.shape[1:] != (self.num_outputs,):
            raise ValueError(f"y has shape {tuple(y.shape)}; expected (batch, {self.num_outputs}).")

    def check_inputs(self, x: Tensor) -> None:
        """Refuse inputs that cannot be right; raises ValueError."""
        rep_in = getattr(self.network, "rep_in", None)
        if rep_in is not None and x.shape[1:] != (rep_in.size,):
            raise ValueError(
                f"x has shape {tuple(x.shape)}, but rep_in = {rep_in} has size {rep_in.size}: "
                f"expected (batch, {rep_in.size})."
            )
        _check_finite("x", x)

    def as_input(self, x: Tensor) -> Tensor:
        """Inputs in the type of the network's parameters; whole numbers stay so for a network without ``rep_in``."""
        if not (x.is_floating_point() or hasattr(self.network, "rep_in")):
            return x
        return x.to(next((p.dtype for p in self.network.parameters()), torch.get_default_dtype()))


def _check_finite(name: str, value: Tensor) -> None:
    bad = ~torch.isfinite(value)
    if bad.any():
        where = tuple(int(i) for i in bad.nonzero()[0])
        raise ValueError(f"{name} holds {int(bad.sum())} NaN or infinite number(s), the first at index {where}.")


class LogDensity:
    """Any log density over a dict of constrained tensors, for the engines to take in place of a BayesianModel.

    Parameters
    ----------
    log_density : a function of the dict, returning a scalar tensor; pure, and made of torch operations.
    example : one dict of admissible values; it gives names, shapes and dtypes.
    constraints : from ``torch.distributions.constraints``, for the names that are not free in R.

    Raises
    ------
    ValueError
        If the example breaks a constraint, or the log density of the example is not a finite scalar.

    Examples
    --------
    >>> target = LogDensity(lambda p: -0.5 * p["z"].square().sum(), {"z": torch.zeros(3)})
    >>> target.log_joint({"z": torch.ones(3)})
    tensor(-1.5000)
    """

    def __init__(
        self,
        log_density: Callable[[Params], Float[Tensor, ""]],
        example: Params,
        constraints: Constraints | None = None,
    ) -> None:
        real = torch.distributions.constraints.real
        unknown = set(constraints or {}) - set(example)
        if unknown:
            raise ValueError(f"constraints name {sorted(unknown)}, but the example has {sorted(example)}.")
        self.log_density, self.example = log_density, dict(example)
        self.constraints = {name: (constraints or {}).get(name, real) for name in example}
        for name, value in example.items():
            if not self.constraints[name].check(value).all():
                raise ValueError(
                    f"the example's {name!r} = {value.tolist()} breaks its constraint {self.constraints[name]}."
                )
        value = log_density(dict(example))
        if value.shape != () or not torch.isfinite(value):
            raise ValueError(f"log_density must give a finite scalar at the example, got {value}.")

    def initial_params(self, seed: int) -> Params:
        """Uniform on (-2, 2) in the unconstrained space, in the constrained one."""
        generator, params = torch.Generator().manual_seed(seed), {}
        for name, value in self.example.items():
            transform = biject_to(self.constraints[name])
            free = transform.inv(value)
            start = 4 * torch.rand(free.shape, generator=generator, dtype=torch.float64) - 2
            params[name] = transform(start.to(free))
        return params

    def log_joint(
        self, params: Params, x: None = None, y: None = None, num_data: int | None = None
    ) -> Float[Tensor, ""]:
        """The log density; takes no data."""
        return self.log_density(params)
