r"""The parameters of many members as one stack, which one graph and one optimiser train.

    u_m <- Adam(u_m, d loss(theta_m) / d u_m),    theta_m = T(s_m u_m)

for every member m. T takes free coordinates to constrained parameters; s is the unit in which a parameter is trained,
since Adam's steps have about the size of its learning rate, whatever the gradient.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp import BayesianModel
from bayes_rpp.likelihoods import NOISE
from bayes_rpp.types import Params
from inference.compilation import Compile, GradientGraph
from inference.data import Model, Pair
from inference.density.fixed_priors import FixedPriors
from inference.density.unconstrained import to_constrained, to_free
from inference.interrupts import not_interrupted
from inference.training.objectives import LogJoint, LogJointGivenVariances, initial_states


class ParameterStack:
    """Parameters of many members, and a step of Adam for all of them.

    ``starts`` are constrained, name -> (member, *shape); ``variances`` differ between the members, (member,) by name,
    if the objective takes any. ``coordinates`` are u, (member, *shape), and ``units`` s, (member, 1, ...), or empty.
    With ``bfloat16`` products of matrices and convolutions are rounded to that type, and nothing else is.
    ``steps`` counts those that were taken, and ``latest`` has the losses before the last of them.
    """

    def __init__(
        self,
        objective: LogJoint,
        starts: Params,
        device: torch.device | str,
        variances: Params | None = None,
        bfloat16: bool = False,
    ) -> None:
        self.objective, self.device, self.bfloat16 = objective, device, bfloat16
        if bfloat16 and any(value.dtype == torch.float64 for value in starts.values()):
            raise ValueError("bfloat16=True rounds products of float32 networks, and this network is float64.")
        self.members = len(next(iter(starts.values())))
        self.variances = {name: value.to(device) for name, value in (variances or {}).items()}
        free = {name: value.to(device) for name, value in to_free(starts, objective.constraints).items()}
        self.units = self._units(free)
        self.coordinates = {
            name: (value / self.units[name] if self.units else value.clone()).requires_grad_()
            for name, value in free.items()
        }
        self.optimizer = torch.optim.Adam(self.coordinates.values(), fused=True)
        self._priors, self._graph = self._fixed_priors(), GradientGraph(self._rests)
        self._first_noise = self._noise({name: value.to(device) for name, value in starts.items()})
        self.steps, self.latest = 0, torch.full((self.members,), math.inf, device=device)

    def step(self, batch: Pair | None, lr: float) -> Float[Tensor, " member"]:
        """One step for every member, at a learning rate in units s; returns the losses before it, without the terms of
        the fixed priors. A batch (x, y) has a leading member dimension; it is None for a density without data.
        """
        losses, gradients = self.gradients(batch)
        for name, leaf in self.coordinates.items():
            leaf.grad = gradients[name].contiguous()  # the fused optimiser misreads expanded gradients
        self.optimizer.param_groups[0]["lr"] = lr
        with not_interrupted():
            self.optimizer.step()
            self.steps, self.latest = self.steps + 1, losses
        return losses

    def prepare(self, compile: Compile, steps: int, batch: Pair | None) -> None:
        """Compile the graph, if that is wanted for so many steps; see GradientGraph."""
        self._graph.prepare(compile, steps, list(self.coordinates.values()), *self._arguments(batch))

    def gradients(self, batch: Pair | None) -> tuple[Float[Tensor, " member"], Params]:
        """The losses of ``step``, and the gradients of the whole losses in ``coordinates``: nearly all that a step
        costs.
        """
        losses, found = self._graph(list(self.coordinates.values()), *self._arguments(batch))
        gradients = dict(zip(self.coordinates, found, strict=True))
        with torch.no_grad():
            params = self._params(self.coordinates, self.units)
            return losses, self._in_units_of_noise(self._priors.added_to(gradients, params), params, batch)

    def losses(self, batch: Pair | None) -> Float[Tensor, " member"]:
        """The loss of every member, differentiable."""
        fixed = self._priors.log_prob(self._params(self.coordinates, self.units))
        return self._rests(*self._arguments(batch)) - fixed / max(self.objective.num_data, 1)

    def _arguments(self, batch: Pair | None) -> tuple[Params, Params, Params, Tensor | None, Tensor | None]:
        x, y = batch or (None, None)
        return self.coordinates, self.units, self.variances, x, y

    def _rests(
        self, coordinates: Params, units: Params, variances: Params, x: Tensor | None, y: Tensor | None
    ) -> Float[Tensor, " member"]:
        """What the fixed priors leave of the losses."""
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.bfloat16):
            return self._rest_of_all(coordinates, units, variances, x, y)

    def _rest_of_all(
        self, coordinates: Params, units: Params, variances: Params, x: Tensor | None, y: Tensor | None
    ) -> Float[Tensor, " member"]:
        if self.members == 1:  # the same, without the cost of vmap
            coordinates, units, variances = map(_only_member, (coordinates, units, variances))
            rest = self._rest(coordinates, units, variances, None if x is None else x[0], None if y is None else y[0])
            return rest[None]
        per_member = None if x is None else 0
        in_dims = (0, 0, 0, per_member, per_member)
        result: Tensor = torch.func.vmap(self._rest, in_dims=in_dims)(coordinates, units, variances, x, y)
        return result

    def _in_units_of_noise(self, gradients: Params, params: Params, batch: Pair | None) -> Params:
        """Gradients that do not depend on how far too small a learned noise s^2 starts.

        With D outputs and squared residuals r^2, d loss / d log s^2 is D/2 (1 - r^2/s^2): at most D/2, but without
        bound below. It is cut off where the mean of r^2/s^2 over the n numbers of a batch is more than six standard
        deviations of a normal one above three. The gradients of the weights, in proportion to 1/s^2, are taken times
        s^2 as far as it has grown. Otherwise Adam would remember the large first ones for a thousand steps.
        """
        own = self._own_names()
        if batch is None or not own:
            return gradients
        outputs, noise = batch[1].shape[2:].numel(), self._noise(params)
        for name, gradient in gradients.items():
            if name in own:
                each = outputs / gradient[0].numel()  # D, for a noise that all outputs share
                bound = self.units[name] * each * (1 + 3 * math.sqrt(2 / (each * batch[1].shape[1])))
                gradients[name] = gradient.clamp(-bound, bound)
            else:
                factor = (noise / self._first_noise).clamp_min(1.0).to(gradient)
                gradients[name] = gradient * factor.reshape(-1, *[1] * (gradient.ndim - 1))
        return gradients

    def _own_names(self) -> list[str]:
        """The likelihood's own parameters."""
        return [name for name in self.coordinates if name not in self._priors.laws] if self.units else []

    def _noise(self, params: Params) -> Float[Tensor, " member"]:
        """The noise of every member, the mean over outputs that have one each."""
        means = [params[name].reshape(self.members, -1).mean(1) for name in self._own_names()]
        return torch.stack(means).prod(0) if means else torch.ones(())

    def _units(self, like: Params) -> Params:
        """s of every parameter, (member, 1, ...), in its type."""
        units = self.objective.units(self.variances)
        return {
            name: unit.to(like[name]).expand(self.members).reshape(-1, *[1] * (like[name].ndim - 1))
            for name, unit in units.items()
        }

    def _fixed_priors(self) -> FixedPriors:
        """The gradient of -log p(s u) / N in u is s Sigma^-1 (s u) / N."""
        laws, examples = self.objective.fixed_priors(self.variances), max(self.objective.num_data, 1)
        scales = {name: self.units[name] / examples if self.units else 1 / examples for name in laws}
        return FixedPriors(laws, scales, self.coordinates)

    @torch.no_grad()
    def params(self) -> Params:
        """A copy of the constrained parameters, name -> (member, *shape), on the CPU."""
        return {name: value.clone().cpu() for name, value in self._params(self.coordinates, self.units).items()}

    @torch.no_grad()
    def set_variances(self, variances: Params) -> None:
        """Go on from the same parameters, under other variances."""
        self.variances = {name: value.to(self.device) for name, value in variances.items()}
        before, self.units = self.units, self._units(self.coordinates)
        self._priors = self._fixed_priors()
        for name, unit in self.units.items():
            leaf, ratio = self.coordinates[name], unit / before[name]
            leaf /= ratio
            if state := self.optimizer.state.get(leaf):
                state["exp_avg"] *= ratio
                state["exp_avg_sq"] *= ratio**2

    @torch.no_grad()
    def state(self, done: bool = False) -> dict[str, Tensor]:
        """The coordinates, what Adam keeps of each, and the latest losses, not copied: from them training goes on with
        the same bits. When it is done, without what Adam keeps.
        """
        named = {f"coordinates/{name}": leaf.detach() for name, leaf in self.coordinates.items()}
        for name, leaf in self.coordinates.items() if not done else ():
            named |= {f"adam/{kept}/{name}": value for kept, value in self.optimizer.state.get(leaf, {}).items()}
        return named | {"latest": self.latest}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor], steps: int) -> None:
        """Go on from a state, after so many steps."""
        self.steps, self.latest = steps, state["latest"].to(self.device, copy=True)
        for name, leaf in self.coordinates.items():
            leaf.copy_(state[f"coordinates/{name}"])
            moments = [kept for kept in ("step", "exp_avg", "exp_avg_sq") if f"adam/{kept}/{name}" in state]
            self.optimizer.state[leaf] = {
                kept: state[f"adam/{kept}/{name}"].to(leaf.device, copy=True) for kept in moments
            }

    def _rest(
        self, coordinates: Params, units: Params, variances: Params, x: Tensor | None, y: Tensor | None
    ) -> Float[Tensor, ""]:
        return self.objective.rest(self._params(coordinates, units), variances, x, y)

    def _params(self, coordinates: Params, units: Params) -> Params:
        """The parameters theta, of one member or of all."""
        free = {name: value * units[name] for name, value in coordinates.items()} if units else coordinates
        return to_constrained(free, self.objective.constraints)


