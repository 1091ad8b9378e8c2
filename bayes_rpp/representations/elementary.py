"""How groups act on axes that are no vectors: irreducible, regular, given by matrices, restricted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from torch import Tensor

from bayes_rpp.groups.group import Group
from bayes_rpp.groups.permutations import permutation_matrices
from bayes_rpp.representations.factors import Action
from bayes_rpp.representations.finite_irreps import irreducible_family, regular_images
from bayes_rpp.representations.homomorphism import Homomorphism


@dataclass(frozen=True)
class IrreducibleAction(Action):
    """The action by an irreducible representation, see Irrep."""

    degree: int

    @property
    def name(self) -> str:
        """See Action."""
        return f"Irrep({self.degree})"

    def size(self, group: Group) -> int:
        """See Action."""
        return irreducible_family(group).size(self.degree)

    def rho(self, group: Group, g: Tensor) -> Tensor:
        """See Action."""
        return irreducible_family(group).rho(self.degree, g)

    def drho(self, group: Group, a: Tensor) -> Tensor:
        """See Action."""
        return irreducible_family(group).drho(self.degree, a)


@dataclass(frozen=True)
class RegularAction(Action):
    """The action on functions of the group's elements, by left translation."""

    name: str = "Regular"

    @property
    def is_multiplicative(self) -> bool:
        """See Action."""
        return True

    def size(self, group: Group) -> int:
        """See Action."""
        return regular_images(group, group.elements[0] if group.elements is not None else group.generators).shape[-1]

    def rho(self, group: Group, g: Tensor) -> Tensor:
        """See Action."""
        return permutation_matrices(regular_images(group, g)).to(g)

    def images(self, group: Group, g: Tensor) -> Tensor | None:
        """See Action."""
        return regular_images(group, g)

    def drho(self, group: Group, a: Tensor) -> Tensor:
        """See Action."""
        return a.new_zeros(self.size(group), self.size(group))


class MatrixAction(Action):
    """The action by given matrices; two are equal if group and matrices are, whatever the name."""

    def __init__(self, homomorphism: Homomorphism, name: str) -> None:
        self.homomorphism, self._name = homomorphism, name
        content = homomorphism.group.key.encode()
        for matrices in (homomorphism.algebra_images, homomorphism.generator_images):
            content += (matrices + 0.0).numpy().tobytes()
        self._key = hashlib.sha256(content).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MatrixAction) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def name(self) -> str:
        """See Action."""
        return self._name

    def __repr__(self) -> str:
        return f"{self.name}<{self._key}>"

    def size(self, group: Group) -> int:
        """See Action."""
        if group != self.homomorphism.group:
            raise ValueError(f"{self.name} is a representation of {self.homomorphism.group}, not of {group}.")
        return self.homomorphism.size

    def rho(self, group: Group, g: Tensor) -> Tensor:
        """See Action."""
        return self.homomorphism(g)

    def drho(self, group: Group, a: Tensor) -> Tensor:
        """See Action."""
        return self.homomorphism.derivative(a)


@dataclass(frozen=True)
class RestrictedAction(Action):
    """The action of a larger group, restricted to a subgroup."""

    action: Action
    larger: Group

    @property
    def name(self) -> str:
        """See Action."""
        return f"{self.action.name}[{self.larger}]"

    def size(self, group: Group) -> int:
        """See Action."""
        return self.action.size(self.larger)

    def rho(self, group: Group, g: Tensor) -> Tensor:
        """See Action."""
        return self.action.rho(self.larger, g)

    def drho(self, group: Group, a: Tensor) -> Tensor:
        """See Action."""
        return self.action.drho(self.larger, a)
