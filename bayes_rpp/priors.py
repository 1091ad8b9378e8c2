"""Residual pathway priors: which variance every parameter of a network gets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from bayes_rpp.distributions import PathwayNormal
from bayes_rpp.networks.pathways import ParameterRole, Pathway, PathwayLayer
from bayes_rpp.networks.residual_sum import ResidualSum

Variance = float | Mapping[str, float]
Scaling = Literal["fan_in", "none"]


@dataclass(frozen=True)
class RPPPrior:
    """The residual pathway prior: broad on equivariant coordinates, narrow on dense weights (Finzi, Benton & Wilson,
    NeurIPS 2021).

    Each variance is that of one coordinate, for all layers or, as a mapping from the names of layers (or of parts of
    the network; the longest match wins, "" is the default), layer by layer.

    With ``scaling="fan_in"`` a parameter's variance is divided by its fan-in, the number of its coordinates for each
    output coordinate of its layer. On average over a layer's outputs, the two pathways then add sigma_a^2 and sigma_b^2
    times the mean square of isotropic inputs to an output's variance:

    * dense weights (m, n): by n;
    * equivariant coordinates, r of them: by r / m;
    * biases and residual Swish weights: by 1;
    * bilinear weights: by the number of weights for each output piece.

    With ``scaling="none"`` variances are taken as they are.

    Parameters
    ----------
    equivariant_variance : sigma_a^2, of a coordinate beta in the orthonormal basis, and of bilinear weights.
    dense_variance : sigma_b^2, of an entry of the dense pathway, and of residual Swish weights.
    mlp_variance : of the weights of layers that have no equivariant pathway, as those of MLP.
    scaling : "fan_in" or "none".
    pathway_variances : for layers with several structured pathways, such as chains of groups: of a coordinate of each,
        the outermost group first, in place of ``equivariant_variance``. By default all but the first get
        ``dense_variance``.

    Raises
    ------
    ValueError
        If a variance is not positive and finite, or the scaling is unknown.

    Examples
    --------
    >>> prior = RPPPrior(dense_variance={"": 1e-4, "network.0": 1e-2})
    >>> list(prior.distributions(RPPEMLP(Scalar, Scalar, SO(3), layers=0)))
    ['network.0.beta', 'network.0.dense', 'network.0.bias_beta', 'network.0.bias_dense']
    """

    equivariant_variance: Variance = 10.0
    dense_variance: Variance = 3e-4
    mlp_variance: Variance = 1.0
    scaling: Scaling = "fan_in"
    pathway_variances: Sequence[Variance] | None = None

    def __post_init__(self) -> None:
        if self.pathway_variances is not None:
            if not isinstance(self.pathway_variances, Sequence) or isinstance(self.pathway_variances, str):
                raise TypeError(
                    f"pathway_variances must be a sequence, one for each pathway, got {self.pathway_variances!r}."
                )
            object.__setattr__(self, "pathway_variances", tuple(self.pathway_variances))
        for name, setting in self._settings():
            for layer, value in setting.items() if isinstance(setting, Mapping) else [("", setting)]:
                if not isinstance(value, int | float) or isinstance(value, bool):
                    raise TypeError(f"{name} must be a number or a mapping of numbers, got {value!r}.")
                if not (value > 0 and math.isfinite(value)):
                    at = f" for {layer!r}" if layer else ""
                    raise ValueError(f"{name}{at} must be positive and finite, got {value}.")
        if self.scaling not in get_args(Scaling):
            raise ValueError(f"scaling must be 'fan_in' or 'none', got {self.scaling!r}.")

    def _settings(self) -> Iterator[tuple[str, Variance]]:
        for name in ("equivariant_variance", "dense_variance", "mlp_variance"):
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
        convention: Literal["penalty", "adam"] = "penalty",
    ) -> RPPPrior:
        """The prior that the published code's weight decays amount to.

        Minimising mean-MSE + wd ||theta||^2, the mean over N data and D outputs, is MAP with noise variance v and
        variances v / (N D wd). The same numbers hold for layers without an equivariant pathway as for dense weights.

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
        for name, value in (
            ("equivariant", equivariant),
            ("dense", dense),
            ("num_data", num_data),
            ("num_outputs", num_outputs),
            ("noise_variance", noise_variance),
        ):
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be positive and finite, got {value}.")
        factors = {"penalty": 1.0, "adam": 2.0}
        if convention not in factors:
            raise ValueError(f"convention must be 'penalty' or 'adam', got {convention!r}.")
        unit = factors[convention] * noise_variance / (num_data * num_outputs)
        return cls(unit / equivariant, unit / dense, mlp_variance=unit / dense, scaling="none")

    def distributions(self, network: nn.Module) -> dict[str, PathwayNormal]:
        """The prior of every parameter of a network, by the parameter's name.

        Raises
        ------
        ValueError
            If a mapping names a layer that the network does not have.
        """
        self._check_layers(network)
        parameters = dict(network.named_parameters())
        return {name: self._distribution(name, role, parameters[name]) for name, role in parameter_roles(network)}

    def _distribution(self, name: str, role: ParameterRole, parameter: Tensor) -> PathwayNormal:
        if role.pathway == "equivariant":
            setting = self._level_variance(name, role.level, role.levels)
        else:
            setting = _lookup(self.mlp_variance if role.pathway == "plain" else self.dense_variance, name)
        shape, dtype = tuple(parameter.shape), parameter.dtype
        variance = torch.tensor(self._scaled(setting, role.fan_in), dtype=dtype)
        levels = len(role.structured)
        pathways = [
            torch.tensor(self._scaled(self._level_variance(name, level, levels), pathway.fan_in), dtype=dtype)
            for level, pathway in enumerate(role.structured)
        ]
        bases = [pathway.basis for pathway in role.structured]
        return PathwayNormal(shape, variance, bases, pathways, validate_args=False)

    def _level_variance(self, name: str, level: int, levels: int) -> float:
        """The variance of a coordinate of one of a layer's structured pathways."""
        if self.pathway_variances is None:
            return _lookup(self.equivariant_variance if level == 0 else self.dense_variance, name)
        if levels > len(self.pathway_variances):
            raise ValueError(
                f"{name!r} is one of {levels} structured pathways of its layer, but there are "
                f"{len(self.pathway_variances)} pathway_variances; give one for each, the outermost group first."
            )
        return _lookup(self.pathway_variances[level], name)

    def _scaled(self, variance: float, fan_in: float) -> float:
        return variance / (fan_in if self.scaling == "fan_in" else 1.0)

    def _check_layers(self, network: nn.Module) -> None:
        layers = [name for name, _ in network.named_modules()]
        for _, setting in self._settings():
            unknown = [name for name in setting if name not in layers] if isinstance(setting, Mapping) else []
            if unknown:
                raise ValueError(f"the prior names the layer {unknown[0]!r}; the network's layers are {layers[1:]}.")


