"""Irreducible real representations: of SO(2), O(2), SO(3), O(3) in closed form, of finite groups by decomposition."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayes_rpp.groups.group import Group
from bayes_rpp.groups.named import SO, O
from bayes_rpp.representations.canonical import canonical_columns
from bayes_rpp.representations.harmonics import _PlanarHarmonics, _SphericalHarmonics

LARGEST_DECOMPOSED_ORDER = 2_000


@lru_cache(maxsize=256)
def irreducible_family(group: Group) -> FiniteIrreps | _PlanarHarmonics | _SphericalHarmonics:
    """A group's irreducible representations, numbered from 0, the trivial one; ValueError if they are unknown here."""
    if group in (SO(2), O(2)):
        return _PlanarHarmonics()
    if group in (SO(3), O(3)):
        return _SphericalHarmonics()
    return finite_irreps(group)


@dataclass(frozen=True)
class FiniteIrreps:
    """The irreducible representations of a finite group: the matrices of all elements."""

    group: Group
    tables: tuple[Float[Tensor, "order size size"], ...]

    def size(self, degree: int) -> int:
        """The dimension of the representation number ``degree``; raises ValueError if there is none."""
        if degree >= len(self.tables):
            raise ValueError(
                f"{self.group} has {len(self.tables)} irreducible representations, Irrep(0) to "
                f"Irrep({len(self.tables) - 1}); there is no Irrep({degree})."
            )
        return self.tables[degree].shape[-1]

    def rho(self, degree: int, g: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch size size"]:
        """The matrices of the representation number ``degree``."""
        assert self.group.element_table is not None
        return self.tables[degree].to(g)[self.group.element_table.index(g)]

    def drho(self, degree: int, a: Float[Tensor, "d d"]) -> Float[Tensor, "size size"]:
        """Zero: a finite group has no Lie algebra."""
        return a.new_zeros(self.size(degree), self.size(degree))


@lru_cache(maxsize=64)
def finite_irreps(group: Group) -> FiniteIrreps:
    """All irreducible real representations, by dimension, the trivial one first: the eigenspaces of a generic symmetric
    matrix that commutes with the regular representation.
    """
    products = multiplication_table(group)
    order, inverses = len(products), np.nonzero(products == 0)[1]
    generator = np.random.default_rng(0)
    coefficients = generator.normal(size=order)
    values, vectors = np.linalg.eigh((coefficients + coefficients[inverses])[products[inverses]])
    bounds = np.flatnonzero(np.diff(values) > 1e-8 * np.abs(values).max()) + 1
    # A generic weighted sum differs between characters: sum_g w(g) chi(g) is the trace of sum_g w(g) lambda(g).
    weighted = generator.normal(size=order)[products[:, inverses]]
    traces = np.add.reduceat((vectors * (weighted @ vectors)).sum(0), np.concatenate([[0], bounds]))
    spaces = np.split(vectors, bounds, axis=1)
    bases = [canonical_columns(spaces[k]) for k in sorted(np.unique(np.round(traces, 5), return_index=True)[1])]
    # The left translate of column h stands in row gh.
    tables = [np.einsum("ghi,hj->gij", basis[products], basis, optimize=True) for basis in bases]
    characters = [np.round(table.trace(axis1=1, axis2=2), 5) + 0.0 for table in tables]
    # The mean square of a character is 1, 2 or 4, for endomorphisms in R, C or H.
    squares = [
        table.shape[-1] ** 2 / round(float(np.square(c).mean())) for table, c in zip(tables, characters, strict=True)
    ]
    if sum(squares) != order:
        raise RuntimeError(f"the regular representation of {group} did not fall into irreducible ones.")
    by_size = sorted(range(len(tables)), key=lambda k: (tables[k].shape[-1], tuple(-characters[k])))
    return FiniteIrreps(group, tuple(torch.from_numpy(tables[k]) for k in by_size))


def regular_images(group: Group, g: Float[Tensor, "*batch d d"]) -> Int[Tensor, "*batch order"]:
    """For every element h in order, the index of g h; ValueError if they cannot be listed or g is no element."""
    table = group.element_table
    if table is None or len(table.elements) > LARGEST_DECOMPOSED_ORDER:
        raise ValueError(
            f"the regular representation of {group} is not finite, or has more than {LARGEST_DECOMPOSED_ORDER:,} "
            "dimensions."
        )
    return torch.from_numpy(multiplication_table(group))[table.index(g)]


@lru_cache(maxsize=64)
def multiplication_table(group: Group) -> Int[np.ndarray, "order order"]:
    """The index of g h, for every g (row) and h (column); the first element is the identity."""
    table = group.element_table
    if table is None or len(table.elements) > LARGEST_DECOMPOSED_ORDER:
        raise ValueError(
            f"the irreducible representations of {group} are not known here: they are for SO(2), O(2), SO(3), O(3) and "
            f"finite groups of at most {LARGEST_DECOMPOSED_ORDER:,} elements. Give others by matrix_rep."
        )
    order = len(table.elements)
    products, known = np.zeros((order, order), dtype=np.int64), np.zeros(order, dtype=bool)
    products[0], known[0] = np.arange(order), True
    steps = [table.index(h @ table.elements).numpy() for h in group.generators]
    while not known.all():
        for step in steps:
            fresh = np.flatnonzero(known & ~known[step])
            products[step[fresh]] = step[products[fresh]]
            known[step[fresh]] = True
    return products
