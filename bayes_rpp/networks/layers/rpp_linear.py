"""The residual pathway layer: a sum of structured pathways and a dense one."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from bayes_rpp.bases.equivariant import EquivariantBasis, equivariant_basis, equivariant_maps
from bayes_rpp.bases.joint_span import are_orthogonal
from bayes_rpp.bases.subgroup_chain import chain_basis, chain_maps
from bayes_rpp.groups.group import Group
from bayes_rpp.networks.descriptions import mapping_text
from bayes_rpp.networks.layers.fan_in import coordinate_fan_ins, dense_fan_in, layer_fan_in
from bayes_rpp.networks.layers.linear import apply_linear, initial_beta, initial_coordinates
from bayes_rpp.networks.layers.pathway_layer import ResidualPathways
from bayes_rpp.networks.layers.pathway_sums import LinearMap, Parametrization
from bayes_rpp.networks.layers.roles import StructuredPathway
from bayes_rpp.representations.rep import Rep


class RPPLinear(ResidualPathways):
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
        groups = [rep_out.bound_group] if group is None else as_chain(group)
        rep_in, rep_out = (rep_in, rep_out) if group is None else (rep_in(groups[0]), rep_out(groups[0]))
        bases, names = _structured(rep_in, rep_out, groups, pathways)
        bias_bases = (equivariant_basis(rep_out),) if len(groups) == 1 else chain_basis(rep_out, groups)
        super().__init__((rep_out.size, rep_in.size), bases, bias_bases if bias else None, names, parametrization)
        self.rep_in, self.rep_out, self.is_equivariant, self.activated = rep_in, rep_out, pathways is None, activated
        self.reset_parameters()

    def extra_repr(self) -> str:
        """The representations, and see ResidualPathways."""
        return f"{mapping_text(self.rep_in, self.rep_out)}; {super().extra_repr()}"

    @property
    def bias_basis(self) -> EquivariantBasis:
        """The first structured pathway of the bias."""
        return self.bias_bases[0]

    def initial_beta(self) -> Float[Tensor, " rank"]:
        """See ResidualPathways."""
        if self.is_equivariant:
            return initial_beta(self.basis, self.rep_in, self.rep_out)
        return initial_coordinates(self.basis, self.rep_out.size)

    def linear_map(self) -> LinearMap:
        """See networks/layers/pathway_sums.py."""
        orthogonal = self.is_equivariant and are_orthogonal(self.bases)
        return LinearMap(self.rep_out.size, self.sums, self.rep_in, self.rep_out, orthogonal)

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch m"]:
        """Apply the layer to vectors of ``rep_in``."""
        return apply_linear(x, self.effective_weight(), self.effective_bias())

    def structured_fan_ins(self) -> tuple[list[StructuredPathway], list[StructuredPathway]]:
        """See ResidualPathways."""
        maps = [
            StructuredPathway(
                basis,
                coordinate_fan_ins(basis, self.rep_in, self.rep_out, self.activated),
                layer_fan_in(basis, self.rep_out),
            )
            for basis in self.bases
        ]
        return maps, [StructuredPathway(basis, 1.0, 1.0) for basis in self.bias_bases]

    def dense_fan_ins(self) -> tuple[float, float]:
        """See ResidualPathways."""
        return dense_fan_in(self.rep_in, self.activated), float(self.rep_in.size)


def _structured(
    rep_in: Rep, rep_out: Rep, groups: Sequence[Group], pathways: Sequence[EquivariantBasis] | None
) -> tuple[tuple[EquivariantBasis, ...], tuple[str, ...]]:
    """The structured pathways of the weight, and their names."""
    if pathways is None and len(groups) == 1:
        return (equivariant_maps(rep_in, rep_out),), ("equivariant",)
    if pathways is None:
        return chain_maps(rep_in, rep_out, groups), _distinct([str(group) for group in groups])
    if not pathways:
        raise ValueError("pathways needs at least one basis; a layer without any is torch's own nn.Linear.")
    size = rep_out.size * rep_in.size
    for index, basis in enumerate(pathways):
        if basis.size != size:
            raise ValueError(
                f"pathway {index} is a basis of size {basis.size}, but maps from {rep_in} to {rep_out} "
                f"have {rep_out.size} x {rep_in.size} = {size} entries."
            )
    return tuple(pathways), tuple(f"pathway {index}" for index in range(len(pathways)))


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
