"""Whole networks on one interface: RPPEMLP (approximately equivariant), EMLP (exactly), MLP (not at all)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, cast, get_args

from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.groups.group import Group
from bayes_rpp.networks.descriptions import mapping_text, parameters_text
from bayes_rpp.networks.layers.bilinear import EquivariantBilinear
from bayes_rpp.networks.layers.gated import GatedNonlinearity, gated, gates_itself
from bayes_rpp.networks.layers.linear import EquivariantLinear
from bayes_rpp.networks.layers.low_rank_bilinear import LowRankBilinear
from bayes_rpp.networks.layers.roles import ParameterRole
from bayes_rpp.networks.layers.rpp_linear import Parametrization, RPPLinear, as_chain
from bayes_rpp.networks.uniform_rep import uniform_rep
from bayes_rpp.notation import as_group, as_rep
from bayes_rpp.representations.rep import Rep

Channels = int | Rep | Sequence[int | Rep]

Bilinear = Literal["low_rank", "full"]

_BILINEAR: dict[Bilinear, type[LowRankBilinear] | type[EquivariantBilinear]] = {
    "low_rank": LowRankBilinear,
    "full": EquivariantBilinear,
}
_BILINEAR_SCALE = 0.1


class EquivariantBlock(nn.Module):
    """One hidden layer: gate(h + 0.1 bilinear(h)) with h the linear layer's output. Pieces that the group permutes have
    pointwise nonlinearities and need no bilinear layer.
    """

    def __init__(self, linear: nn.Module, rep_out: Rep, residual: bool, bilinear: Bilinear | None) -> None:
        super().__init__()
        self.linear = linear
        layer = None if bilinear is None else _BILINEAR[bilinear](gated(rep_out), scale=_BILINEAR_SCALE)
        self.bilinear = layer if layer is not None and len(layer.weight) else None
        self.nonlinearity = GatedNonlinearity(rep_out, residual=residual)

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch m"]:
        """Apply the layer."""
        h = self.linear(x)
        if self.bilinear is not None:
            h = h + self.bilinear(h)
        return self.nonlinearity(h)


def checked_bilinear(given: bool | str) -> Bilinear | None:
    """The kind of bilinear layer that an argument means."""
    if isinstance(given, bool):
        return "low_rank" if given else None
    if given not in get_args(Bilinear):
        raise ValueError(f"bilinear must be True, False, 'low_rank' or 'full', got {given!r}.")
    return cast(Bilinear, given)


class SymmetricNetwork(nn.Module):
    """What the three networks share: bound representations, hidden layers, and the arguments to rebuild from.

    Parameters
    ----------
    rep_in, rep_out : representations of the input and the output, bound or not, or text that describes them.
    group : the group to bind them to, or text that names it.
    channels : the size of every hidden layer, or its representation, or a sequence of these, one for each layer.
    layers : how many hidden layers; ignored if channels is a sequence.
    """

    def __init__(
        self, rep_in: Rep | str, rep_out: Rep | str, group: Group | str, channels: Channels = 384, layers: int = 3
    ) -> None:
        super().__init__()
        if isinstance(channels, int | Rep):
            if layers < 0:
                raise ValueError(f"layers must not be negative, got {layers}.")
            channels = [channels] * layers
        group = as_group(group)
        self.group, self.rep_in, self.rep_out = group, as_rep(rep_in)(group), as_rep(rep_out)(group)
        self.hidden = [c(group) if isinstance(c, Rep) else uniform_rep(c, group) for c in channels]
        self.network = nn.Sequential()

    def forward(self, x: Float[Tensor, "*batch size_in"]) -> Float[Tensor, "*batch size_out"]:
        """Map inputs in ``rep_in`` to outputs in ``rep_out``; raises ValueError for inputs of another size."""
        if x.shape[-1:] != (self.rep_in.size,):
            raise ValueError(
                f"x has shape {tuple(x.shape)}, so {x.shape[-1] if x.ndim else 0} numbers an example, but rep_in = "
                f"{self.rep_in} of {self.group} has size {self.rep_in.size}."
            )
        return self.network(x)

    def __repr__(self) -> str:
        sizes = [hidden.size for hidden in self.hidden]
        channels = f"channels {sizes[0] if len(set(sizes)) == 1 else sizes}, " if sizes else ""
        kinds = {module.parametrization for module in self.modules() if isinstance(module, RPPLinear)} - {"residual"}
        mapping = mapping_text(self.rep_in, self.rep_out, getattr(self, "chain", ()))
        settings = ", ".join([f"{mapping}, {channels}layers {len(sizes)}", *kinds])
        return f"{type(self).__name__}({settings}; {parameters_text(self)})"

    def config(self) -> dict[str, Any]:
        """The arguments that rebuild the network."""
        return {"rep_in": self.rep_in, "rep_out": self.rep_out, "group": self.group, "channels": list(self.hidden)}

    def _blocks(
        self, linear: type[nn.Module], residual: bool, bilinear: Bilinear | None, **options: object
    ) -> nn.Sequential:
        layers: list[nn.Module] = []
        rep = self.rep_in
        for hidden in self.hidden:
            mixes = None if all(gates_itself(run, hidden) for run in hidden.runs) else bilinear
            first = linear(rep, gated(hidden), activated=bool(layers), **options)
            layers.append(EquivariantBlock(first, hidden, residual, mixes))
            rep = hidden
        return nn.Sequential(*layers, linear(rep, self.rep_out, activated=bool(layers), **options))


class RPPEMLP(SymmetricNetwork):
    """An equivariant MLP with a dense residual pathway in every layer (Finzi, Benton & Wilson, NeurIPS 2021).

    Parameters
    ----------
    rep_in, rep_out, channels, layers : see SymmetricNetwork.
    group : the group, or a chain of groups, each a subgroup of the one before. Every linear layer then has a pathway
        for each, see RPPLinear; hidden representations and nonlinearities are those of the first.
    parametrization : "residual" or "collapsed", see RPPLinear.
    bilinear : the bilinear layer of every block: "low_rank", which True means (see LowRankBilinear), "full", with more
        weights (see EquivariantBilinear), or False. Blocks of pieces that the group only permutes have none.

    Raises
    ------
    ValueError
        If ``bilinear`` is none of these, or ``layers`` is negative.

    Examples
    --------
    >>> net = RPPEMLP("5*Scalar + 5*Vector", "T(2)", "O(3)", channels=64)  # or 5 * Scalar + 5 * Vector, T(2), O(3)
    >>> net(torch.randn(7, 20)).shape
    torch.Size([7, 9])
    """

    def __init__(
        self,
        rep_in: Rep | str,
        rep_out: Rep | str,
        group: Group | str | Sequence[Group | str],
        channels: Channels = 384,
        layers: int = 3,
        parametrization: Parametrization = "residual",
        bilinear: bool | Bilinear = True,
    ) -> None:
        named = [group] if isinstance(group, Group | str) else group
        chain = as_chain([as_group(part) for part in named])
        super().__init__(rep_in, rep_out, chain[0], channels, layers)
        self.chain, self.bilinear = chain, checked_bilinear(bilinear)
        self.network = self._blocks(RPPLinear, True, self.bilinear, parametrization=parametrization, group=chain)

    @property
    def parametrization(self) -> Parametrization:
        """That of its linear layers."""
        last = self.network[-1]
        assert isinstance(last, RPPLinear)
        return last.parametrization

    def config(self) -> dict[str, Any]:
        """The arguments that rebuild the network."""
        group = self.group if len(self.chain) == 1 else self.chain
        options = {"parametrization": self.parametrization, "bilinear": self.bilinear or False}
        return super().config() | {"group": group} | options


class EMLP(SymmetricNetwork):
    """An exactly equivariant MLP (Finzi, Welling & Wilson, ICML 2021): RPPEMLP without its dense pathway.

    Parameters
    ----------
    rep_in, rep_out, group, channels, layers : see SymmetricNetwork.
    bilinear : "low_rank" (or True), "full" or False, see RPPEMLP.

    Examples
    --------
    >>> EMLP(Vector, Scalar, SO(3), channels=32)(torch.randn(7, 3)).shape
    torch.Size([7, 1])
    """

    def __init__(
        self,
        rep_in: Rep | str,
        rep_out: Rep | str,
        group: Group | str,
        channels: Channels = 384,
        layers: int = 3,
        bilinear: bool | Bilinear = True,
    ) -> None:
        super().__init__(rep_in, rep_out, group, channels, layers)
        self.bilinear = checked_bilinear(bilinear)
        self.network = self._blocks(EquivariantLinear, False, self.bilinear)

    def config(self) -> dict[str, Any]:
        """The arguments that rebuild the network."""
        return super().config() | {"bilinear": self.bilinear or False}


class MLP(SymmetricNetwork):
    """An ordinary MLP with Swish activations, with the hidden widths that RPPEMLP would have.

    Parameters
    ----------
    rep_in, rep_out, group, channels, layers : see SymmetricNetwork; the group matters to diagnostics only.

    Examples
    --------
    >>> MLP(Vector, Scalar, SO(3), channels=32)(torch.randn(7, 3)).shape
    torch.Size([7, 1])
    """

    def __init__(
        self, rep_in: Rep | str, rep_out: Rep | str, group: Group | str, channels: Channels = 384, layers: int = 3
    ) -> None:
        super().__init__(rep_in, rep_out, group, channels, layers)
        sizes, modules = [self.rep_in.size, *(rep.size for rep in self.hidden)], []
        for size_in, size_out in pairwise(sizes):
            modules += [PlainLinear(size_in, size_out), nn.SiLU()]
        self.network = nn.Sequential(*modules, PlainLinear(sizes[-1], self.rep_out.size))


class PlainLinear(nn.Linear):
    """A dense layer without an equivariant pathway."""

    def roles(self) -> dict[str, ParameterRole]:
        """See PathwayLayer."""
        return {
            "weight": ParameterRole("plain", self.in_features, self.in_features),
            "bias": ParameterRole("plain", 1, 1),
        }


# By the names that estimators and commands take.
NETWORKS: dict[str, type[RPPEMLP] | type[EMLP] | type[MLP]] = {"rpp": RPPEMLP, "emlp": EMLP, "mlp": MLP}