def joint_stack(
    model: Model,
    seeds: list[int],
    num_data: int,
    device: torch.device | str = "cpu",
    bfloat16: bool = False,
    starts: Params | None = None,
) -> ParameterStack:
    """Members of a model as it is, from constrained ``starts``, name -> (member, *shape), or each from the initial
    state of its seed, which means the same on every device.
    """
    starts = initial_states(model, seeds) if starts is None else starts
    placed = model.without_weights(device) if isinstance(model, BayesianModel) else model.to(device)
    return ParameterStack(LogJoint(placed, num_data), starts, device, bfloat16=bfloat16)


def varied_stack(
    model: BayesianModel, starts: Params, variances: Params, num_data: int, device: torch.device | str = "cpu"
) -> ParameterStack:
    """Members that share a model's network and likelihood, under variances of their own. ``starts`` are constrained,
    name -> (member, *shape); that of a noise variance is left out. ``variances``, (member,), go by the names of
    ``RPPPrior.variances``, and "noise_variance" of a Gaussian likelihood, if it is to differ from the model's.
    """
    objective = LogJointGivenVariances(model.without_weights(device), num_data, NOISE in variances)
    return ParameterStack(objective, {name: starts[name] for name in objective.constraints}, device, variances)


def _only_member(stacked: Params) -> Params:
    return {name: value.squeeze(0) for name, value in stacked.items()}  # select would copy gradients


def finite_members(params: Params) -> list[int]:
    """The members of a stack whose parameters are all finite."""
    finite = torch.stack([value.reshape(len(value), -1).isfinite().all(1) for value in params.values()]).all(0)
    return finite.nonzero().flatten().tolist()
