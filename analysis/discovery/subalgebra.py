"""Subspaces of matrices as Lie algebras: whether they are closed under brackets, and the nearest one that is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

_WEIGHTS = [0.6**step for step in range(30)]
_SOLVED = 1e-10  # of brackets of matrices of length 1


@dataclass(frozen=True)
class Subalgebra:
    """A subspace of a Lie algebra that k matrices span, orthonormal under tr(a^T b) / 2.

    Attributes
    ----------
    directions : (k, d, d), the whole algebra.
    basis : (k, r), orthonormal columns.
    """

    directions: Float[Tensor, "k d d"]
    basis: Float[Tensor, "k r"]

    @property
    def dimension(self) -> int:
        """r."""
        return self.basis.shape[1]

    @cached_property
    def matrices(self) -> Float[Tensor, "r d d"]:
        """The basis as matrices."""
        return torch.einsum("kr,kij->rij", self.basis, self.directions)

    @cached_property
    def bracket_defect(self) -> float:
        """How far the subspace is from being closed under brackets: the root mean square, over pairs of orthonormal
        elements a and b of it, of the part of [a, b] that leaves it, relative to that of [a, b] for pairs of elements
        of the whole algebra. It is 0 for a subalgebra.
        """
        constants = structure_constants(self.directions)
        if self.dimension < 2 or not constants.any():
            return 0.0
        leaving = _leaving(constants, self.basis, _complement(self.basis))
        pairs, all_pairs = self.dimension * (self.dimension - 1), len(self.basis) * (len(self.basis) - 1)
        return float((leaving.square().sum() / pairs / (constants.square().sum() / all_pairs)).sqrt())

    def closed(self) -> Subalgebra | None:
        """The nearest subalgebra of the same dimension; None if none is found within 45 degrees.

        The subspaces near V, with complement U, are spanned by V + U T. Gauss-Newton steps minimise
        ||F(T)||^2 + m^2 ||T||^2, with F what leaves of all brackets, while m goes to 0: to the nearest T with F = 0.
        """
        constants, complement = structure_constants(self.directions), _complement(self.basis)
        pairs = torch.triu_indices(self.dimension, self.dimension, 1)

        def equations(turn: Float[Tensor, "s r"]) -> Tensor:
            inside, outside = self.basis + complement @ turn, complement - self.basis @ turn.mT
            return _leaving(constants, inside, outside)[pairs[0], pairs[1]].flatten()

        turn = self.basis.new_zeros(complement.shape[1], self.dimension)
        one = torch.eye(turn.numel(), dtype=turn.dtype)
        for weight in _WEIGHTS:
            missed = equations(turn)
            if not missed.numel() or missed.abs().max() < _SOLVED:
                return Subalgebra(self.directions, torch.linalg.qr(self.basis + complement @ turn).Q)
            slopes = torch.func.jacfwd(equations)(turn).flatten(1)
            wanted = slopes.mT @ missed + weight**2 * turn.flatten()
            turn = turn - torch.linalg.solve(slopes.mT @ slopes + weight**2 * one, wanted).reshape(turn.shape)
            if torch.linalg.matrix_norm(turn, 2) > 1:  # the tangent of the largest principal angle
                return None
        return None


def leaving_the_span(directions: Float[Tensor, "k d d"]) -> float:
    """The norm of the largest part of a bracket of two directions that leaves their span."""
    inside = torch.einsum("ijl,lab->ijab", structure_constants(directions), directions)
    return float((_brackets(directions) - inside).flatten(2).norm(dim=2).max())


def structure_constants(directions: Float[Tensor, "k d d"]) -> Float[Tensor, "k k k"]:
    """c of [e_i, e_j] = sum_l c_ijl e_l, for matrices that are orthonormal under tr(a^T b) / 2."""
    return torch.einsum("ijab,lab->ijl", _brackets(directions), directions) / 2


def _brackets(directions: Float[Tensor, "k d d"]) -> Float[Tensor, "k k d d"]:
    products = torch.einsum("iab,jbc->ijac", directions, directions)
    return products - products.transpose(0, 1)


def _complement(basis: Float[Tensor, "k r"]) -> Float[Tensor, "k s"]:
    return torch.linalg.qr(basis, mode="complete").Q[:, basis.shape[1] :]


def _leaving(
    constants: Float[Tensor, "k k k"], inside: Float[Tensor, "k r"], outside: Float[Tensor, "k s"]
) -> Float[Tensor, "r r s"]:
    """The components outside of the brackets of what is inside."""
    return torch.einsum("ia,jb,ijl,lm->abm", inside, inside, constants, outside)
