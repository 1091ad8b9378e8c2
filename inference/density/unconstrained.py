"""The log joint of a model over unconstrained coordinates, one vector for each chain.

    U(z) = -log p(y, theta(z) | x) / T - log |d theta / d z|

z holds every parameter of one chain in unconstrained coordinates, T is the temperature. exp(-U) over z is the
distribution with density p(y, theta | x)^(1/T) over theta, the posterior at T = 1, whatever the constraints of theta.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from jaxtyping import Float
from pyro.distributions import Distribution
from torch import Tensor
from torch.distributions import biject_to, constraints

from bayes_rpp import BayesianModel
from bayes_rpp.types import Params
from bayes_rpp.validation import without_validation
from inference.compilation import Compile, GradientGraph
from inference.data import Model, Pair
from inference.density.fixed_priors import FixedPriors
from inference.density.latest_draws import check_start, latest_draws
from inference.posterior.map_draws import map_draws
from inference.posterior.posterior import Posterior


class UnconstrainedDensity:
    """U(z) and its gradient, for many free vectors z at once, on the data ``pair``, which is None for a LogDensity. The
    temperature T is that of the whole joint. ``num_data`` is N, or 0 without data; ``centred`` says whether weights are
    free coordinates themselves, see NonCentredDensity.
    """

    centred = True

    def __init__(
        self, model: Model, pair: Pair | None, temperature: float = 1.0, device: torch.device | str = "cpu"
    ) -> None:
        self._initial_params = model.initial_params  # of the model as it was, so that a seed means the same everywhere
        example = to_free(model.initial_params(0), model.constraints)
        self.model: Model = model.to(device)
        self.temperature, self.device = temperature, torch.device(device)
        self.shapes = {name: value.shape for name, value in example.items()}
        self.size = sum(math.prod(shape) for shape in self.shapes.values())
        self.dtype = self.pack(example).dtype
        self.pair = None if pair is None else (pair[0].to(device), pair[1].to(device))
        self.num_data = 0 if pair is None else len(pair[0])
        laws = self.model.fixed_priors if isinstance(self.model, BayesianModel) else {}
        like = {name: value.to(self.device, self.dtype) for name, value in example.items()}
        self._graph = GradientGraph(self._values)
        self._fixed = FixedPriors(laws, dict.fromkeys(laws, 1 / temperature), like)
        # In float64: in float32 the sum over a million parameters would be off by tenths of a nat, which samplers
        # accept or reject by. Gradients keep their type. MPS devices have no float64.
        self._wide = self.dtype if self.device.type == "mps" else torch.float64

    def initial(self, seeds: list[int]) -> Float[Tensor, "chain size"]:
        """One start for each seed: the model's own initial state."""
        starts = [self._initial_params(seed) for seed in seeds]
        return self.free({name: torch.stack([start[name] for start in starts]) for name in starts[0]})

    def latest(self, posterior: Posterior, chains: int) -> Float[Tensor, "chain size"]:
        """Draws of a posterior, one for each chain, see ``latest_draws``. Raises ValueError if its parameters are not
        this model's, not finite, or on the boundary of their constraint.
        """
        draws = latest_draws(self.model, self._initial_params(0), posterior, range(chains))
        z = self.free(draws).to(self.dtype)
        check_start(z)
        return z

    def free(self, params: Params) -> Float[Tensor, "*batch size"]:
        """The vectors of (constrained) parameters; the inverse of ``params``."""
        return self.pack(to_free(params, self.model.constraints)).to(self.device)

    def params(self, z: Float[Tensor, "*batch size"]) -> Params:
        """The (constrained) parameters of vectors."""
        return to_constrained(self.unpack(z), self.model.constraints)

    def pack(self, free: Params) -> Float[Tensor, "*batch size"]:
        """Free parameters, name -> (*batch, *shape), as vectors."""
        flat = []
        for name, shape in self.shapes.items():
            batch = free[name].shape[: free[name].ndim - len(shape)]
            flat.append(free[name].reshape(*batch, math.prod(shape)))
        return torch.cat(flat, dim=-1)

    def unpack(self, z: Float[Tensor, "*batch size"]) -> Params:
        """Vectors as free parameters; the inverse of ``pack``."""
        parts = z.split([math.prod(shape) for shape in self.shapes.values()], dim=-1)
        named = zip(self.shapes.items(), parts, strict=True)
        return {name: part.reshape((*z.shape[:-1], *shape)) for (name, shape), part in named}

    def potential(
        self, z: Float[Tensor, " size"], x: Tensor | None = None, y: Tensor | None = None
    ) -> Float[Tensor, ""]:
        """U of one vector, on all data by default, or on a minibatch, whose log likelihood counts N / batch times."""
        return self._potential(z, x, y)

    def _potential(
        self, z: Float[Tensor, " size"], x: Tensor | None, y: Tensor | None, without: Collection[str] = ()
    ) -> Float[Tensor, ""]:
        """U of one vector, without the priors of some parameters."""
        params = self.params(z)
        if not isinstance(self.model, BayesianModel):
            density = self.model.log_joint(params)
        elif x is None and self.pair is not None:
            exact = {name: value if name in without else value.to(self._wide) for name, value in params.items()}
            likelihood = self.model.log_likelihood_per_example(params, *self.pair).to(self._wide).sum()
            density = self.model.log_prior(exact, without) + likelihood
        elif x is None or y is None:
            raise ValueError("a BayesianModel's log joint needs data: x and y.")
        else:
            scale = self.num_data / len(x)
            density = self.model.log_prior(params, without) + scale * self.model.log_likelihood(params, x, y)
        return -(density / self.temperature + self.log_jacobian(z, params))

    def prior_potential(self, z: Float[Tensor, " size"]) -> Float[Tensor, ""]:
        """U of one vector without the likelihood; of a BayesianModel."""
        assert isinstance(self.model, BayesianModel)
        params = self.params(z)
        return -(self.model.log_prior(params) / self.temperature + self.log_jacobian(z, params))

    def priors(self, z: Float[Tensor, " size"]) -> dict[str, Distribution]:
        """The prior of every parameter in these coordinates, given the variances there; of a BayesianModel."""
        assert isinstance(self.model, BayesianModel)
        return self.model.distributions(self.params(z))

    def log_jacobian(self, z: Float[Tensor, " size"], params: Params) -> Float[Tensor, ""] | float:
        """log |d theta / d z| at the parameters of z."""
        free, result = self.unpack(z), 0.0
        for name, constraint in self.model.constraints.items():
            if constraint is not constraints.real:
                result = result + biject_to(constraint).log_abs_det_jacobian(free[name], params[name]).sum()
        return result

    def gradients(
        self, z: Float[Tensor, "chain size"], batch: Pair | None = None
    ) -> tuple[Float[Tensor, "chain size"], Float[Tensor, " chain"]]:
        """Gradients and values of U for all chains, on all data or a minibatch (x, y) with a leading chain axis."""
        with without_validation(), torch.enable_grad():  # a value out of bounds is no error
            leaf = z.detach().requires_grad_()
            values, (gradients,) = self._graph([leaf], leaf, *(batch or ()))
        return self._with_fixed_priors(z.detach(), gradients.contiguous(), values)

    def prepare(self, compile: Compile, calls: int, z: Float[Tensor, "chain size"], batch: Pair | None = None) -> None:
        """Compile what ``gradients`` evaluates, if that is wanted for so many calls; see GradientGraph."""
        with without_validation(), torch.enable_grad():
            leaf = z.detach().requires_grad_()
            self._graph.prepare(compile, calls, [leaf], leaf, *(batch or ()))

    def _values(self, z: Float[Tensor, "chain size"], *batch: Tensor) -> Float[Tensor, " chain"]:
        """U of all chains without the fixed priors. The chains are independent: the gradient of the sum is several
        times cheaper than vmap over grad_and_value.
        """
        return map_draws(lambda chain: self._without_fixed_priors(*chain), (z, *batch))

    def _without_fixed_priors(
        self, z: Float[Tensor, " size"], x: Tensor | None = None, y: Tensor | None = None
    ) -> Float[Tensor, ""]:
        return self._potential(z, x, y, without=self._fixed.laws)

    @torch.no_grad()
    def _with_fixed_priors(
        self, z: Float[Tensor, "chain size"], gradients: Float[Tensor, "chain size"], values: Float[Tensor, " chain"]
    ) -> tuple[Float[Tensor, "chain size"], Float[Tensor, " chain"]]:
        """Gradients and values of U from those without the fixed priors; the gradients are changed in place."""
        weights, slopes = self.unpack(z), self.unpack(gradients)
        for name in self._fixed.laws:
            slope = self._fixed.slope(name, weights[name])
            slopes[name] += slope
            values = values + (weights[name] * slope).reshape(len(z), -1).sum(1, dtype=self._wide) / 2
        return gradients, values + self._fixed.log_normalizer / self.temperature


def float64_density(model: Model, pair: Pair | None, temperature: float, device: torch.device) -> UnconstrainedDensity:
    """The density over unconstrained coordinates in float64; a LogDensity stays in the type of its example."""
    if isinstance(model, BayesianModel) and pair is not None:
        model = model.to(dtype=torch.float64)
        pair = tuple(part.double() if part.is_floating_point() else part for part in pair)  # type: ignore[assignment]
    return UnconstrainedDensity(model, pair, temperature, device)


def to_free(params: Params, constraint_of: Mapping[str, constraints.Constraint]) -> Params:
    """Every parameter as an unconstrained tensor."""
    return {name: biject_to(constraint_of[name]).inv(value) for name, value in params.items()}


def to_constrained(free: Params, constraint_of: Mapping[str, constraints.Constraint]) -> Params:
    """The inverse of ``to_free``."""
    return {name: biject_to(constraint_of[name])(value) for name, value in free.items()}
