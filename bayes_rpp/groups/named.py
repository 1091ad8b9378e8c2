"""The named groups: a class here is known to ``parse_group`` by its name."""

from __future__ import annotations

import math
from numbers import Integral

import torch
from torch import Tensor

from bayes_rpp.groups.group import Group, Matrices
from bayes_rpp.groups.permutations import permutation_matrices


def _check_size(n: object, smallest: int, group: str) -> int:
    """The size as an int; raises ValueError if it is none, or too small."""
    if not isinstance(n, Integral) or n < smallest:
        raise ValueError(f"{group}(n) needs an integer n >= {smallest}, got {n!r}.")
    return int(n)


def _rotation_algebra(n: int) -> Tensor:
    """The n(n-1)/2 elementary antisymmetric matrices."""
    rows, columns = torch.triu_indices(n, n, offset=1)
    algebra = torch.zeros(len(rows), n, n, dtype=torch.float64)
    index = torch.arange(len(rows))
    algebra[index, rows, columns], algebra[index, columns, rows] = -1.0, 1.0
    return algebra


def _haar_orthogonal(count: int, n: int, generator: torch.Generator) -> Tensor:
    """Haar measure on O(n): QR of a Gaussian matrix with the signs of R's diagonal moved into Q (Mezzadri, 2007)."""
    q, r = torch.linalg.qr(torch.randn(count, n, n, generator=generator, dtype=torch.float64))
    return q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]


def _turn(angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    matrix = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    return torch.where(matrix.abs() < 1e-15, 0.0, matrix)  # quarter turns are exact


class Trivial(Group):
    """The group of one element, acting on R^n."""

    def __init__(self, n: int) -> None:
        n = _check_size(n, 1, "Trivial")
        super().__init__(generators=torch.zeros(0, n, n), name=f"Trivial({n})")


class Z(Group):
    """The cyclic group: n coordinates shifted around a ring."""

    def __init__(self, n: int) -> None:
        n = _check_size(n, 1, "Z")
        super().__init__(generators=permutation_matrices(torch.arange(n).roll(-1)[None]), name=f"Z({n})")


class S(Group):
    """The symmetric group: all permutations of n coordinates."""

    def __init__(self, n: int) -> None:
        n = _check_size(n, 1, "S")
        cycle, swap = torch.arange(n).roll(-1), torch.tensor([1, 0, *range(2, n)][-n:])
        super().__init__(generators=permutation_matrices(torch.stack([cycle, swap])), name=f"S({n})")

    @property
    def order(self) -> int:
        """n!"""
        return math.factorial(self.d)

    def has_permutation(self, images: Tensor) -> bool:
        """Whether a permutation is an element: all are."""
        return len(images) == self.d

    def _draw(self, count: int, generator: torch.Generator) -> Matrices:
        order = torch.rand(count, self.d, generator=generator, dtype=torch.float64).argsort(-1)
        return torch.eye(self.d, dtype=torch.float64)[order]


class D(Group):
    """The dihedral group of the regular k-gon, by 2 x 2 rotations and reflections."""

    def __init__(self, k: int) -> None:
        k = _check_size(k, 1, "D")
        reflection = torch.diag(torch.tensor([-1.0, 1.0], dtype=torch.float64))
        super().__init__(generators=torch.stack([_turn(2 * math.pi / k), reflection]), name=f"D({k})")


class SO(Group):
    """The rotations of R^n."""

    def __init__(self, n: int) -> None:
        n = _check_size(n, 2, "SO")
        super().__init__(lie_algebra=_rotation_algebra(n), name=f"SO({n})")

    def _draw(self, count: int, generator: torch.Generator) -> Matrices:
        q = _haar_orthogonal(count, self.d, generator)
        q[:, :, 0] *= torch.linalg.det(q).sign()[:, None]
        return q


class O(Group):  # noqa: E742
    """The rotations and reflections of R^n."""

    def __init__(self, n: int) -> None:
        n = _check_size(n, 1, "O")
        reflection = torch.eye(n, dtype=torch.float64)
        reflection[0, 0] = -1.0
        super().__init__(lie_algebra=_rotation_algebra(n), generators=reflection[None], name=f"O({n})")

    def _draw(self, count: int, generator: torch.Generator) -> Matrices:
        return _haar_orthogonal(count, self.d, generator)


class SL(Group):
    """The real n x n matrices of determinant one."""

    def __init__(self, n: int) -> None:
        n = _check_size(n, 2, "SL")
        rows, columns = torch.nonzero(~torch.eye(n, dtype=torch.bool)).T
        algebra = torch.zeros(n * n - 1, n, n, dtype=torch.float64)
        algebra[torch.arange(len(rows)), rows, columns] = 1.0
        diagonal = torch.arange(n - 1)
        algebra[len(rows) + diagonal, diagonal, diagonal] = 1.0
        algebra[len(rows) + diagonal, diagonal + 1, diagonal + 1] = -1.0
        super().__init__(lie_algebra=algebra, name=f"SL({n})")


class Sp(Group):
    """The real symplectic group on R^(2m): the matrices g with g^T J g = J for J = [[0, 1], [-1, 0]]."""

    def __init__(self, m: int) -> None:
        m = _check_size(m, 1, "Sp")
        symmetric = [(i, j) for i in range(m) for j in range(i, m)]
        algebra = torch.zeros(m * m + 2 * len(symmetric), 2 * m, 2 * m, dtype=torch.float64)
        for k, (i, j) in enumerate((i, j) for i in range(m) for j in range(m)):
            algebra[k, i, j], algebra[k, m + j, m + i] = 1.0, -1.0
        for k, (i, j) in enumerate(symmetric):
            upper, lower = m * m + 2 * k, m * m + 2 * k + 1
            algebra[upper, i, m + j] = algebra[upper, j, m + i] = 1.0
            algebra[lower, m + i, j] = algebra[lower, m + j, i] = 1.0
        super().__init__(lie_algebra=algebra, name=f"Sp({m})")


def _lorentz_algebra() -> Tensor:
    """Three boosts and three rotations of (t, x, y, z)."""
    algebra = torch.zeros(6, 4, 4, dtype=torch.float64)
    for k in range(3):
        algebra[k, 0, k + 1] = algebra[k, k + 1, 0] = 1.0
    algebra[3:, 1:, 1:] = _rotation_algebra(3)
    return algebra


class SO13p(Group):
    """The identity component of the Lorentz group on (t, x, y, z), signature (+, -, -, -)."""

    def __init__(self) -> None:
        super().__init__(lie_algebra=_lorentz_algebra(), name="SO13p")


class SO13(Group):
    """The Lorentz transformations of determinant one: the identity component, and -1."""

    def __init__(self) -> None:
        super().__init__(_lorentz_algebra(), -torch.eye(4, dtype=torch.float64)[None], name="SO13")


class O13(Group):
    """The whole Lorentz group, with the reflections of space and of time."""

    def __init__(self) -> None:
        parity = torch.diag(torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64))
        super().__init__(_lorentz_algebra(), torch.stack([parity, -parity]), name="O13")


