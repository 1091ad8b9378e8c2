"""Irreducible real representations: of SO(2), O(2), SO(3), O(3) in closed form, of finite groups by decomposition."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bayes_rpp.groups import SO, O
from bayes_rpp.invariants import canonical_columns
from bayes_rpp.matrix_group import Group

LARGEST_DECOMPOSED_ORDER = 2_000


class IrreducibleFamily(Protocol):
    """The irreducible representations of one group, numbered from 0, the trivial one."""

    def size(self, degree: int) -> int:
        """The dimension of one of them; raises ValueError if there is none of this number."""

    def rho(self, degree: int, g: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch size size"]:
        """Its matrices."""

    def drho(self, degree: int, a: Float[Tensor, "d d"]) -> Float[Tensor, "size size"]:
        """Its matrix of a Lie-algebra element."""


@lru_cache(maxsize=256)
def irreducible_family(group: Group) -> IrreducibleFamily:
    """The irreducible representations of a group.

    Raises
    ------
    ValueError
        If they are not known here.
    """
    if group in (SO(2), O(2)):
        return _PlanarHarmonics()
    if group in (SO(3), O(3)):
        return _SphericalHarmonics()
    return finite_irreps(group)


class _PlanarHarmonics:
    """Degree k acts on (Re z^k, Im z^k), z = x + iy."""

    def size(self, degree: int) -> int:
        return 2 if degree else 1

    def rho(self, degree: int, g: Tensor) -> Tensor:
        if not degree:
            return g.new_ones(*g.shape[:-2], 1, 1)
        angle = degree * torch.atan2(g[..., 1, 0], g[..., 0, 0])
        c, s, sign = angle.cos(), angle.sin(), torch.linalg.det(g).sign()
        return torch.stack([torch.stack([c, -s * sign], -1), torch.stack([s, c * sign], -1)], -2)

    def drho(self, degree: int, a: Tensor) -> Tensor:
        return degree * a if degree else a.new_zeros(1, 1)


class _SphericalHarmonics:
    """Degree l acts on the real spherical harmonics Y_lm, m = -l, ..., l (degree 1 is (y, z, x)): Y(R x) = D(R) Y(x).

    O(3) acts on them as polynomials: -1 by (-1)^l.
    """

    def size(self, degree: int) -> int:
        return 2 * degree + 1

    def rho(self, degree: int, g: Tensor) -> Tensor:
        exact = g.double()
        sign = torch.linalg.det(exact).sign()[..., None, None]
        alpha, beta, gamma = _euler_angles(sign * exact)
        turn_y, turn_z = (_one_parameter(degree, axis) for axis in (1, 2))
        rotation = turn_z.turn(alpha) @ turn_y.turn(beta) @ turn_z.turn(gamma)
        return (rotation * sign**degree).to(g.dtype)

    def drho(self, degree: int, a: Tensor) -> Tensor:
        rates = torch.stack([a[2, 1], a[0, 2], a[1, 0]]).double()
        generators = torch.stack([_one_parameter(degree, axis).generator for axis in range(3)])
        return torch.einsum("k,kij->ij", rates, generators).to(a.dtype)


def _euler_angles(r: Float[Tensor, "*batch 3 3"]) -> tuple[Tensor, Tensor, Tensor]:
    """alpha, beta, gamma with R = Rz(alpha) Ry(beta) Rz(gamma).

    Near the poles alpha is ill-determined, but harmless if gamma makes up for it: it comes from the sum of both near
    beta = 0 and from the difference near beta = pi, which are well-determined there.
    """
    alpha = torch.atan2(r[..., 1, 2], r[..., 0, 2])
    beta = torch.atan2(alpha.cos() * r[..., 0, 2] + alpha.sin() * r[..., 1, 2], r[..., 2, 2])
    total = torch.atan2(r[..., 1, 0] - r[..., 0, 1], r[..., 0, 0] + r[..., 1, 1])
    difference = torch.atan2(-r[..., 0, 1] - r[..., 1, 0], r[..., 1, 1] - r[..., 0, 0])
    return alpha, beta, torch.where(r[..., 2, 2] > 0, total - alpha, alpha - difference)


@dataclass(frozen=True)
class _OneParameter:
    """Rotations about one axis, exp(t generator) = Re(V exp(i m t) V^H), with m = -l, ..., l."""

    generator: Float[Tensor, "size size"]
    weights: Float[Tensor, " size"]
    vectors: Tensor

    def turn(self, angle: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch size size"]:
        phases = torch.polar(torch.ones(()).double(), angle[..., None] * self.weights)
        return ((self.vectors * phases[..., None, :]) @ self.vectors.mH).real


@lru_cache(maxsize=128)
def _one_parameter(degree: int, axis: int) -> _OneParameter:
    m = np.arange(-degree, degree + 1)
    raising = np.diag(np.sqrt(degree * (degree + 1) - m[:-1] * (m[:-1] + 1.0)), -1).astype(complex)
    momenta = (raising + raising.T) / 2, (raising - raising.T) / 2j, np.diag(m).astype(complex)
    to_real = np.zeros((len(m), len(m)), dtype=complex)
    to_real[degree, degree] = 1.0
    for k in range(1, degree + 1):
        up, down, sign = degree + k, degree - k, (-1.0) ** k
        to_real[up, up], to_real[up, down] = sign / np.sqrt(2), 1 / np.sqrt(2)
        to_real[down, up], to_real[down, down] = sign / (1j * np.sqrt(2)), -1 / (1j * np.sqrt(2))
    generator = (to_real @ (1j * momenta[axis].T) @ to_real.conj().T).real
    values, vectors = np.linalg.eigh(-1j * generator)
    return _OneParameter(
        torch.from_numpy(generator), torch.from_numpy(np.round(values)), torch.from_numpy(np.ascontiguousarray(vectors))
    )


@dataclass(frozen=True)
class FiniteIrreps:
    """The irreducible representations of a finite group: the matrices of all elements."""

    group: Group
    tables: tuple[Float[Tensor, "order size size"], ...]

    def size(self, degree: int) -> int:
        """The dimension of one of them."""
        if degree >= len(self.tables):
            raise ValueError(
                f"{self.group} has {len(self.tables)} irreducible representations, Irrep(0) to "
                f"Irrep({len(self.tables) - 1}); there is no Irrep({degree})."
            )
        return self.tables[degree].shape[-1]

    def rho(self, degree: int, g: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch size size"]:
        """Its matrices."""
        assert self.group.element_table is not None
        return self.tables[degree].to(g)[self.group.element_table.index(g)]

    def drho(self, degree: int, a: Float[Tensor, "d d"]) -> Float[Tensor, "size size"]:
        """Zero: a finite group has no Lie algebra."""
        return a.new_zeros(self.size(degree), self.size(degree))


@lru_cache(maxsize=64)
def finite_irreps(group: Group) -> FiniteIrreps:
    """All irreducible real representations, by dimension, the trivial one first.

    A generic symmetric matrix that commutes with the regular representation has them as its eigenspaces.
    """
    products = multiplication_table(group)
    order, inverses = len(products), np.nonzero(products == 0)[1]
    generator = np.random.default_rng(0)
    coefficients = generator.normal(size=order)
    values, vectors = np.linalg.eigh((coefficients + coefficients[inverses])[products[inverses]])
    bounds = np.flatnonzero(np.diff(values) > 1e-8 * np.abs(values).max()) + 1
    # A generic weighted sum tells characters apart: sum_g w(g) chi(g) is the trace of sum_g w(g) lambda(g).
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
    """The place of g h in the list of elements, for every element h in its order.

    Raises
    ------
    ValueError
        If the elements of the group cannot be listed, or a matrix is no element.
    """
    table = group.element_table
    if table is None or len(table.elements) > LARGEST_DECOMPOSED_ORDER:
        raise ValueError(
            f"the regular representation of {group} is not finite, or has more than {LARGEST_DECOMPOSED_ORDER:,} "
            "dimensions."
        )
    return torch.from_numpy(multiplication_table(group))[table.index(g)]


@lru_cache(maxsize=64)
def multiplication_table(group: Group) -> Int[np.ndarray, "order order"]:
    """The place of g h, for every g (row) and h (column); the first element is the identity."""
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
