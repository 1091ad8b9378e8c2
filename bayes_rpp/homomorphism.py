"""Group homomorphisms given on generators, evaluated at any element."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bayes_rpp.finite_elements import ElementTable
from bayes_rpp.matrix_group import Group

_TOLERANCE = 1e-8
_LONGEST_WORD = 3
_SHIFTS = 4
_LARGEST_PERIOD = 60


class Homomorphism:
    """The homomorphism from a group to matrices that takes given values on its generators.

    For a finite group the images of all elements are tabulated. In any other group an element is written as a short
    word in the generators times the exponential of a Lie-algebra element.

    Parameters
    ----------
    group : where it starts.
    algebra_images : (k, s, s), of the group's ``lie_algebra``.
    generator_images : (m, s, s), of its discrete ``generators``.

    Raises
    ------
    ValueError
        If no homomorphism takes these values; the message says which relation fails, and by how much.
    """

    def __init__(
        self, group: Group, algebra_images: Float[Tensor, "k s s"], generator_images: Float[Tensor, "m s s"]
    ) -> None:
        self.group, self.algebra_images, self.generator_images = group, algebra_images, generator_images
        self.size = (algebra_images if len(algebra_images) else generator_images).shape[-1]
        self._table = None if group.element_table is None else self._tabulate(group.element_table)
        if self._table is None and group.is_finite:
            raise ValueError(f"{group} has too many elements to tabulate a representation given by matrices.")
        if self._table is None:
            self._check_brackets()
            self._check_conjugations()
            self._check_periods()
            self._words = list(self._short_words())

    def derivative(self, a: Float[Tensor, "d d"]) -> Float[Tensor, "s s"]:
        """The image of a Lie-algebra element."""
        coordinates, _ = _coordinates_in(self.group.lie_algebra, a.double()[None])
        return torch.einsum("k,kij->ij", coordinates[0], self.algebra_images).to(a.dtype)

    def __call__(self, g: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch s s"]:
        """The images of group elements; raises ValueError for a matrix that is no element."""
        if self._table is not None and self.group.element_table is not None:
            return self._table.to(g)[self.group.element_table.index(g)]
        flat = g.double().reshape(-1, self.group.d, self.group.d)
        images, missing = self._by_words(flat)
        if missing.any():
            raise ValueError(f"{int(missing.sum())} of {len(flat)} matrices are no elements of {self.group}.")
        return images.reshape(*g.shape[:-2], self.size, self.size).to(g)

    def holds(self, g: Float[Tensor, "*batch d d"]) -> bool:
        """Whether all matrices are elements of the group."""
        if self.group.element_table is not None:
            return self.group.element_table.has(g)
        return not self._by_words(g.double().reshape(-1, self.group.d, self.group.d))[1].any()

    def _by_words(self, flat: Float[Tensor, "n d d"]) -> tuple[Float[Tensor, "n s s"], Bool[Tensor, " n"]]:
        images, missing = flat.new_zeros(len(flat), self.size, self.size), torch.ones(len(flat), dtype=torch.bool)
        for word, image in self._words:
            if not missing.any():
                break
            places = missing.nonzero()[:, 0]
            logarithms, real = _logarithms(torch.linalg.solve(word, flat[places]))
            coordinates, inside = _coordinates_in(self.group.lie_algebra, logarithms)
            found = places[real & inside]
            exponents = torch.einsum("nk,kij->nij", coordinates[real & inside], self.algebra_images)
            images[found] = image @ torch.linalg.matrix_exp(exponents)
            missing[found] = False
        return images, missing

    def _short_words(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Words in the discrete generators, alone and then times generic elements of the identity component, for
        which the logarithm is not at one of its branch points.
        """
        words = [(torch.eye(self.group.d).double(), torch.eye(self.size).double())]
        frontier = words
        for _ in range(_LONGEST_WORD):
            letters = list(zip(self.group.generators, self.generator_images, strict=True))
            frontier = [(h @ w, image @ i) for w, i in frontier for h, image in letters]
            frontier = [pair for pair in frontier if not any(torch.allclose(pair[0], w) for w, _ in words)]
            words = words + frontier
        yield from words
        generator = torch.Generator().manual_seed(0)
        for _ in range(_SHIFTS):
            c = torch.randn(len(self.group.lie_algebra), generator=generator, dtype=torch.float64)
            shift = torch.linalg.matrix_exp(torch.einsum("k,kij->ij", c, self.group.lie_algebra))
            image = torch.linalg.matrix_exp(torch.einsum("k,kij->ij", c, self.algebra_images))
            yield from ((w @ shift, i @ image) for w, i in words)

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
            self._require(image @ table, table[step], f"products with generator {k} are not those of the group")
        return table

    def _check_brackets(self) -> None:
        """[drho(A), drho(B)] = drho([A, B])."""
        algebra, images = self.group.lie_algebra, self.algebra_images
        for i in range(len(algebra)):
            for j in range(i):
                bracket = algebra[i] @ algebra[j] - algebra[j] @ algebra[i]
                found = images[i] @ images[j] - images[j] @ images[i]
                self._require(found, self.derivative(bracket), f"the bracket of Lie-algebra elements {j} and {i}")

    def _check_conjugations(self) -> None:
        """rho(h) drho(A) rho(h)^-1 = drho(h A h^-1)."""
        for m, (h, image) in enumerate(zip(self.group.generators, self.generator_images, strict=True)):
            for k, (a, derivative) in enumerate(zip(self.group.lie_algebra, self.algebra_images, strict=True)):
                conjugated = self.derivative(h @ a @ torch.linalg.inv(h))
                what = f"conjugating Lie-algebra element {k} by generator {m}"
                self._require(image @ derivative, conjugated @ image, what)

    def _check_periods(self) -> None:
        """Where a power of a generator, or a whole turn of a one-parameter subgroup, is 1, so is that of its image."""
        for k, (a, derivative) in enumerate(zip(self.group.lie_algebra, self.algebra_images, strict=True)):
            rates = torch.linalg.eigvals(a).imag.abs()
            rates = rates[rates > _TOLERANCE]
            if len(rates):
                turn = 2 * torch.pi / rates.min()
                if _is_one(torch.linalg.matrix_exp(turn * a)):
                    image = torch.linalg.matrix_exp(turn * derivative)
                    self._require(image, torch.eye(self.size).double(), f"a whole turn of Lie-algebra element {k}")
        for m, (h, image) in enumerate(zip(self.group.generators, self.generator_images, strict=True)):
            power = next((p for p in range(1, _LARGEST_PERIOD) if _is_one(torch.linalg.matrix_power(h, p))), None)
            if power is not None:
                found = torch.linalg.matrix_power(image, power)
                self._require(found, torch.eye(self.size).double(), f"power {power} of generator {m}, which is 1,")

    def _require(self, found: Tensor, expected: Tensor, what: str) -> None:
        miss = float((found - expected).abs().max()) if found.numel() else 0.0
        if miss > _TOLERANCE * max(1.0, float(expected.abs().max())):
            raise ValueError(
                f"these matrices are no representation of {self.group}: {what} is off by {miss:.2g}. Check them "
                "against the order and the signs of group.lie_algebra and group.generators."
            )


