"""Joint densities: a network with a prior and a likelihood."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection
from functools import cached_property

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import constraints

from bayes_rpp.likelihoods import Gaussian, Likelihood
from bayes_rpp.likelihoods.likelihood import check_likelihood, event_shape
from bayes_rpp.network_checks import check_examples_are_separate, check_finite, own_copy
from bayes_rpp.networks.descriptions import network_text
from bayes_rpp.networks.layers.roles import free_parameters
from bayes_rpp.networks.precision import input_dtype, warn_of_rounded_inputs
from bayes_rpp.priors.hyperpriors import exact_hyperprior, typical_value
from bayes_rpp.priors.pathway_normal import PathwayNormal
from bayes_rpp.priors.rpp_prior import RPPPrior
from bayes_rpp.seeding import seeded
from bayes_rpp.stateless import StatelessNetwork, without_weights
from bayes_rpp.types import Params, as_device


class BayesianModel:
    """p(theta) p(y | f(x; theta)): a network, a prior over its parameters, and a likelihood.

    Its functions take one dict of tensors, the network's parameters, the variances that have hyperpriors
    (``dense_variance``) and the likelihood's own parameters (``noise_variance``), constrained. They are pure, and work
    under ``torch.func`` (grad, vmap, jvp).

    Parameters
    ----------
    network : a module from inputs (batch, n) to outputs (batch, m), each example's by itself. The model keeps a copy:
        what happens to the module, its frozen parameters or its buffers later is not seen. Networks of this package
        know their representations.
    prior : an RPPPrior.
    likelihood : Gaussian, Categorical, or any other Likelihood.
    num_outputs : m, needed only for a network that has no ``rep_out``.

    Attributes
    ----------
    hyperpriors : the priors of the variances that are parameters of the model, by the settings' names; see
        ``RPPPrior.variances``.
    hierarchical : the network's parameters whose prior depends on such a variance.
    fixed_priors : the priors of the network's other parameters.
    stateless : the network as a function of its parameters; in evaluation mode, whatever mode the network is in.

    Raises
    ------
    ValueError
        If num_outputs is missing, the prior does not fit the network, two parameters have one name, a parameter of the
        likelihood lacks a prior or a constraint, or the network cannot be copied.
    TypeError
        If the likelihood lacks a method.

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
        check_likelihood(likelihood, num_outputs)
        network = own_copy(network)
        self.network, self.prior, self.likelihood = network, prior, likelihood
        free = free_parameters(network)
        frozen = {name: p.detach().clone() for name, p in network.named_parameters() if name not in free}
        if frozen and not free:
            raise ValueError(f"every parameter of this {type(network).__name__} is frozen; none is left to infer.")
        self.num_outputs, self.stateless = num_outputs, StatelessNetwork(network, frozen)
        self.hyperpriors: dict[str, dist.Distribution] = prior.hyperpriors(network)
        own = {"network": set(free), "prior": set(self.hyperpriors)}
        own["likelihood"] = set(likelihood.parameters(self.num_outputs))
        for first, second in itertools.combinations(own, 2):
            if clash := own[first] & own[second]:
                raise ValueError(f"{first} and {second} both have a parameter named {min(clash)!r}.")
        self._weights = frozenset(own["network"])
        self.parameter_priors, self._variances = prior.parameter_priors(network), prior.variances(network)
        self.fixed_priors = {
            name: law.at(self._variances)
            for name, law in self.parameter_priors.items()
            if not any(setting in self.hyperpriors for setting in law.settings)
        }
        self.hierarchical = tuple(name for name in self.parameter_priors if name not in self.fixed_priors)
        self._exact: dict[tuple[str, torch.device], dist.Distribution] = {}
        self._others: dict[str, dist.Distribution] = {**self.hyperpriors, **likelihood.priors(self.num_outputs)}

    def __repr__(self) -> str:
        return f"BayesianModel({network_text(self.network)}, {self.prior!r}, {self.likelihood!r})"

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> BayesianModel:
        """The same model with a copy of its network on a device, in a type; the model itself stays as it is. Raises
        ValueError if the device is not there.
        """
        device = None if device is None else as_device(device)
        result = copy.copy(self)
        result.network = copy.deepcopy(self.network).to(device=device, dtype=dtype)
        frozen = {name: value.to(device=device, dtype=dtype) for name, value in self.frozen.items()}
        result.stateless = StatelessNetwork(result.network, frozen)
        return result

    def without_weights(self, device: torch.device | str) -> BayesianModel:
        """The same model on a device, for parameters that are given: those of its network take no memory."""
        result = copy.copy(self)
        result.network = without_weights(self.network, self._weights, device)
        result.stateless = StatelessNetwork(result.network, {n: value.to(device) for n, value in self.frozen.items()})
        return result

    @property
    def frozen(self) -> Params:
        """The values of the network's frozen parameters, as they were when the model was made."""
        return self.stateless.frozen

    @property
    def prior_distributions(self) -> dict[str, dist.Distribution]:
        """The prior of every parameter; raises ValueError if variances have hyperpriors, see ``distributions``."""
        if self.hyperpriors:
            raise ValueError(
                f"{', '.join(self.hyperpriors)} have hyperpriors, on which the priors of the weights depend: take "
                "distributions(params)."
            )
        return self.distributions({})

    def distributions(self, params: Params) -> dict[str, dist.Distribution]:
        """The prior of every parameter; of the weights, given the variances among ``params`` that have hyperpriors.
        Raises ValueError if such a variance is missing.
        """
        given = {**self.fixed_priors, **self.hierarchical_laws(params)}
        hyper = {name: self._hyperprior(name, params[name].device) for name in self.hyperpriors}
        return {**{name: given[name] for name in self.parameter_priors}, **self._others, **hyper}

    def _hyperprior(self, name: str, device: torch.device) -> dist.Distribution:
        """The hyperprior on the value's device: some would move the value to theirs, and leave their term there."""
        if (name, device) not in self._exact:
            self._exact[name, device] = exact_hyperprior(self.hyperpriors[name], device)
        return self._exact[name, device]

    def hierarchical_laws(self, params: Params) -> dict[str, PathwayNormal]:
        """Those of ``distributions`` that depend on variances among ``params``, which may have batch dimensions."""
        if missing := [name for name in self.hyperpriors if name not in params]:
            raise ValueError(f"params lack the variance {missing[0]!r}, which has a hyperprior.")
        variances = self._variances | {name: params[name] for name in self.hyperpriors}
        return {name: self.parameter_priors[name].at(variances) for name in self.hierarchical}

    @cached_property
    def constraints(self) -> dict[str, constraints.Constraint]:
        """The constraint of every parameter; real for weights."""
        real = dict.fromkeys(self.parameter_priors, constraints.real)
        positive = dict.fromkeys(self.hyperpriors, constraints.positive)
        return {**real, **positive, **self.likelihood.constraints()}

    def initial_params(self, seed: int) -> Params:
        """A fresh initial state, by the layers' own ``reset_parameters``; the network itself is left as it is.

        Variances that have hyperpriors start at their medians.
        """
        network = copy.deepcopy(self.network)
        with seeded(seed, torch.device("cpu")):
            for module in network.modules():
                if callable(reset := getattr(module, "reset_parameters", None)):
                    reset()
        params = {name: parameter.detach() for name, parameter in network.named_parameters() if name in self._weights}
        like = next(iter(params.values()), torch.zeros(()))
        hyper = {name: typical_value(hyperprior) for name, hyperprior in self.hyperpriors.items()}
        own = hyper | self.likelihood.parameters(self.num_outputs)
        return {**params, **{name: value.to(like) for name, value in own.items()}}

    def output(self, params: Params, x: Float[Tensor, "batch *input"]) -> Float[Tensor, "batch *output"]:
        """The network's noise-free output; raises ValueError unless the params are those of the model."""
        weights = {name: value for name, value in params.items() if name not in self._others}
        if weights.keys() != self._weights:
            differing = sorted(weights.keys() ^ self._weights)
            what = "lack the network's parameter" if differing[0] in self._weights else "hold an unknown parameter"
            raise ValueError(f"params {what} {differing[0]!r}; the network has {sorted(self._weights)}.")
        return self.stateless(weights, x)

    def log_prior(self, params: Params, without: Collection[str] = ()) -> Float[Tensor, ""]:
        """log p(theta), over all parameters; with hyperpriors log p(weights | variances) + log p(variances). The terms
        of the parameters ``without`` are left out.
        """
        priors = {name: prior for name, prior in self.distributions(params).items() if name not in without}
        terms = [prior.log_prob(params[name]) for name, prior in priors.items()]
        return torch.stack(terms).sum() if terms else next(iter(params.values())).new_zeros(())

    def log_likelihood(self, params: Params, x: Tensor, y: Tensor) -> Float[Tensor, ""]:
        """log p(y | x, theta), summed over all examples and outputs."""
        return self.log_likelihood_per_example(params, x, y).sum()

    def log_likelihood_per_example(self, params: Params, x: Tensor, y: Tensor) -> Float[Tensor, " batch"]:
        """log p(y_i | x_i, theta) of each example."""
        return self.log_likelihood_of_outputs(self.output(params, x), y, params)

    def log_likelihood_of_outputs(
        self, outputs: Float[Tensor, "batch *output"], y: Tensor, params: Params
    ) -> Float[Tensor, " batch"]:
        """log p(y_i | f_i) of each example, given the network's outputs; raises ValueError if the likelihood does not
        give one number for each.
        """
        values = self.likelihood.log_prob(outputs, y, params)
        if values.shape != (len(outputs),):
            raise ValueError(
                f"log_prob of {type(self.likelihood).__name__} has shape {tuple(values.shape)} for {len(outputs)} "
                f"examples, but must have one number for each: ({len(outputs)},). Sum over outputs, or give the "
                "distribution events, .to_event(1)."
            )
        return values

    @property
    def gaussian(self) -> Gaussian | None:
        """The likelihood, if it says that it is a Gaussian: what some evidences need, and what has a noise variance."""
        found: Gaussian | None = getattr(self.likelihood, "gaussian", None)
        return found

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
        params = {name: pyro.sample(name, hyperprior) for name, hyperprior in self.hyperpriors.items()}
        for name, distribution in self.distributions(params).items():
            if name not in params:
                params[name] = pyro.sample(name, distribution)
        observed = self.likelihood.distribution(self.output(params, x), params)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("obs", observed, obs=y)

    def check_data(self, x: Tensor, y: Tensor) -> None:
        """Raise ValueError or TypeError if sizes disagree, a number is not finite, the width is another, or the network
        has no output of each example alone.
        """
        if x.ndim == 0 or y.ndim == 0:
            raise ValueError(f"x and y must be batches of examples, got shapes {tuple(x.shape)} and {tuple(y.shape)}.")
        if len(x) != len(y) or len(x) == 0:
            raise ValueError(f"x has {len(x)} examples and y has {len(y)}; they must agree, and there must be some.")
        self._check_width(x)
        check_finite("y", y)
        self.likelihood.check(y, self.num_outputs)
        if hasattr(self.network, "rep_out") and y.shape[1:] != (
            event := event_shape(self.likelihood, self.num_outputs)
        ):
            expected = ", ".join(["batch", *map(str, event)])
            raise ValueError(f"y has shape {tuple(y.shape)}; expected ({expected}).")
        weights: Params = {n: value.detach() for n, value in self.network.named_parameters() if n in self._weights}
        check_examples_are_separate(self.stateless, weights, self.as_input(x))

    def check_inputs(self, x: Tensor) -> None:
        """Raise ValueError if a number is not finite, or the width another; warn of types with too few digits."""
        self._check_width(x)
        warn_of_rounded_inputs(self.network, x)

    def _check_width(self, x: Tensor) -> None:
        rep_in = getattr(self.network, "rep_in", None)
        shapes = getattr(self.network, "input_shapes", [] if rep_in is None else [(rep_in.size,)])
        if shapes and tuple(x.shape[1:]) not in shapes:
            expected = " or ".join(f"(batch, {', '.join(map(str, shape))})" for shape in shapes)
            size = "" if rep_in is None or len(shapes) > 1 else f"rep_in = {rep_in} has size {rep_in.size}: "
            raise ValueError(f"x has shape {tuple(x.shape)}, but {size}expected {expected}.")
        check_finite("x", x)

    def as_input(self, x: Tensor) -> Tensor:
        """Inputs in the type that the network takes, its ``input_dtype`` or that of its parameters; whole numbers stay
        so for a network without ``rep_in``, and bytes for one of images, which has ``input_shapes``.
        """
        as_bytes = x.dtype == torch.uint8 and hasattr(self.network, "input_shapes")
        whole = not (x.is_floating_point() or hasattr(self.network, "rep_in"))
        return x if as_bytes or whole else x.to(input_dtype(self.network))
