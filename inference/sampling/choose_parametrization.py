"""The choice of the parametrization that chains sample in, and the conversion of their draws to the model's own."""

from __future__ import annotations

import copy
import logging

import torch

from bayes_rpp import BayesianModel
from bayes_rpp.networks.layers.rpp_linear import Parametrization
from bayes_rpp.networks.reparametrize import residual_layers
from inference.data import Model, Pair
from inference.density.noncentred import sampling_density
from inference.metrics.condition_number import condition_number
from inference.metrics.preconditioned import PreconditionedDensity
from inference.posterior.parametrization import hyperpriors_differ, in_other_parametrization, refuse_other_distribution
from inference.posterior.posterior import Posterior
from inference.sampling.settings import ChainSettings

logger = logging.getLogger(__name__)


def choose_parametrization(
    settings: ChainSettings,
    model: Model,
    pair: Pair | None,
    start: Posterior | None,
    seed: int,
    device: torch.device | str = "cpu",
) -> tuple[Model, Posterior | None]:
    """The model in the sampler's parametrization, and the start of the chains in it.

    "auto" takes the parametrization with the smaller condition number in the coordinates of the metric, at the start;
    where they are about the same, the collapsed one, which has fewer coordinates; and the given one where the two are
    different distributions, see ``hyperpriors_differ``. Raises TypeError if another parametrization than the given one
    is wanted for a LogDensity, and ValueError if the network has no residual pathway layers, or the wanted
    parametrization would be another distribution.
    """
    if settings.parametrization == "given":
        return model, start
    if not isinstance(model, BayesianModel):
        raise TypeError(
            f"parametrization={settings.parametrization!r} needs a BayesianModel; a LogDensity has only one."
        )
    if len({layer.parametrization for layer in residual_layers(model.network).values()}) > 1:
        raise ValueError(
            f"parametrization={settings.parametrization!r} needs a network whose residual layers are all alike; this "
            "has residual and collapsed ones. Use 'given'."
        )
    wanted: tuple[Parametrization, ...] = ("collapsed", "residual")
    if settings.parametrization != "auto":
        wanted = (settings.parametrization,)
    elif hyperpriors_differ(model, settings.temperature):
        return model, start
    twins = {name: _in(model, name, settings.temperature) for name in wanted}
    starts = {name: _start(twin, name, start, seed) for name, twin in twins.items()}
    if len(wanted) == 1:
        return twins[wanted[0]], starts[wanted[0]]
    numbers = {name: _condition(settings, twin, pair, starts[name], seed, device) for name, twin in twins.items()}
    best: Parametrization = "collapsed" if numbers["collapsed"] <= 1.1 * numbers["residual"] else "residual"
    logger.info("condition numbers %s: the chains sample in the %s parametrization", numbers, best)
    return twins[best], starts[best]


def in_given_parametrization(posterior: Posterior, model: Model, seed: int) -> Posterior:
    """The posterior in the parametrization of the model that was given."""
    if posterior.model is model or not isinstance(model, BayesianModel):
        return posterior
    sampled = residual_layers(posterior.bayesian_model.network).values()
    given = residual_layers(model.network).values()
    parametrization = next(iter(given)).parametrization
    for part in (posterior, *posterior.partial):
        part.stats["parametrization"] = next(iter(sampled)).parametrization
    converted = copy.copy(posterior.in_parametrization(parametrization, seed))
    for part in (converted, *converted.partial):
        part.model = model
    return converted


def _in(model: BayesianModel, parametrization: Parametrization, temperature: float) -> BayesianModel:
    layers = residual_layers(model.network).values()
    if all(layer.parametrization == parametrization for layer in layers):
        return model
    refuse_other_distribution(model, temperature)
    return in_other_parametrization(model, parametrization)


def _start(candidate: BayesianModel, name: Parametrization, start: Posterior | None, seed: int) -> Posterior | None:
    return None if start is None or candidate is start.model else start.in_parametrization(name, seed)


def _condition(
    settings: ChainSettings,
    model: BayesianModel,
    pair: Pair | None,
    start: Posterior | None,
    seed: int,
    device: torch.device | str,
) -> float:
    density = sampling_density(model, pair, settings.temperature, device, centred=settings.centred)
    z = density.initial([seed]) if start is None else density.latest(start, 1)
    return condition_number(PreconditionedDensity(density, settings.metric, z, seed), z[0])
