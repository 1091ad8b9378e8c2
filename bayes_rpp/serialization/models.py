"""Models as plain dicts of JSON values, and back: what a saved posterior needs to be rebuilt from its files alone."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bayes_rpp.bayesian_model import BayesianModel
from bayes_rpp.groups.group import Group
from bayes_rpp.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    LaplaceNoise,
    Poisson,
    StudentT,
)
from bayes_rpp.networks.conv_network import RPPConvNet
from bayes_rpp.networks.emlp import EMLP, MLP, RPPEMLP, SymmetricNetwork
from bayes_rpp.networks.hamiltonian import HamiltonianRollout
from bayes_rpp.networks.invariant_lift import InvariantLift, LiftedNetwork
from bayes_rpp.networks.precision import weights_dtype
from bayes_rpp.networks.residual_sum import ResidualSum
from bayes_rpp.networks.transition import TransitionRollout
from bayes_rpp.normalization import NormalizedNetwork, Standardizer
from bayes_rpp.serialization.groups import describe_group, describe_rep, rebuild_group, rebuild_rep
from bayes_rpp.serialization.priors import describe_prior, exact_description, rebuild_prior
from bayes_rpp.serialization.registry import Description, class_name, described, rebuilt, register
from bayes_rpp.types import Params

_DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}


def describe_model(model: object) -> Description | None:
    """A model as JSON values, or None if it has a part of a class that is not registered, or the network is not what
    its arguments make: a layer was replaced, or two share weights. Values of frozen parameters are left out.
    """
    if not isinstance(model, BayesianModel):
        return None
    network, likelihood, prior = described(model.network), described(model.likelihood), describe_prior(model.prior)
    if network is None or likelihood is None or prior is None or not _is_as_described(model.network, network):
        return None
    dtype = str(weights_dtype(model.network)).removeprefix("torch.")
    outputs = model.num_outputs
    return {"network": network, "prior": prior, "likelihood": likelihood, "num_outputs": outputs, "dtype": dtype}


def model_identity(model: object) -> Description:
    """What is known exactly of a model, as JSON values: enough to distinguish models, not to build them again. It holds
    the settings of prior and likelihood, and a registered network's description or the classes of another's modules;
    it is empty for a LogDensity, which is a function and nothing else.
    """
    if not isinstance(model, BayesianModel):
        return {}
    modules = {name: class_name(type(module)) for name, module in model.network.named_modules()}
    return {
        "prior": exact_description(model.prior),
        "likelihood": exact_description(model.likelihood),
        "network": described(model.network) or modules,
        "frozen": {name: _digest(value) for name, value in model.frozen.items()},
    }


def _digest(value: Tensor) -> str:
    return hashlib.sha256(value.cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def _is_as_described(network: nn.Module, description: Description) -> bool:
    def layout(module: nn.Module) -> tuple[dict[str, type], dict[str, torch.Size]]:
        shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
        return {name: type(part) for name, part in module.named_modules()}, shapes

    return layout(network) == layout(rebuilt("network", description))


def rebuild_model(description: Description, frozen: Params | None = None) -> BayesianModel:
    """The model that ``describe_model`` described, with these values of frozen parameters; raises ValueError for
    unknown names or a missing part.
    """
    try:
        network = rebuilt("network", description["network"]).to(_DTYPES[description["dtype"]])
        for name, value in (frozen or {}).items():
            network.get_parameter(name).requires_grad_(False).copy_(value)
        likelihood = rebuilt("likelihood", description["likelihood"])
        prior, outputs = rebuild_prior(description["prior"]), description.get("num_outputs")  # None in older files
        return BayesianModel(network, prior, likelihood, outputs)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"the model's description is damaged or of another version: {error!r}.") from error


def of_today(value: Any) -> Any:
    """JSON values of an older file as this version writes them: networks said only whether they had bilinear layers,
    when all of them were full.
    """
    if isinstance(value, dict):
        renewed = {name: of_today(part) for name, part in value.items()}
        return renewed | ({"bilinear": "full"} if value.get("bilinear") is True else {})
    return [of_today(part) for part in value] if isinstance(value, list) else value


def _describe_symmetric(network: SymmetricNetwork) -> Description:
    config = network.config()
    group = config["group"]
    return {
        **config,
        "group": describe_group(group) if isinstance(group, Group) else [describe_group(part) for part in group],
        "rep_in": describe_rep(config["rep_in"]),
        "rep_out": describe_rep(config["rep_out"]),
        "channels": [describe_rep(rep) for rep in config["channels"]],
    }


def _symmetric_arguments(description: Description) -> Description:
    description = of_today(description)
    given = description["group"]
    groups = [rebuild_group(group) for group in (given if isinstance(given, list) else [given])]
    return {
        **description,
        "group": groups[0] if len(groups) == 1 else groups,
        "rep_in": rebuild_rep(description["rep_in"], groups[0]),
        "rep_out": rebuild_rep(description["rep_out"], groups[0]),
        "channels": [rebuild_rep(rep, groups[0]) for rep in description["channels"]],
    }


def _describe_normalized(network: NormalizedNetwork) -> Description | None:
    inner = described(network.network)
    sides = {
        name: {"mean": side.mean.tolist(), "scale": side.scale.tolist(), "dtype": str(side.mean.dtype)[6:]}
        for name, side in (("inputs", network.inputs), ("outputs", network.outputs))
    }
    return None if inner is None else {"network": inner, **sides}


def _rebuild_normalized(description: Description) -> NormalizedNetwork:
    network = rebuilt("network", description["network"])
    standardizers = []
    for rep, side in ((network.rep_in, description["inputs"]), (network.rep_out, description["outputs"])):
        values = [torch.tensor(side[name], dtype=torch.float64) for name in ("mean", "scale")]
        # Older files do not say: what float32 holds exactly was float32.
        narrow = all(torch.equal(value, value.float().double()) for value in values)
        dtype = _DTYPES[side.get("dtype", "float32" if narrow else "float64")]
        standardizers.append(Standardizer(rep, *(value.to(dtype) for value in values)))
    return NormalizedNetwork(network, *standardizers)


def _describe_sum(network: ResidualSum) -> Description | None:
    parts = {name: described(getattr(network, name)) for name in ("structured", "residual")}
    return None if None in parts.values() else parts


def _rebuild_sum(description: Description) -> ResidualSum:
    return ResidualSum(*(rebuilt("network", description[name]) for name in ("structured", "residual")))


def _describe_lifted(network: LiftedNetwork) -> Description | None:
    inner, given = described(network.network), network.lift
    lift = {"rep_in": describe_rep(given.rep_in), "group": describe_group(given.group)}
    return None if inner is None else {"network": inner, **lift}


def _rebuild_lifted(description: Description) -> LiftedNetwork:
    group = rebuild_group(description["group"])
    lift = InvariantLift(rebuild_rep(description["rep_in"], group), group)
    return LiftedNetwork(rebuilt("network", description["network"]), lift)


def _describe_rollout(network: HamiltonianRollout) -> Description | None:
    energy = described(network.energy)
    return None if energy is None else {"energy": energy, "steps": network.steps, "dt": network.dt}


def _rebuild_rollout(description: Description) -> HamiltonianRollout:
    return HamiltonianRollout(rebuilt("network", description["energy"]), description["steps"], description["dt"])


def _describe_transition(network: TransitionRollout) -> Description | None:
    change, action = described(network.change), describe_rep(network.rep_action)
    return None if change is None else {"change": change, "rep_action": action, "steps": network.steps}


def _rebuild_transition(description: Description) -> TransitionRollout:
    change = rebuilt("network", description["change"])
    return TransitionRollout(change, rebuild_rep(description["rep_action"], change.group), description["steps"])


def _describe_conv_network(network: RPPConvNet) -> Description:
    config = network.config()
    layers = config.pop("kind")  # which is what a description calls the class
    return {**config, "layers": layers}


def _rebuild_conv_network(description: Description) -> RPPConvNet:
    rest = {name: value for name, value in description.items() if name != "layers"}
    return RPPConvNet(kind=description["layers"], **rest)


def _rebuild_dataclass(kind: type, description: Description) -> Any:
    return kind(**description)


register("RPPEMLP", RPPEMLP, _describe_symmetric, lambda given: RPPEMLP(**_symmetric_arguments(given)))
register("EMLP", EMLP, _describe_symmetric, lambda given: EMLP(**_symmetric_arguments(given)))
register("MLP", MLP, _describe_symmetric, lambda given: MLP(**_symmetric_arguments(given)))
register("RPPConvNet", RPPConvNet, _describe_conv_network, _rebuild_conv_network)
register("NormalizedNetwork", NormalizedNetwork, _describe_normalized, _rebuild_normalized)
register("ResidualSum", ResidualSum, _describe_sum, _rebuild_sum)
register("LiftedNetwork", LiftedNetwork, _describe_lifted, _rebuild_lifted)
register("HamiltonianRollout", HamiltonianRollout, _describe_rollout, _rebuild_rollout)
register("TransitionRollout", TransitionRollout, _describe_transition, _rebuild_transition)

for _kind in (Gaussian, Categorical, LaplaceNoise, StudentT, HeteroscedasticGaussian, Bernoulli, Poisson):
    register(_kind.__name__, _kind, asdict, partial(_rebuild_dataclass, _kind))
