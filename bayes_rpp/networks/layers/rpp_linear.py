"""The residual pathway layer: a sum of structured pathways and a dense one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TypeVar, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.bases.equivariant import EquivariantBasis, equivariant_basis, equivariant_maps
from bayes_rpp.bases.joint_span import are_orthogonal
from bayes_rpp.bases.subgroup_chain import chain_basis, chain_maps
from bayes_rpp.groups.group import Group
from bayes_rpp.networks.layers.fan_in import coordinate_fan_ins, dense_fan_in, layer_fan_in
from bayes_rpp.networks.layers.linear import (
    apply_linear,
    coordinates_parameter,
    initial_beta,
    initial_coordinates,
)
from bayes_rpp.networks.layers.pathway_sums import LinearMap, Parametrization, PathwaySum, pathway_total
from bayes_rpp.networks.layers.roles import ParameterRole, StructuredPathway
from bayes_rpp.representations.rep import Rep

_DENSE_INIT = 1e-3
_Value = TypeVar("_Value")


class RPPLinear(nn.Module):
    """The residual pathway layer y = (A + B) x + (a + b): equivariant A, a and dense B, b (Finzi, Benton & Wilson,
    2021, eq. 3), or with more structured pathways, A = A_0 + A_1 + ..., such as those of a chain of groups.

    Parameters
    ----------
    rep_in, rep_out : representations of sizes n and m, bound unless ``group`` is given.
    bias : whether to add a bias, itself the sum of invariant vectors and a dense vector.
    parametrization : "residual" holds ``beta``, ``dense``, ``bias_beta``, ``bias_dense``; "collapsed" holds their
        sums ``weight`` (m, n) and ``bias`` (m,), whose prior has the covariance of the sum. With several structured
        pathways the coordinates are ``beta_0``, ``beta_1``, ..., the outermost group first.
    group : the group, or a chain of groups, each a subgroup of the one before: each has a pathway, for the maps
        equivariant under it that are orthogonal to those of the groups before.
    pathways : orthonormal bases of maps, of size m n, in place of those of the groups; they need not be orthogonal to
        each other.
    activated : whether the inputs come from a gated nonlinearity, for the prior; see ``input_mean_squares``.

    Attributes
    ----------
    is_equivariant : whether the structured pathways are those of groups.

    Raises
    ------
    ValueError
        If the parametrization is unknown, the representations belong to different groups, the groups are no chain, or
        a basis has another size.

    Examples
    --------
    >>> layer = RPPLinear((2 * Vector)(SO(3)), Vector(SO(3)), parametrization="collapsed")
    >>> [name for name, _ in layer.named_parameters()]
    ['weight', 'bias']
    >>> nested = RPPLinear(2 * Vector, Vector, group=[O(3), O2eR3()])
    >>> [name for name, _ in nested.named_parameters()]
    ['beta_0', 'beta_1', 'dense', 'bias_beta_1', 'bias_dense']
    """

    def __init__(
        self,
        rep_in: Rep,
        rep_out: Rep,
        bias: bool = True,
        parametrization: Parametrization = "residual",
        group: Group | Sequence[Group] | None = None,
        pathways: Sequence[EquivariantBasis] | None = None,
        activated: bool = False,
    ) -> None:
        super().__init__()
        check_parametrization(parametrization)
        groups = [rep_out.bound_group] if group is None else as_chain(group)
        self.rep_in, self.rep_out = (rep_in, rep_out) if group is None else (rep_in(groups[0]), rep_out(groups[0]))
        self.has_bias, self.is_equivariant, self.activated = bias, pathways is None, activated
        self.bases, self.pathway_names = self._structured(groups, pathways)
        self.bias_bases = (equivariant_basis(self.rep_out),) if len(groups) == 1 else chain_basis(self.rep_out, groups)
        self.sums = [PathwaySum("weight", "dense", _numbered("beta", self.bases))]
        if bias:
            self.sums.append(PathwaySum("bias", "bias_dense", _numbered("bias_beta", self.bias_bases)))
        self.hold(parametrization)
        self.reset_parameters()

    def hold(self, parametrization: Parametrization) -> None:
        """Put new parameters, without values yet, in place of the present ones."""
        self._parameters.clear()
        self.parametrization = parametrization
        m, n = self.rep_out.size, self.rep_in.size
        for parts, shape in zip(self.sums, ((m, n), (m,)), strict=False):
            if parametrization == "residual":
                for name, basis in parts.structured.items():
                    self.register_parameter(name, coordinates_parameter(basis))
            held = parts.dense if parametrization == "residual" else parts.total
            self.register_parameter(held, nn.Parameter(torch.empty(shape)))
        if not self.has_bias:
            self.register_parameter("bias_dense" if parametrization == "residual" else "bias", None)

    def _structured(
        self, groups: Sequence[Group], pathways: Sequence[EquivariantBasis] | None
    ) -> tuple[tuple[EquivariantBasis, ...], tuple[str, ...]]:
        """The structured pathways of the weight, and their names."""
        if pathways is None and len(groups) == 1:
            return (equivariant_maps(self.rep_in, self.rep_out),), ("equivariant",)
        if pathways is None:
            return chain_maps(self.rep_in, self.rep_out, groups), _distinct([str(group) for group in groups])
        if not pathways:
            raise ValueError("pathways needs at least one basis; a layer without any is torch's own nn.Linear.")
        size = self.rep_out.size * self.rep_in.size
        for index, basis in enumerate(pathways):
            if basis.size != size:
                raise ValueError(
                    f"pathway {index} is a basis of size {basis.size}, but maps from {self.rep_in} to {self.rep_out} "
                    f"have {self.rep_out.size} x {self.rep_in.size} = {size} entries."
                )
        return tuple(pathways), tuple(f"pathway {index}" for index in range(len(pathways)))

    @property
    def beta_names(self) -> list[str]:
        """The names of the coordinates of the weight's structured pathways, held or not."""
        return list(self.sums[0].structured)

    @property
    def basis(self) -> EquivariantBasis:
        """The first structured pathway of the weight."""
        return self.bases[0]

    @property
    def bias_basis(self) -> EquivariantBasis:
        """The first structured pathway of the bias."""
        return self.bias_bases[0]

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw a new initial state from torch's global generator; both parametrizations start at the same function.

        The first pathway carries the signal, the others and the dense one start near zero.
        """
        if self.is_equivariant:
            first = initial_beta(self.basis, self.rep_in, self.rep_out)
        else:
            first = initial_coordinates(self.basis, self.rep_out.size)
        small = _DENSE_INIT / math.sqrt(max(self.rep_in.size, 1))
        dense = torch.randn(self.rep_out.size, self.rep_in.size) * small
        betas = [first, *(small * torch.randn(basis.rank) for basis in self.bases[1:])]
        values = {"dense": dense, **dict(zip(self.beta_names, betas, strict=True))}
        if self.parametrization == "collapsed":
            structured = [basis.expand(beta) for basis, beta in zip(self.bases, betas, strict=True)]
            values["weight"] = torch.stack(structured).sum(0).reshape(dense.shape) + dense
        for name, parameter in self.named_parameters():
            parameter.copy_(values.get(name, torch.zeros(())))  # biases start at zero

    def effective_weight(self) -> Float[Tensor, "m n"]:
        """The matrix that the layer applies, W = A + B."""
        return pathway_total(self, self.sums[0], partial(getattr, self))

    def effective_bias(self) -> Float[Tensor, " m"] | None:
        """The vector that the layer adds."""
        return pathway_total(self, self.sums[1], partial(getattr, self)) if self.has_bias else None

    def linear_map(self) -> LinearMap:
        """See networks/layers/pathway_sums.py."""
        orthogonal = self.is_equivariant and are_orthogonal(self.bases)
        return LinearMap(self.rep_out.size, self.sums, self.rep_in, self.rep_out, orthogonal)

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch m"]:
        """Apply the layer to vectors of ``rep_in``."""
        return apply_linear(x, self.effective_weight(), self.effective_bias())

    def roles(self) -> dict[str, ParameterRole]:
        """See PathwayLayer."""
        maps = [
            StructuredPathway(
                basis,
                coordinate_fan_ins(basis, self.rep_in, self.rep_out, self.activated),
                layer_fan_in(basis, self.rep_out),
            )
            for basis in self.bases
        ]
        vectors = [StructuredPathway(basis, 1.0, 1.0) for basis in self.bias_bases]
        fan_ins = dense_fan_in(self.rep_in, self.activated), float(self.rep_in.size)
        if self.parametrization == "collapsed":
            roles = {
                "weight": ParameterRole("collapsed", *fan_ins, structured=tuple(maps)),
                "bias": ParameterRole("collapsed", 1.0, 1.0, structured=tuple(vectors)),
            }
        else:
            roles = {"dense": ParameterRole("dense", *fan_ins), "bias_dense": ParameterRole("dense", 1.0, 1.0)}
            for name, pathways in (("beta", maps), ("bias_beta", vectors)):
                for level, (numbered, pathway) in enumerate(_numbered(name, pathways).items()):
                    own = pathway.fan_in, pathway.layer_fan_in
                    roles[numbered] = ParameterRole("equivariant", *own, level, len(pathways))
        return {name: roles[name] for name, _ in self.named_parameters()}


def check_parametrization(parametrization: str) -> None:
    """Raise ValueError if this is no parametrization."""
    if parametrization not in get_args(Parametrization):
        raise ValueError(f"parametrization must be 'residual' or 'collapsed', got {parametrization!r}.")


def _numbered(name: str, values: Sequence[_Value]) -> dict[str, _Value]:
    """Values by a name, numbered if there are several."""
    return {name if len(values) == 1 else f"{name}_{level}": value for level, value in enumerate(values)}


def as_chain(group: Group | Sequence[Group]) -> list[Group]:
    """A group or a chain of groups as a list; raises ValueError or TypeError for anything else."""
    chain = [group] if isinstance(group, Group) else list(group)
    if not chain:
        raise ValueError("group must be a group or a chain of groups, got an empty sequence.")
    for part in chain:
        if not isinstance(part, Group):
            raise TypeError(
                f"group must be a group or a chain of groups, got {part!r} in it; text goes to parse_group."
            )
    return chain


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names with their numbers, where two are the same or one is that of the dense pathway."""
    repeated = len(set(names)) < len(names) or "dense" in names
    return tuple(f"{name} [{index}]" if repeated else name for index, name in enumerate(names))
