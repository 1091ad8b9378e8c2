"""Ascent of the Laplace evidence in the logarithms of variances, by Adam or by Newton, at fixed weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from pyro.distributions import Distribution
from torch import Tensor

from bayes_rpp import BayesianModel
from bayes_rpp.known_variances import has_learned_noise
from bayes_rpp.likelihoods import NOISE
from bayes_rpp.priors.hyperpriors import exact_hyperprior, typical_value
from bayes_rpp.validation import without_validation
from inference.laplace.expansion import Expansion

_LEAST, _LARGEST = math.log(1e-12), math.log(1e8)
_AT_BOUND = 1e-6
LEAST_CURVATURE = 1 / 25  # of -d^2 / d(log v)^2: a standard deviation of 5


class EvidenceAscent:
    """Steps in the logarithms of the variances that a model learns: those of its prior, and the noise's. With
    hyperpriors, the evidence times their density over the logarithms is maximised. ``logs`` has the logarithms in
    float64, by the names of ``RPPPrior.variances``, and "noise_variance".
    """

    def __init__(self, model: BayesianModel) -> None:
        settings = model.prior.variances(model.network)
        self.hyperpriors: dict[str, Distribution] = {
            name: exact_hyperprior(value) for name, value in settings.items() if isinstance(value, Distribution)
        }
        starts = {name: float(typical_value(v) if isinstance(v, Distribution) else v) for name, v in settings.items()}
        if has_learned_noise(model):
            likelihood = model.gaussian
            assert likelihood is not None
            starts[NOISE] = float(likelihood.noise_variance)  # type: ignore[arg-type]
            self.hyperpriors[NOISE] = exact_hyperprior(likelihood.priors(model.num_outputs)[NOISE])
        self.logs = {
            name: torch.tensor(math.log(value), dtype=torch.float64, requires_grad=True)
            for name, value in starts.items()
        }
        self.optimizer = torch.optim.Adam(self.logs.values())

    @property
    def values(self) -> dict[str, float]:
        """The variances."""
        return {name: math.exp(float(log.detach())) for name, log in self.logs.items()}

    @torch.no_grad()
    def start_from(self, values: Mapping[str, float]) -> None:
        """Begin some variances elsewhere."""
        for name, value in values.items():
            self.logs[name].fill_(math.log(value))

    def objective(self, expansion: Expansion, logs: Mapping[str, Tensor] | None = None) -> Float[Tensor, ""]:
        """The log evidence, and the log density of hyperpriors; at other logarithms, if they are given."""
        logs = self.logs if logs is None else logs
        return self._log_evidence(expansion, logs) + self.log_hyperprior(logs)

    def _log_evidence(self, expansion: Expansion, logs: Mapping[str, Tensor]) -> Tensor:
        variances = {name: log.exp() for name, log in logs.items()}
        noise = variances.pop(NOISE, None)
        model = expansion.density.model
        assert isinstance(model, BayesianModel)
        laws = model.parameter_priors
        return expansion.log_evidence({name: law.at(variances) for name, law in laws.items()}, noise)

    def log_hyperprior(self, logs: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """The log density of the hyperpriors over the logarithms."""
        result = torch.zeros((), dtype=torch.float64)
        with without_validation():
            for name, law in self.hyperpriors.items():
                result = result + law.log_prob(logs[name].exp()) + logs[name]
        return result

    def adam_steps(self, expansions: Sequence[Expansion], steps: int, lr: float) -> float:
        """Steps of Adam on the mean over members; returns the mean log evidence before them, without hyperpriors.
        Members whose evidence or gradient is not finite do not count; without any there is no step, and NaN is
        returned.
        """
        self.optimizer.param_groups[0]["lr"] = lr
        before = math.nan
        for step in range(steps):
            values, slopes = self._mean_gradient(expansions)
            if not values:
                break
            before = sum(values) / len(values) if step == 0 else before
            for log, slope in zip(self.logs.values(), slopes, strict=True):
                log.grad = -slope
            if self.hyperpriors:
                (-self.log_hyperprior(self.logs)).backward()
            self.optimizer.step()
            self._clamp()
        return before

    def newton_step(self, expansions: Sequence[Expansion]) -> float:
        """One Newton step on the mean over members, all of which have an evidence; no variance changes by more than a
        factor of e, and one at its bound that would go beyond it stays. Returns the predicted gain, in nats: that of
        the whole step if the objective is a parabola.
        """
        names = list(self.logs)
        at = torch.stack([self.logs[name].detach() for name in names])
        slope, hessian = torch.zeros_like(at), torch.zeros(len(at), len(at)).to(at)
        for expansion in expansions:  # one graph at a time

            def objective(values: Tensor, expansion: Expansion = expansion) -> Tensor:
                return self.objective(expansion, dict(zip(names, values, strict=True)))

            leaf = at.clone().requires_grad_()
            slope += torch.autograd.grad(objective(leaf), leaf)[0] / len(expansions)
            hessian += torch.autograd.functional.hessian(objective, at) / len(expansions)
        free = torch.tensor([self.can_follow(name, *pair) for name, *pair in zip(names, at, slope, strict=True)])
        step = torch.zeros_like(at)
        step[free] = newton_direction(slope[free], hessian[free][:, free])
        with torch.no_grad():
            for log, change in zip(self.logs.values(), step.clamp(-1, 1), strict=True):
                log.add_(change)
        self._clamp()
        return 0.5 * float(slope @ step)

    def can_follow(self, name: str, log: Tensor, slope: Tensor) -> bool:
        """Whether a logarithm can move along its slope: it is not at a bound."""
        above, below = float(log) - self._least(name), _LARGEST - float(log)
        return not ((slope < 0 and above < _AT_BOUND) or (slope > 0 and below < _AT_BOUND))

    @torch.no_grad()
    def _clamp(self) -> None:
        for name, log in self.logs.items():
            log.clamp_(self._least(name), _LARGEST)

    def _mean_gradient(self, expansions: Sequence[Expansion]) -> tuple[list[float], list[Tensor]]:
        """The log evidence of every member that counts, and the mean of their gradients."""
        leaves, values = list(self.logs.values()), []
        slopes = [torch.zeros_like(leaf) for leaf in leaves]
        for expansion in expansions:  # one graph at a time
            try:
                value = self._log_evidence(expansion, self.logs)
                gradient = torch.autograd.grad(value, leaves, materialize_grads=True)
            except torch.linalg.LinAlgError:
                continue
            if value.isfinite() and all(part.isfinite() for part in gradient):
                values.append(float(value.detach()))
                slopes = [slope + part for slope, part in zip(slopes, gradient, strict=True)]
        return values, [slope / max(1, len(values)) for slope in slopes]

    def _least(self, name: str) -> float:
        """The lower bound of a logarithm: smaller variances make no difference; a noise variance has its floor."""
        return math.log(1.01 * float(self.hyperpriors[NOISE].support.lower_bound)) if name == NOISE else _LEAST


def newton_direction(slope: Float[Tensor, " log"], hessian: Float[Tensor, "log log"]) -> Float[Tensor, " log"]:
    """The step to the maximum of a parabola; along axes of too small or positive curvature, as if it were the least."""
    curvatures, axes = torch.linalg.eigh(-hessian)
    direction: Tensor = axes @ ((axes.mT @ slope) / curvatures.clamp_min(LEAST_CURVATURE))
    return direction
