"""Inner products of a representation's pieces as further inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.bases.equivariant import equivariant_maps
from bayes_rpp.groups.group import Group
from bayes_rpp.networks.descriptions import mapping_text, network_text
from bayes_rpp.networks.precision import input_dtype, output_dtype
from bayes_rpp.representations.rep import Rep, Scalar


class InvariantLift(nn.Module):
    r"""x -> (x, all x_a^T M x_b): a representation with its invariant bilinear forms beside it.

    M runs over an orthonormal basis of the equivariant maps from the piece x_b to the dual of the piece x_a, for all
    pairs a <= b; of a piece with itself only symmetric forms count. Scalars have none, since a network multiplies them
    by itself. By the first fundamental theorem of invariant theory all polynomial invariants of vectors under O(n) are
    polynomials of these (Villar et al., NeurIPS 2021).

    M has Frobenius norm 1, so that forms are of order one for inputs of unit scale.

    Parameters
    ----------
    rep_in : the representation of the inputs, bound or not.
    group : the group to bind it to.

    Attributes
    ----------
    rep_out : ``rep_in`` and one scalar for each form.
    forms : (count, n, n), the symmetric matrices of all forms.

    Examples
    --------
    >>> lift = InvariantLift(4 * Vector, SO(3))
    >>> lift.rep_out, lift(torch.randn(7, 12)).shape
    (4*Vector + 10*Scalar, torch.Size([7, 22]))
    """

    forms: Tensor

    def __init__(self, rep_in: Rep, group: Group) -> None:
        super().__init__()
        self.rep_in, self.group = rep_in(group), group
        self._exact = _invariant_forms(self.rep_in)
        self.rep_out = self.rep_in + len(self._exact) * Scalar(group)
        self.register_buffer("forms", self._exact.to(torch.get_default_dtype()), persistent=False)

    def extra_repr(self) -> str:
        """The representations."""
        return mapping_text(self.rep_in, self.rep_out)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> InvariantLift:
        super()._apply(fn, recurse)
        self.forms = self._exact.to(self.forms)  # what a cast to a wider type could not bring back
        return self

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch m"]:
        """The inputs, and the forms at them."""
        if not len(self.forms):
            return x
        forms = self.forms if x.dtype == self.forms.dtype else self._exact.to(x)
        images = (x @ forms.flatten(0, 1).mT).unflatten(-1, forms.shape[:2])
        return torch.cat([x, (images * x[..., None, :]).sum(-1)], dim=-1)


class LiftedNetwork(nn.Module):
    """A network of inputs and their inner products.

    Parameters
    ----------
    network : a network from ``lift.rep_out``.
    lift : what gives it its inputs.

    Raises
    ------
    ValueError
        If the network takes other inputs.
    TypeError
        If it does not say what it takes and gives.

    Examples
    --------
    >>> lift = InvariantLift(4 * Vector, O(3))
    >>> net = LiftedNetwork(RPPEMLP(lift.rep_out, Scalar, O(3), channels=128 * Scalar), lift)
    >>> net(torch.randn(7, 12)).shape
    torch.Size([7, 1])
    """

    def __init__(self, network: nn.Module, lift: InvariantLift) -> None:
        super().__init__()
        given: Any = getattr(network, "rep_in", None)
        if given is None or getattr(network, "rep_out", None) is None:
            raise TypeError(f"network must have rep_in and rep_out, got a {type(network).__name__}.")
        if str(given) != str(lift.rep_out) or given.size != lift.rep_out.size:
            raise ValueError(f"the network takes {given}, but the lift gives {lift.rep_out}.")
        self.network, self.lift = network, lift
        self.rep_in, self.rep_out, self.group = lift.rep_in, network.rep_out, lift.group

    def __repr__(self) -> str:
        return f"LiftedNetwork({network_text(self.network)}, {self.lift!r})"

    @property
    def input_dtype(self) -> torch.dtype:
        """The type in which the network takes its inputs."""
        return input_dtype(self.network)

    @property
    def output_dtype(self) -> torch.dtype:
        """The type of its outputs."""
        return output_dtype(self.network)

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch m"]:
        """The network's output."""
        result: Tensor = self.network(self.lift(x))
        return result


def _invariant_forms(rep: Rep) -> Float[Tensor, "count n n"]:
    """Symmetric matrices S of all forms x^T S x."""
    group = rep.bound_group
    pieces = [
        (run.piece, run.start + copy * run.piece_size, run.piece_size)
        for run in rep.runs
        for copy in range(run.multiplicity)
        if run.piece
    ]
    forms = []
    for index, (of_b, at_b, size_b) in enumerate(pieces):
        for of_a, at_a, size_a in pieces[: index + 1]:
            maps = equivariant_maps(Rep([(1, of_b)], group), Rep([(1, of_a)], group).dual).dense()
            matrices = maps.mT.reshape(-1, size_a, size_b)
            if at_a == at_b:
                matrices = _orthonormal((matrices + matrices.mT) / 2)
            for matrix in matrices:
                form = torch.zeros(rep.size, rep.size, dtype=torch.float64)
                form[at_a : at_a + size_a, at_b : at_b + size_b] = matrix
                forms.append((form + form.mT) / 2 if at_a != at_b else form)
    return torch.stack(forms) if forms else torch.zeros(0, rep.size, rep.size, dtype=torch.float64)


def _orthonormal(matrices: Float[Tensor, "count d d"]) -> Float[Tensor, "rank d d"]:
    """An orthonormal basis of their span."""
    _, sizes, rows = torch.linalg.svd(matrices.flatten(1), full_matrices=False)
    return rows[sizes > 1e-9].unflatten(1, matrices.shape[1:])
