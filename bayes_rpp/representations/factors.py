"""Elementary representations: the axes of which tensors are made.

A factor is the defining representation of a group (a vector), the sign of the determinant, or any other ``Action`` (an
irreducible, regular or user's representation), or the dual of one. On a direct product one of the factors of the group
acts on it, its slot.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayes_rpp.groups.group import Group


class Action(ABC):
    """How a group acts on an axis: a function of its matrices. Actions are immutable and hashable. Subclasses need
    ``name``, ``size``, ``rho`` and ``drho``; the rest follows from the matrices of the generators.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called; for tensors, Irrep and Regular the text that ``parse_rep`` reads back."""

    @abstractmethod
    def size(self, group: Group) -> int:
        """The dimension. Raises ValueError if the group has no such representation."""

    @abstractmethod
    def rho(self, group: Group, g: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch size size"]:
        """The matrices of group elements."""

    @abstractmethod
    def drho(self, group: Group, a: Float[Tensor, "d d"]) -> Float[Tensor, "size size"]:
        """The matrix of a Lie-algebra element."""

    def images(self, group: Group, g: Float[Tensor, "*batch d d"]) -> Int[Tensor, "*batch size"] | None:
        """The index to which each coordinate moves, for an action that is best applied so; otherwise None."""
        return None

    @property
    def is_multiplicative(self) -> bool:
        """Whether that of a direct product is the tensor product of those of its factors."""
        return False

    def is_orthogonal(self, group: Group) -> bool:
        """Whether every matrix is orthogonal, so that the dual is the same."""
        return _properties(self, group)[0]

    def is_permutation(self, group: Group) -> bool:
        """Whether every matrix permutes the coordinates."""
        return _properties(self, group)[1]

    def is_trivial(self, group: Group) -> bool:
        """Whether every matrix is the number one."""
        return _properties(self, group)[2]


@lru_cache(maxsize=1024)
def _properties(action: Action, group: Group) -> tuple[bool, bool, bool]:
    """Whether an action is orthogonal, a permutation, trivial."""
    one = torch.eye(action.size(group), dtype=torch.float64)
    rho = torch.cat([one[None], action.rho(group, group.generators)])
    drho = torch.stack([torch.zeros_like(one), *(action.drho(group, a) for a in group.orthonormal_algebra)])
    still = bool(drho.abs().max() < 1e-12)
    antisymmetric = bool((drho + drho.mT).abs().max() <= 1e-10 * drho.abs().max())
    orthogonal = bool(antisymmetric and (rho.mT @ rho - one).abs().max() < 1e-10)
    zero_one = bool((rho * (rho - 1)).abs().max() < 1e-12)
    is_one = len(one) == 1 and bool((rho - 1).abs().max() < 1e-12)
    return orthogonal, still and orthogonal and zero_one, still and is_one


@dataclass(frozen=True)
class _Defining(Action):
    name: str = "Vector"

    def size(self, group: Group) -> int:
        return group.d

    def rho(self, group: Group, g: Tensor) -> Tensor:
        return g

    def drho(self, group: Group, a: Tensor) -> Tensor:
        return a

    def is_orthogonal(self, group: Group) -> bool:
        return group.is_orthogonal

    def is_permutation(self, group: Group) -> bool:
        return group.is_permutation

    def is_trivial(self, group: Group) -> bool:
        return False


@dataclass(frozen=True)
class _Sign(Action):
    name: str = "PseudoScalar"

    def size(self, group: Group) -> int:
        return 1

    def rho(self, group: Group, g: Tensor) -> Tensor:
        return torch.linalg.det(g).sign()[..., None, None]

    def drho(self, group: Group, a: Tensor) -> Tensor:
        return a.new_zeros(1, 1)

    def is_permutation(self, group: Group) -> bool:
        return group.preserves_orientation

    def is_trivial(self, group: Group) -> bool:
        return group.preserves_orientation


@dataclass(frozen=True)
class Factor:
    """One axis of a tensor."""

    action: Action
    slot: int = 0  # the factor of a direct product that acts; 0 for a group that is no product
    is_dual: bool = False  # whether the group acts by the inverse transpose

    def size(self, group: Group) -> int:
        """The dimension."""
        return self.action.size(group.factors[self.slot])

    def rho(self, group: Group, g: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch size size"]:
        """The matrices of group elements; for a direct product g is block diagonal."""
        matrices = self.action.rho(group.factors[self.slot], group.block(g, self.slot))
        return torch.linalg.inv(matrices).mT.contiguous() if self.is_dual else matrices

    def mover(self, group: Group, g: Float[Tensor, "*batch d d"]) -> Callable[[Tensor], Tensor]:
        """What applies group elements to tensors (*batch, before, size, after), along ``size``."""
        images = self.action.images(group.factors[self.slot], group.block(g, self.slot))
        if images is None:
            matrices = self.rho(group, g)
            return lambda x: torch.einsum("...ij,...ajb->...aib", matrices.to(x), x)
        sources = images.argsort(-1)[..., None, :, None]
        # take_along_dim broadcasts, but only between tensors of as many dimensions.
        return lambda x: x.take_along_dim(sources[(None,) * (x.ndim - sources.ndim)].to(x.device), dim=-2)

    def drho(self, group: Group, a: Float[Tensor, "d d"]) -> Float[Tensor, "size size"]:
        """The matrix of a Lie-algebra element."""
        matrix = self.action.drho(group.factors[self.slot], group.block(a, self.slot))
        return -matrix.mT.contiguous() if self.is_dual else matrix

    def is_permutation(self, group: Group) -> bool:
        """Whether the group permutes this axis."""
        return self.action.is_permutation(group.factors[self.slot])

    @property
    def dual(self) -> Factor:
        """The dual representation."""
        return self if self.is_sign else replace(self, is_dual=not self.is_dual)

    @property
    def is_sign(self) -> bool:
        """Whether this is the sign of the determinant, an axis of size one."""
        return isinstance(self.action, _Sign)

    def simplified(self, group: Group) -> Factor:
        """The same representation, not as a dual where that makes no difference."""
        plain = self.is_dual and self.action.is_orthogonal(group.factors[self.slot])
        return replace(self, is_dual=False) if plain else self

    def is_trivial(self, group: Group) -> bool:
        """Whether this axis can be left out."""
        return self.action.is_trivial(group.factors[self.slot])

    @property
    def sort_key(self) -> tuple[int, bool, str, str, bool]:
        """Signs first, then by name, each before its dual."""
        return self.slot, not self.is_sign, self.action.name, repr(self.action), self.is_dual


VECTOR = Factor(_Defining())
DUAL = VECTOR.dual
SIGN = Factor(_Sign())
