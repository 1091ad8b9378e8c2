"""Residual pathway priors: which variance every parameter of a network gets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from jaxtyping import Float
from pyro.distributions import Distribution
from torch import Tensor, nn

from bayes_rpp.networks.layers.roles import FanIn, ParameterRole, StructuredPathway, free_parameters, parameter_roles
from bayes_rpp.priors.parameter_prior import ParameterPrior, Share
from bayes_rpp.priors.pathway_normal import PathwayNormal
from bayes_rpp.priors.variance_settings import Entry, Variance, checked_setting, entries, entry_of, setting_text

Convention = Literal["penalty", "adam"]
Scaling = Literal["fan_in", "layer_fan_in", "none"]

_SETTINGS = "equivariant_variance", "dense_variance", "mlp_variance"


@dataclass(frozen=True)
class RPPPrior:
    """The residual pathway prior: broad on equivariant coordinates, narrow on dense weights (Finzi, Benton & Wilson,
    NeurIPS 2021).

    Each variance is that of one coordinate, for all layers or, as a mapping from the names of layers (or of parts of
    the network; the longest match wins, "" is the default), layer by layer. In place of a number there may be a Pyro
    distribution of one positive number, a hyperprior: HalfCauchy, InverseGamma, LogNormal. All parameters that take the
    same entry share one variance, which samplers draw with the weights; see ``per_layer``.

    With ``scaling="fan_in"`` the variance of a coordinate is divided by its fan-in, so that the two pathways add
    sigma_a^2 and sigma_b^2 to the variance of every output, in every piece of the output, whatever the width or group:

    * dense weights (m, n): by n, times the mean square that the nonlinearity before the layer leaves of its inputs;
    * equivariant coordinates: by the mean square that all maps into their output piece would add to each of its axes,
      which makes the variance of beta a vector; see networks/layers/fan_in.py for the formula;
    * biases and residual Swish weights: by 1;
    * bilinear weights: by the number of products in each coordinate of their output piece. The layer's own factor of
      0.1 then leaves a hundredth of the linear layer's variance. The combinations of copies that are multiplied have
      variances of their own, one over the number of copies, whatever the settings.

    The defaults are for standardised data: functions drawn from the prior have a mean square of order one for inputs of
    unit scale, see docs/results/prior_scale.md. Exceptions are outputs that only products reach, as the cross product
    of two vectors, which are smaller by the bilinear layers' hundredth, and deep networks of scalars alone under
    groups with many tensors, whose functions grow with the width, to 10 at 1024 channels. Invariant functions of
    vectors get most of their mean square from biases.

    With ``scaling="layer_fan_in"`` there is one fan-in for a whole layer: n, r / m with r coordinates, 1, and the
    number of bilinear weights for each output piece. That is right on average over a layer's pieces and wrong for each.
    It is what files that were saved before the other rule mean by "fan_in", and load as. With ``scaling="none"``
    variances are taken as they are.

    Parameters
    ----------
    equivariant_variance : sigma_a^2, of a coordinate beta in the orthonormal basis, and of bilinear weights.
    dense_variance : sigma_b^2, of an entry of the dense pathway, and of residual Swish weights.
    mlp_variance : of the weights of layers that have no equivariant pathway, as those of MLP.
    scaling : "fan_in", "layer_fan_in" or "none".
    pathway_variances : for layers with several structured pathways, such as chains of groups: of a coordinate of each,
        the outermost group first, in place of ``equivariant_variance``. By default all but the first get
        ``dense_variance``.

    Raises
    ------
    ValueError
        If a variance is not positive and finite, a hyperprior is not one of a positive number, or the scaling is
        unknown.

    Examples
    --------
    >>> prior = RPPPrior(dense_variance={"": 1e-4, "network.0": 1e-2})
    >>> list(prior.distributions(RPPEMLP(Scalar, Scalar, SO(3), layers=0)))
    ['network.0.beta', 'network.0.dense', 'network.0.bias_beta', 'network.0.bias_dense']
    """

    equivariant_variance: Variance = 1.0
    dense_variance: Variance = 1e-4
    mlp_variance: Variance = 1.0
    scaling: Scaling = "fan_in"
    pathway_variances: Sequence[Variance] | None = None

    def __post_init__(self) -> None:
        if self.pathway_variances is not None:
            if not isinstance(self.pathway_variances, Sequence) or isinstance(self.pathway_variances, str):
                raise TypeError(
                    f"pathway_variances must be a sequence, one for each pathway, got {self.pathway_variances!r}."
                )
            levels = enumerate(self.pathway_variances)
            own = tuple(checked_setting(f"pathway_variances[{level}]", setting) for level, setting in levels)
            object.__setattr__(self, "pathway_variances", own)
        for name in _SETTINGS:
            object.__setattr__(self, name, checked_setting(name, getattr(self, name)))
        if self.scaling not in get_args(Scaling):
            raise ValueError(f"scaling must be 'fan_in', 'layer_fan_in' or 'none', got {self.scaling!r}.")

    def __repr__(self) -> str:
        given = [f"{name}={setting_text(getattr(self, name))}" for name in _SETTINGS]
        given.append(f"scaling={self.scaling!r}")
        if self.pathway_variances is not None:
            given.append(f"pathway_variances=[{', '.join(map(setting_text, self.pathway_variances))}]")
        return f"RPPPrior({', '.join(given)})"

    def _settings(self) -> Iterator[tuple[str, Variance]]:
        for name in _SETTINGS:
            yield name, getattr(self, name)
        for level, setting in enumerate(self.pathway_variances or ()):
            yield f"pathway_variances[{level}]", setting

    @classmethod
    def from_weight_decay(
        cls,
        equivariant: float,
        dense: float,
        *,
        num_data: int,
        num_outputs: int,
        noise_variance: float,
        convention: Convention = "penalty",
    ) -> RPPPrior:
        """The prior that the published code's weight decays amount to.

        Minimising mean-MSE + wd ||theta||^2, the mean over N data and D outputs, is MAP with noise variance v and
        variances v / (N D wd). The same numbers hold for layers without an equivariant pathway as for dense weights.
        The published networks have ``bilinear="full"``.

        Parameters
        ----------
        equivariant, dense : weight decays of the two pathways.
        num_data, num_outputs : N and D.
        noise_variance : v, in squared units of the outputs.
        convention : "penalty" for wd ||theta||^2; "adam" for an optimiser's weight_decay, whose gradient is wd theta:
            half as much.

        Examples
        --------
        >>> RPPPrior.from_weight_decay(1e-5, 100, num_data=1000, num_outputs=9, noise_variance=0.2).equivariant_variance
        2.2222222222222223
        """
        numbers = {"equivariant": equivariant, "dense": dense, "num_data": num_data, "num_outputs": num_outputs}
        for name, value in (numbers | {"noise_variance": noise_variance}).items():
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be positive and finite, got {value}.")
        if convention not in get_args(Convention):
            raise ValueError(f"convention must be 'penalty' or 'adam', got {convention!r}.")
        unit = (2.0 if convention == "adam" else 1.0) * noise_variance / (num_data * num_outputs)
        return cls(unit / equivariant, unit / dense, mlp_variance=unit / dense, scaling="none")

    def variances(self, network: nn.Module) -> dict[str, Entry]:
        """The settings that parameters of a network take, by name: "dense_variance", or "dense_variance[network.0]" for
        a layer with an entry of its own. All parameters that take a setting share one variance. Raises ValueError if a
        mapping names a layer that the network does not have, or has no entry for one that it has.

        Examples
        --------
        >>> RPPPrior(dense_variance=HalfCauchy(0.01)).variances(RPPEMLP(Scalar, Scalar, SO(3), layers=0))
        {'equivariant_variance': 1.0, 'dense_variance': HalfCauchy()}
        """
        used = {name for law in self.parameter_priors(network).values() for name in law.settings}
        return {name: value for name, value in self._values().items() if name in used}

    def hyperpriors(self, network: nn.Module) -> dict[str, Distribution]:
        """Those of ``variances`` that are distributions."""
        return {name: value for name, value in self.variances(network).items() if isinstance(value, Distribution)}

    def distributions(
        self, network: nn.Module, hyper: Mapping[str, Float[Tensor, ""]] | None = None
    ) -> dict[str, PathwayNormal]:
        """The prior of every parameter of a network that is not frozen, by the parameter's name.

        Parameters
        ----------
        network : whose parameters.
        hyper : variances in place of settings, by the names of ``variances``: positive, each a scalar tensor. The
            scaling applies to them as to the settings. The result is differentiable in them.

        Raises
        ------
        ValueError
            If a mapping names a layer that the network does not have, ``hyper`` a setting that no parameter takes, or a
            setting with a hyperprior is missing from it.
        """
        laws = self.parameter_priors(network)
        used = self.variances(network)
        for name, value in (hyper or {}).items():
            if name not in used:
                raise ValueError(f"hyper names {name!r}; the settings that this network takes are {list(used)}.")
            if value.shape != ():
                raise ValueError(f"hyper[{name!r}] must be a scalar tensor, got shape {tuple(value.shape)}.")
        given = used | dict(hyper or {})
        if missing := [name for name, value in given.items() if isinstance(value, Distribution)]:
            raise ValueError(f"{missing[0]} has a hyperprior: give its value, hyper={{{missing[0]!r}: tensor}}.")
        return {name: law.at(given) for name, law in laws.items()}

    def parameter_priors(self, network: nn.Module) -> dict[str, ParameterPrior]:
        """The prior of every free parameter as a function of the variances; raises as ``variances``."""
        self._check_layers(network)
        parameters = free_parameters(network)
        return {name: self._parameter_prior(name, role, parameters[name]) for name, role in parameter_roles(network)}

    def per_layer(self, network: nn.Module) -> RPPPrior:
        """The same prior with an entry for every layer (module that holds parameters) in each setting that it takes, so
        that each layer has a variance of its own.

        Examples
        --------
        >>> list(RPPPrior(dense_variance=HalfCauchy(0.01)).per_layer(network).hyperpriors(network))
        ['dense_variance[network.0.linear]', 'dense_variance[network.0.nonlinearity]', 'dense_variance[network.1]']
        """
        own: dict[str, dict[str, Entry]] = {}
        origins = {entry: (name, value) for name, given in self._settings() for entry, _, value in entries(name, given)}
        for parameter, law in self.parameter_priors(network).items():
            for name, value in (origins[entry] for entry in law.settings):
                own.setdefault(name, {})[parameter.rpartition(".")[0]] = value
        return self._with_settings(own)

    def with_variances(self, values: Mapping[str, float]) -> RPPPrior:
        """The same prior with numbers in place of settings, by the names of ``variances``; raises ValueError for a name
        that is none of them, or a number that is not positive and finite.
        """
        if unknown := sorted(set(values) - set(self._values())):
            raise ValueError(f"values name {unknown[0]!r}; the prior's settings are {list(self._values())}.")
        changed: dict[str, Variance] = {}
        for name, setting in self._settings():
            new = {layer: values.get(entry, old) for entry, layer, old in entries(name, setting)}
            changed[name] = new if isinstance(setting, Mapping) else new[""]
        return self._with_settings(changed)

    def _values(self) -> dict[str, Entry]:
        """Every entry of every setting."""
        return {entry: value for name, setting in self._settings() for entry, _, value in entries(name, setting)}

    def _with_settings(self, changed: Mapping[str, Variance]) -> RPPPrior:
        settings = dict(self._settings()) | dict(changed)
        broad, narrow, plain, *levels = settings.values()
        return RPPPrior(broad, narrow, plain, self.scaling, None if self.pathway_variances is None else levels)

    def _parameter_prior(self, name: str, role: ParameterRole, parameter: Tensor) -> ParameterPrior:
        if role.pathway == "unit":
            unit = Share(None, role.fan_in)
            return ParameterPrior(tuple(parameter.shape), parameter.dtype, unit)
        if role.pathway == "equivariant":
            setting = self._level_entry(name, role.level, role.levels)
        elif role.pathway == "plain":
            setting = entry_of("mlp_variance", self.mlp_variance, name)
        else:
            setting = entry_of("dense_variance", self.dense_variance, name)
        held = [(level, pathway) for level, pathway in enumerate(role.structured) if pathway.basis.rank]
        levels = [self._level_entry(name, level, len(role.structured)) for level, _ in held]
        return ParameterPrior(
            tuple(parameter.shape),
            parameter.dtype,
            self._share(setting, role),
            tuple(pathway.basis for _, pathway in held),
            tuple(self._share(level, pathway) for level, (_, pathway) in zip(levels, held, strict=True)),
        )

    def _level_entry(self, name: str, level: int, levels: int) -> str:
        """The setting of a coordinate of one of a layer's structured pathways."""
        if self.pathway_variances is None:
            setting = "equivariant_variance" if level == 0 else "dense_variance"
            return entry_of(setting, getattr(self, setting), name)
        if levels > len(self.pathway_variances):
            raise ValueError(
                f"{name!r} is one of {levels} structured pathways of its layer, but there are "
                f"{len(self.pathway_variances)} pathway_variances; give one for each, the outermost group first."
            )
        return entry_of(f"pathway_variances[{level}]", self.pathway_variances[level], name)

    def _share(self, setting: str, of: ParameterRole | StructuredPathway) -> Share:
        divisors: dict[Scaling, FanIn] = {"fan_in": of.fan_in, "layer_fan_in": of.layer_fan_in, "none": 1.0}
        return Share(setting, divisors[self.scaling])

    def _check_layers(self, network: nn.Module) -> None:
        layers = [name for name, _ in network.named_modules()]
        for name, setting in self._settings():
            unknown = [layer for _, layer, _ in entries(name, setting) if layer not in layers]
            if unknown:
                raise ValueError(f"the prior names the layer {unknown[0]!r}; the network's layers are {layers[1:]}.")