Lorentz = O13


class DkeR3(Group):
    """The dihedral group of the regular k-gon on the xy-plane of R^3: rotations about z, reflections that keep z."""

    def __init__(self, k: int) -> None:
        k = _check_size(k, 1, "DkeR3")
        generators = torch.eye(3, dtype=torch.float64).repeat(2, 1, 1)
        generators[0, :2, :2], generators[1, 0, 0] = _turn(2 * math.pi / k), -1.0
        super().__init__(generators=generators, name=f"DkeR3({k})")


class SO2eR3(Group):
    """The rotations of R^3 about the z axis."""

    def __init__(self) -> None:
        super().__init__(lie_algebra=_rotation_algebra(3)[:1], name="SO2eR3")

    def _draw(self, count: int, generator: torch.Generator) -> Matrices:
        angle = 2 * math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
        return torch.linalg.matrix_exp(angle[:, None, None] * self.lie_algebra[0])


class O2eR3(Group):
    """The rotations of R^3 about the z axis and the reflections in planes that hold it."""

    def __init__(self) -> None:
        reflection = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
        super().__init__(lie_algebra=_rotation_algebra(3)[:1], generators=reflection[None], name="O2eR3")

    def _draw(self, count: int, generator: torch.Generator) -> Matrices:
        rotations = SO2eR3()._draw(count, generator)
        flips = torch.rand(count, generator=generator) < 0.5
        rotations[flips] = rotations[flips] @ self.generators[0]
        return rotations