def parameter_roles(network: nn.Module) -> Iterator[tuple[str, ParameterRole]]:
    """Every parameter's name and role, in the network's order; those of foreign layers are plain, and plain ones in a
    part of a ResidualSum are of the pathway that the part is.
    """
    parts: dict[str, Pathway] = {}
    for path, module in network.named_modules():
        if isinstance(module, ResidualSum):
            parts |= {f"{path}.{part}".lstrip("."): pathway for part, pathway in module.PATHWAYS.items()}
        roles = module.roles() if isinstance(module, PathwayLayer) else {}
        enclosing = max((part for part in parts if f"{path}.".startswith(f"{part}.")), key=len, default=None)
        for name, parameter in module.named_parameters(recurse=False):
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            role = roles.get(name, ParameterRole("plain", fan_in))
            if enclosing is not None and role.pathway == "plain":
                role = replace(role, pathway=parts[enclosing])
            yield f"{path}.{name}" if path else name, role


def _lookup(setting: Variance, parameter: str) -> float:
    if not isinstance(setting, Mapping):
        return setting
    matches = [name for name in setting if name == "" or parameter.startswith(name + ".")]
    if not matches:
        raise ValueError(f"no variance for {parameter!r}: add a default under the empty name, {{'': 1e-4, ...}}.")
    return setting[max(matches, key=len)]
