r"""Gaussian priors that depend on no parameter, outside of the graph.

    grad_theta -log N(theta; 0, Sigma) = Sigma^-1 theta

Automatic differentiation would read and write every weight several times for this, and keep copies of it; in closed
form the gradient of the rest takes one more pass.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp import PathwayNormal
from bayes_rpp.types import Params


class FixedPriors:
    """The Gaussian priors of some parameters, and s Sigma^-1 of each.

    Parameters
    ----------
    laws : by the parameters' names. Their batch shapes are () or that of the parameters, such as (member,).
    scales : s of each, a number or a tensor that broadcasts with the parameter.
    like : the parameters, of any batch shape, in whose type and on whose device the priors are.
    """

    def __init__(self, laws: Mapping[str, PathwayNormal], scales: Mapping[str, float | Tensor], like: Params) -> None:
        # Minus the log densities at zero, (*batch).
        self.log_normalizer = sum(law.entropy() - law.numel / 2 for law in laws.values())
        self.laws, self._scales = dict(laws), {name: scales[name] for name in laws}
        self._precisions = {
            name: (scales[name] / _variances(law, like[name])).to(like[name])
            for name, law in laws.items()
            if not law.bases
        }

    def log_prob(self, params: Params) -> Float[Tensor, "*batch"] | float:
        """Their log densities, summed over the parameters; without the scales, and differentiable."""
        total: Tensor | float = 0.0
        for name, law in self.laws.items():
            total = total + law.log_prob(params[name])
        return total

    def slope(self, name: str, value: Float[Tensor, "*batch_and_event"]) -> Float[Tensor, "*batch_and_event"]:
        """s Sigma^-1 theta of one parameter."""
        if name in self._precisions:
            return self._precisions[name] * value
        return self._scales[name] * self.laws[name].precision_times(value)

    def added_to(self, gradients: Params, params: Params) -> Params:
        """Gradients with s Sigma^-1 theta added to those of the parameters that have such a prior."""
        result = dict(gradients)
        for name in self.laws:
            if name in self._precisions:
                result[name] = torch.addcmul(gradients[name], self._precisions[name], params[name])
            else:
                result[name] = gradients[name] + self.slope(name, params[name])
        return result


def _variances(law: PathwayNormal, like: Float[Tensor, "*batch_and_event"]) -> Tensor:
    """The variances of the coordinates, which broadcast with the parameter."""
    variances, axes = law.dense_variances.to(like.device), len(law.event_shape)
    if law.dense_variances.numel() == 1:
        return variances.reshape(())
    batch = law.batch_shape
    event = law.event_shape if law.relative_variances[0] is not None else [1] * axes
    return variances.reshape(*batch, *event)