def _is_one(matrix: Tensor) -> bool:
    return bool((matrix - torch.eye(len(matrix)).double()).abs().max() < _TOLERANCE)


def _coordinates_in(
    basis: Float[Tensor, "k d d"], matrices: Float[Tensor, "n d d"]
) -> tuple[Float[Tensor, "n k"], Bool[Tensor, " n"]]:
    """Coordinates of matrices in the span of a basis, and whether they lie in it."""
    flat = matrices.flatten(1)
    if not len(basis):
        return flat.new_zeros(len(flat), 0), flat.abs().amax(1) < _TOLERANCE
    coordinates = flat @ torch.linalg.pinv(basis.flatten(1))
    misses = (coordinates @ basis.flatten(1) - flat).abs().amax(1)
    return coordinates, misses < _TOLERANCE * (1 + flat.abs().amax(1))


def _logarithms(matrices: Float[Tensor, "n d d"]) -> tuple[Float[Tensor, "n d d"], Bool[Tensor, " n"]]:
    """Principal logarithms, and whether they are real and exact."""
    near_one = (matrices - torch.eye(matrices.shape[-1]).double()).abs().amax((-2, -1)) < 1e-14
    values, vectors = torch.linalg.eig(matrices)
    solvable = torch.linalg.det(vectors).abs() > 1e-10
    safe = torch.where(solvable[:, None, None], vectors, torch.eye(matrices.shape[-1]).to(vectors))
    complex_logarithms = torch.linalg.solve(safe.mT, (safe * values.log()[:, None, :]).mT).mT
    logarithms = torch.where(near_one[:, None, None], 0.0, complex_logarithms.real)
    exact = (torch.linalg.matrix_exp(logarithms) - matrices).abs().amax((-2, -1)) < 1e-9 * matrices.abs().amax((-2, -1))
    return logarithms, near_one | (exact & (complex_logarithms.imag.abs().amax((-2, -1)) < _TOLERANCE))
