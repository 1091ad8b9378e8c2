"""Models as plain dicts of JSON values, and back: what a saved posterior needs to be rebuilt from its files alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from bayes_rpp.bayesian_model import BayesianModel
from bayes_rpp.groups.group import Group
from bayes_rpp.likelihoods import LIKELIHOODS
from bayes_rpp.networks.emlp import EMLP, MLP, RPPEMLP, SymmetricNetwork
from bayes_rpp.normalization import NormalizedNetwork, Standardizer
from bayes_rpp.serialization.groups import describe_group, describe_rep, rebuild_group, rebuild_rep
from bayes_rpp.serialization.priors import class_name, describe_prior, exact_description, rebuild_prior

Description = dict[str, Any]

_DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}
_NETWORKS: dict[str, type[SymmetricNetwork]] = {"RPPEMLP": RPPEMLP, "EMLP": EMLP, "MLP": MLP}


def describe_model(model: object) -> Description | None:
    """A model as JSON values, or None if it has a part that is not this package's own."""
    if not isinstance(model, BayesianModel) or type(model.likelihood) not in LIKELIHOODS.values():
        return None
    network, prior = _describe_network(model.network), describe_prior(model.prior)
    if network is None or prior is None:
        return None
    likelihood = {"kind": type(model.likelihood).__name__, **asdict(model.likelihood)}  # type: ignore[call-overload]
    dtype = str(next((p.dtype for p in model.network.parameters()), torch.get_default_dtype())).removeprefix("torch.")
    return {"network": network, "prior": prior, "likelihood": likelihood, "dtype": dtype}


def model_identity(model: object) -> Description:
    """What is known exactly of a model, as JSON values: enough to tell models apart, not to build them again.

    The prior's and the likelihood's settings; of this package's networks their configuration, of others the classes of
    their modules. Empty for a LogDensity, which is a function and nothing else.

    Examples
    --------
    >>> model_identity(BayesianModel(network, RPPPrior(dense_variance=HalfCauchy(0.5)), Gaussian(0.1)))["likelihood"]
    {'class': 'bayes_rpp.likelihoods.Gaussian', 'noise_variance': 0.1, 'learned': False, ...}
    """
    if not isinstance(model, BayesianModel):
        return {}
    modules = {name: class_name(module) for name, module in model.network.named_modules()}
    return {
        "prior": exact_description(model.prior),
        "likelihood": exact_description(model.likelihood),
        "network": _describe_network(model.network) or modules,
    }


def rebuild_model(description: Description) -> BayesianModel:
    """The model that ``describe_model`` described.

    Raises
    ------
    ValueError
        If the description names an unknown network, likelihood or hyperprior, or lacks a part.
    """
    try:
        likelihood = dict(description["likelihood"])
        kind = LIKELIHOODS[likelihood.pop("kind")]
        dtype = _DTYPES[description["dtype"]]
        network = _rebuild_network(description["network"]).to(dtype)
        return BayesianModel(network, rebuild_prior(description["prior"]), kind(**likelihood))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"the model's description is damaged or of another version: {error!r}.") from error


def _describe_network(network: nn.Module) -> Description | None:
    if type(network) is NormalizedNetwork:
        inner = _describe_network(network.network)
        sides = {
            name: {"mean": side.mean.tolist(), "scale": side.scale.tolist()}
            for name, side in (("inputs", network.inputs), ("outputs", network.outputs))
        }
        return None if inner is None else {"kind": "NormalizedNetwork", "network": inner, **sides}
    kind = type(network).__name__
    if not isinstance(network, SymmetricNetwork) or _NETWORKS.get(kind) is not type(network):
        return None
    config = network.config()
    group = config["group"]
    return {
        "kind": kind,
        **config,
        "group": describe_group(group) if isinstance(group, Group) else [describe_group(part) for part in group],
        "rep_in": describe_rep(config["rep_in"]),
        "rep_out": describe_rep(config["rep_out"]),
        "channels": [describe_rep(rep) for rep in config["channels"]],
    }


def _rebuild_network(description: Description) -> Any:
    description = dict(description)
    kind = description.pop("kind")
    if kind == "NormalizedNetwork":
        network = _rebuild_network(description["network"])
        inputs, outputs = description["inputs"], description["outputs"]
        return NormalizedNetwork(
            network,
            Standardizer(network.rep_in, _exact(inputs["mean"]), _exact(inputs["scale"])),
            Standardizer(network.rep_out, _exact(outputs["mean"]), _exact(outputs["scale"])),
        )
    if kind not in _NETWORKS:
        raise ValueError(f"unknown network {kind!r}; known are {', '.join(_NETWORKS)}.")
    given = description["group"]
    groups = [rebuild_group(group) for group in (given if isinstance(given, list) else [given])]
    arguments = {
        **description,
        "group": groups[0] if len(groups) == 1 else groups,
        "rep_in": rebuild_rep(description["rep_in"], groups[0]),
        "rep_out": rebuild_rep(description["rep_out"], groups[0]),
        "channels": [rebuild_rep(rep, groups[0]) for rep in description["channels"]],
    }
    return _NETWORKS[kind](**arguments)


def _exact(numbers: list[Any]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)
