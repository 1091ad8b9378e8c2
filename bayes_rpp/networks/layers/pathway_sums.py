"""What layers say of their weights: which parameters add up to them, and whether they act as matrices.

Shares, other parametrizations, metrics and Kronecker factors work on any layer that says so. A layer of one's own has
``sums``, ``pathway_names``, ``parametrization`` and ``hold`` if it has the two parametrizations; and a method
``linear_map`` if it is y = W x + b of vectors. Classes of others are registered with ``register_linear``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from bayes_rpp.bases.dense import StructuredBasis
from bayes_rpp.bases.equivariant import EquivariantBasis
from bayes_rpp.representations.rep import Rep

Parametrization = Literal["residual", "collapsed"]


class PathwaySum(NamedTuple):
    """A weight or a bias as a sum of pathways, by the names of the parameters, "" for one that the layer never has."""

    total: str  # the whole, a parameter of the collapsed parametrization
    dense: str  # the dense part, one of the residual parametrization
    structured: dict[str, EquivariantBasis]  # bases of the structured parts; those of rank 0 have no parameter

    @property
    def held(self) -> dict[str, EquivariantBasis]:
        """The structured parts that have coordinates."""
        return {name: basis for name, basis in self.structured.items() if basis.rank}


@runtime_checkable
class ResidualPathwayLayer(Protocol):
    """A layer of structured pathways and a dense one, in one of two parametrizations."""

    @property
    def parametrization(self) -> Parametrization:
        """The present one."""

    @property
    def sums(self) -> Sequence[PathwaySum]:
        """The weight, then the bias if there is one."""

    @property
    def pathway_names(self) -> Sequence[str]:
        """What people call the structured pathways of the weight."""

    def hold(self, parametrization: Parametrization) -> None:
        """Put the other parametrization's parameters, without values yet, in place of the present ones."""


@dataclass(frozen=True)
class LinearMap:
    """A layer that is y = W x + b of vectors x."""

    size_out: int
    sums: Sequence[PathwaySum]  # of W (m, n), and of b if there is one
    rep_in: Rep | None = None
    rep_out: Rep | None = None
    has_equivariant_pathways: bool = False  # of the representations' group, orthogonal to each other


_LINEAR: dict[type[nn.Module], Callable[[nn.Module], LinearMap]] = {}


def register_linear(kind: type[nn.Module], describe: Callable[[nn.Module], LinearMap]) -> None:
    """Let layers of a class be treated as y = W x + b. Subclasses with another ``forward`` are not."""
    _LINEAR[kind] = describe


def linear_map(layer: nn.Module) -> LinearMap | None:
    """What a layer is as a matrix, by its own method ``linear_map`` or the registry; None if it is none."""
    own = getattr(layer, "linear_map", None)
    if callable(own):
        result: LinearMap = own()
        return result
    for kind, describe in _LINEAR.items():
        if isinstance(layer, kind) and type(layer).forward is kind.forward:
            return describe(layer)
    return None


def pathway_total(layer: ResidualPathwayLayer, parts: PathwaySum, parameter: Callable[[str], Tensor]) -> Tensor:
    """The sum of the pathways, or the parameter that is the sum, from the values of the parameters by name."""
    if layer.parametrization == "collapsed":
        return parameter(parts.total)
    result = parameter(parts.dense)
    for name, basis in parts.held.items():
        beta = parameter(name)
        if isinstance(basis, StructuredBasis):
            flat = result.reshape(*beta.shape[:-1], basis.size)
            result = basis.expand_onto(beta, flat).reshape(result.shape)
        else:
            result = basis.expand(beta).reshape(result.shape) + result
    return result


def _plain(layer: nn.Module) -> LinearMap:
    assert isinstance(layer, nn.Linear)
    held = {name for name, _ in layer.named_parameters(recurse=False)}
    return LinearMap(layer.out_features, [PathwaySum(name, name, {}) for name in ("weight", "bias") if name in held])


register_linear(nn.Linear, _plain)
