"""Group homomorphisms given on generators, evaluated at any element."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bayes_rpp.groups.checks import is_singular
from bayes_rpp.groups.finite import ElementTable
from bayes_rpp.groups.group import Group
from bayes_rpp.representations.matrix_logarithm import IdentityComponent, tolerance_of

_TOLERANCE = 1e-8
_MOST_WORDS = 128
_CHECKED_ELEMENTS = 6
_CHECKED_SHIFTS = 24


class Homomorphism:
    """The homomorphism from a group to matrices that takes given values on its generators.

    ``algebra_images`` are those of the group's ``lie_algebra``, ``generator_images`` of its ``generators``. The images
    of all elements of a finite group are tabulated; in any other group an element is a word in the discrete generators
    times an element of the identity component. If no homomorphism takes these values, a ValueError says which relation
    fails, and by how much: of an infinite group all brackets and conjugations are checked, and that elements that are
    products in several ways have one image.
    """

    def __init__(
        self, group: Group, algebra_images: Float[Tensor, "k s s"], generator_images: Float[Tensor, "m s s"]
    ) -> None:
        self.group, self.algebra_images, self.generator_images = group, algebra_images, generator_images
        self.size = (algebra_images if len(algebra_images) else generator_images).shape[-1]
        for m, image in enumerate(generator_images):
            if is_singular(image):
                raise ValueError(f"the matrix of generator {m} is singular, so it is no image of a group element.")
        if group.element_table is not None:
            self._table = self._tabulate(group.element_table)
            return
        if group.is_finite:
            raise ValueError(f"{group} has too many elements to tabulate a representation given by matrices.")
        self._basis_images = torch.einsum("rk,kij->rij", group.algebra_change, algebra_images)
        self._identity_component = IdentityComponent(self._turned(group.orthonormal_algebra), self._basis_images)
        for k, (a, image) in enumerate(zip(group.lie_algebra, algebra_images, strict=True)):
            what = f"the matrix of Lie-algebra element {k} contradicts the others"
            self._require(image, self.derivative(a), what, _size(image))
        self._check_brackets()
        self._check_conjugations()
        self._words, self._word_images = self._find_words()
        self._check_agreement()

    def derivative(self, a: Float[Tensor, "d d"]) -> Float[Tensor, "s s"]:
        """The image of a Lie-algebra element."""
        if self.group.element_table is not None:
            return a.new_zeros(self.size, self.size)
        coordinates, _ = self._identity_component.coordinates(self._turned(a.double()[None]), _TOLERANCE)
        return torch.einsum("k,kij->ij", coordinates[0], self._basis_images).to(a.dtype)

    def _turned(self, g: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch d d"]:
        """S g S^-1, in coordinates S in which a compact group is orthogonal, so that units make no difference."""
        change = self.group.orthogonal_coordinates
        return g if change is None else change @ g @ torch.linalg.inv(change)

    def __call__(self, g: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch s s"]:
        """The images of group elements; raises ValueError for a matrix that is no element, or of a far component."""
        if self.group.element_table is not None:
            return self._table.to(g)[self.group.element_table.index(g)]
        images, found = self._by_words(self._turned(g.double()), tolerance_of(g))
        if not found.all():
            limit = f", or lie beyond the {_MOST_WORDS} components that were searched"
            raise ValueError(
                f"{int((~found).sum())} of {len(found)} matrices are no elements of {self.group}"
                f"{limit if len(self._words) == _MOST_WORDS else ''}."
            )
        return images.reshape(*g.shape[:-2], self.size, self.size).to(g)

    def holds(self, g: Float[Tensor, "*batch d d"]) -> bool:
        """Whether all matrices are elements of the group."""
        if self.group.element_table is not None:
            return self.group.element_table.has(g)
        return bool(self._by_words(self._turned(g.double()), tolerance_of(g))[1].all())

    def _by_words(self, turned: Tensor, tolerance: float) -> tuple[Float[Tensor, "n s s"], Bool[Tensor, " n"]]:
        flat = turned.reshape(-1, self.group.d, self.group.d)
        images, found = flat.new_zeros(len(flat), self.size, self.size), torch.zeros(len(flat), dtype=torch.bool)
        # Principal logarithms first, for nearly all elements have one; then the search along the shifts.
        for shifts in (slice(0, 1), None):
            for word, image in zip(self._words, self._word_images, strict=True):
                missing = (~found).nonzero()[:, 0]
                if not len(missing):
                    return images, found
                rest = torch.linalg.solve(word, flat[missing])
                inner, exists = self._identity_component.images_of(rest, shifts, tolerance)
                images[missing[exists]] = image @ inner[exists]
                found[missing[exists]] = True
        return images, found

    def _find_words(self) -> tuple[Float[Tensor, "word d d"], Float[Tensor, "word s s"]]:
        """One word in the turned discrete generators for each component, the shortest; at most 128 of them."""
        words = [torch.eye(self.group.d, dtype=torch.float64)]
        images = [torch.eye(self.size, dtype=torch.float64)]
        for word, image in zip(words, images, strict=True):  # both grow
            for h, generator_image in zip(self._turned(self.group.generators), self.generator_images, strict=True):
                new = h @ word
                differences = torch.linalg.inv(torch.stack(words)) @ new
                if len(words) < _MOST_WORDS and not self._identity_component.images_of(differences)[1].any():
                    words.append(new)
                    images.append(generator_image @ image)
        return torch.stack(words), torch.stack(images)

    def _tabulate(self, known: ElementTable) -> Float[Tensor, "order s s"]:
        """Images of all elements, from one generator step to the next; every step is then checked."""
        table = torch.full((len(known.elements), self.size, self.size), torch.nan, dtype=torch.float64)
        table[known.index(torch.eye(self.group.d).double())] = torch.eye(self.size).double()
        steps = [known.index(h @ known.elements) for h in self.group.generators]
        while table[:, 0, 0].isnan().any():
            for image, step in zip(self.generator_images, steps, strict=True):
                done = ~table[:, 0, 0].isnan()
                fresh = done & ~done[step]
                table[step[fresh]] = image @ table[fresh]
        for k, (image, step) in enumerate(zip(self.generator_images, steps, strict=True)):
            self._require(image @ table, table[step], f"the products with generator {k} differ from the group's")
        return table

    def _check_brackets(self) -> None:
        """[drho(A), drho(B)] = drho([A, B])."""
        algebra, images = self.group.orthonormal_algebra, self._basis_images
        for i in range(len(algebra)):
            for j in range(i):
                bracket = algebra[i] @ algebra[j] - algebra[j] @ algebra[i]
                found = images[i] @ images[j] - images[j] @ images[i]
                what = f"the bracket of Lie-algebra elements {j} and {i} is not its image"
                self._require(found, self.derivative(bracket), what, _size(images[i]) * _size(images[j]))

    def _check_conjugations(self) -> None:
        """rho(h) drho(A) rho(h)^-1 = drho(h A h^-1)."""
        for m, (h, image) in enumerate(zip(self.group.generators, self.generator_images, strict=True)):
            for k, (a, derivative) in enumerate(zip(self.group.lie_algebra, self.algebra_images, strict=True)):
                conjugated = self.derivative(h @ a @ torch.linalg.inv(h))
                what = f"conjugating Lie-algebra element {k} by generator {m} gives another matrix than its image"
                self._require(image @ derivative, conjugated @ image, what, _size(image) * _size(derivative))

    def _check_agreement(self) -> None:
        """Elements that are words times exponentials in several ways have one image, and products are products."""
        component, generator = self._identity_component, torch.Generator().manual_seed(1)
        c = 2 * torch.randn(_CHECKED_ELEMENTS, len(component.algebra), generator=generator, dtype=torch.float64)
        elements, images = component.exp(c)
        for shift in range(_CHECKED_SHIFTS):
            found, exists = component.images_of(elements, slice(shift, shift + 1))
            self._require(
                found[exists], images[exists], "going around a closed path in the identity component does not lead back"
            )
        turned = self._turned(self.group.generators)
        for m, (h, generator_image) in enumerate(zip(turned, self.generator_images, strict=True)):
            products = h @ self._words
            found, exists = self._by_words(products, tolerance_of(products))
            what = f"the products with generator {m} differ from the group's"
            self._require(found[exists], (generator_image @ self._word_images)[exists], what)

    def _require(self, found: Tensor, expected: Tensor, what: str, size: float = 1.0) -> None:
        """Refuse matrices that differ, against the size of the expected ones and of what they were made from."""
        miss = float((found - expected).abs().max()) if found.numel() else 0.0
        if miss > _TOLERANCE * max(size, _size(expected)):
            raise ValueError(
                f"these matrices are no representation of {self.group}: {what} (off by {miss:.2g}). Check them against "
                "the order and the signs of group.lie_algebra and group.generators."
            )


def _size(matrices: Tensor) -> float:
    return float(matrices.abs().max()) if matrices.numel() else 0.0
