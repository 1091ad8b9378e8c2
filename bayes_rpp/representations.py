"""The algebra of tensor representations.

A representation is an ordered direct sum of runs, ``multiplicity * piece``, where a piece is a tensor product of
factors: the defining representation V, its dual V*, or the sign of the determinant. Its coordinates are laid out run
by run, copy by copy, each copy as a row-major tensor: ``5*Vector`` on R^3 is (x1, y1, z1, x2, y2, z2, ...).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.groups import Group

Factor = Literal["vector", "dual", "sign"]
Piece = tuple[Factor, ...]
"""The factors of a tensor product, in the order of the tensor's axes; () is the scalar."""


@dataclass(frozen=True)
class Run:
    """Consecutive copies of one piece inside a bound representation, and the coordinates that they fill."""

    piece: Piece
    multiplicity: int
    piece_size: int
    start: int

    @property
    def size(self) -> int:
        """The number of coordinates of all copies together."""
        return self.multiplicity * self.piece_size

    @property
    def stop(self) -> int:
        """One past the last coordinate."""
        return self.start + self.size


class Rep:
    """A direct sum of tensor representations, unbound or bound to a group by ``rep(group)``.

    Combine representations with ``+``, integer ``*``, tensor ``*``, ``**`` and ``.dual``. A tensor product of sums is
    the sum of the products of their pieces, in the order of the left operand's pieces.

    Binding simplifies what the group makes equal: a dual is a vector for an orthogonal group, the sign of the
    determinant is 1 where every determinant is positive. Two bound representations are equal if their layouts and
    groups are.

    Examples
    --------
    >>> rep = (5 * Scalar + 5 * Vector)(SO(3))
    >>> rep.size
    20
    """

    def __init__(self, terms: Iterable[tuple[int, Piece]], group: Group | None = None) -> None:
        self.group = group
        self.given_terms = tuple((count, piece) for count, piece in terms if count)
        simplified = ((count, _simplify(piece, group)) for count, piece in self.given_terms)
        merged = groupby(simplified, key=lambda term: term[1])
        self.terms: tuple[tuple[int, Piece], ...] = tuple((sum(n for n, _ in same), p) for p, same in merged)

    def __call__(self, group: Group) -> Rep:
        """Bind to a group; a representation bound to an equal group is returned as it is."""
        if self.group is not None and self.group != group:
            raise ValueError(f"{self} is bound to {self.group} already and cannot be bound to {group}.")
        return self if self.group is not None else Rep(self.given_terms, group)

    def __add__(self, other: Rep) -> Rep:
        if not isinstance(other, Rep):
            return NotImplemented
        return Rep(self.given_terms + other.given_terms, _common_group(self, other))

    def __mul__(self, other: Rep | int) -> Rep:
        if isinstance(other, int):
            if other < 0:
                raise ValueError(f"a multiplicity must not be negative, got {other} * ({self}).")
            if len(self.given_terms) == 1:
                return Rep([(other * self.given_terms[0][0], self.given_terms[0][1])], self.group)
            return Rep(self.given_terms * other, self.group)
        if not isinstance(other, Rep):
            return NotImplemented
        products = ((n * m, p + q) for n, p in self.given_terms for m, q in other.given_terms)
        return Rep(products, _common_group(self, other))

    __rmul__ = __mul__

    def __pow__(self, exponent: int) -> Rep:
        if not isinstance(exponent, int) or exponent < 0:
            raise ValueError(f"a power must be a non-negative integer, got {exponent!r}.")
        result = Rep([(1, ())], self.group)
        for _ in range(exponent):
            result = result * self
        return result

    @property
    def dual(self) -> Rep:
        """The representation by inverse transposes."""
        return Rep(((n, dual_piece(p)) for n, p in self.given_terms), self.group)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rep) and self.terms == other.terms and self.group == other.group

    def __hash__(self) -> int:
        return hash((self.terms, self.group))

    def __repr__(self) -> str:
        return " + ".join(f"{n}*{_name(p)}" if n > 1 else _name(p) for n, p in self.terms) or "0*Scalar"

    @property
    def bound_group(self) -> Group:
        """The group; raises ValueError while unbound."""
        if self.group is None:
            raise ValueError(f"{self} is not bound to a group yet: call it with one, as in rep(O(3)).")
        return self.group

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """The runs of equal pieces with their places in the vector."""
        d, start, runs = self.bound_group.d, 0, []
        for count, piece in self.terms:
            runs.append(Run(piece, count, piece_size(piece, d), start))
            start = runs[-1].stop
        return tuple(runs)

    @cached_property
    def size(self) -> int:
        """The dimension of the bound representation."""
        return sum(run.size for run in self.runs)

    def rho(self, g: Float[Tensor, "d d"]) -> Float[Tensor, "size size"]:
        """The dense matrix of a group element."""
        blocks = [piece_rho(run.piece, g) for run in self.runs for _ in range(run.multiplicity)]
        return torch.block_diag(*blocks) if blocks else g.new_zeros(0, 0)

    def drho(self, a: Float[Tensor, "d d"]) -> Float[Tensor, "size size"]:
        """The dense matrix of a Lie-algebra element: the derivative of ``rho(exp(t a))`` at t = 0."""
        blocks = [piece_drho(run.piece, a) for run in self.runs for _ in range(run.multiplicity)]
        return torch.block_diag(*blocks) if blocks else a.new_zeros(0, 0)

    def apply(self, g: Float[Tensor, "*elements d d"], x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Act on vectors, rho(g) x, one tensor axis at a time and without building the matrix.

        Parameters
        ----------
        g : one matrix for all vectors, or one for each: its leading dimensions broadcast against those of x.
        x : vectors.

        Raises
        ------
        ValueError
            If x's last dimension is not ``size`` or g is not made of d x d matrices.
        """
        d = self.bound_group.d
        if x.shape[-1:] != (self.size,):
            raise ValueError(f"x has shape {tuple(x.shape)}, but {self} of {self.group} has size {self.size}.")
        if g.shape[-2:] != (d, d):
            raise ValueError(f"g must hold {d} x {d} matrices of {self.group}, got shape {tuple(g.shape)}.")
        g = g.to(x)
        x = x.expand(*torch.broadcast_shapes(x.shape[:-1], g.shape[:-2]), self.size)
        if not self.terms:
            return x
        inverse_transpose = torch.linalg.inv(g).mT if any("dual" in p for _, p in self.terms) else g
        return torch.cat(
            [_apply_piece(run, g, inverse_transpose, x[..., run.start : run.stop]) for run in self.runs], dim=-1
        )

    def __iter__(self) -> Iterator[tuple[int, Piece]]:
        return iter(self.terms)


def T(p: int, q: int = 0) -> Rep:
    """The tensors with p vector axes followed by q dual axes; T(0) is Scalar and T(1) is Vector."""
    if not (isinstance(p, int) and isinstance(q, int) and p >= 0 and q >= 0):
        raise ValueError(f"T(p, q) needs non-negative integers, got T({p!r}, {q!r}).")
    vector, dual = cast("Piece", ("vector",)), cast("Piece", ("dual",))
    return Rep([(1, vector * p + dual * q)])


def dual_piece(piece: Piece) -> Piece:
    """The same axes, each replaced by its dual."""
    swap: dict[Factor, Factor] = {"vector": "dual", "dual": "vector", "sign": "sign"}
    return tuple(swap[factor] for factor in piece)


def piece_size(piece: Piece, d: int) -> int:
    """The dimension of a piece for matrices of size d."""
    return math.prod(1 if factor == "sign" else d for factor in piece)


def piece_rho(piece: Piece, g: Tensor) -> Tensor:
    """The Kronecker product of the factors' matrices."""
    result = g.new_ones(1, 1)
    for factor in piece:
        result = torch.kron(result, _factor_rho(factor, g))
    return result


def piece_drho(piece: Piece, a: Tensor) -> Tensor:
    """The sum over factors of 1 x ... x drho x ... x 1."""
    result, eye = a.new_zeros(1, 1), torch.eye(len(a), dtype=a.dtype)
    for factor in piece:
        if factor == "sign":
            continue
        derivative = a if factor == "vector" else -a.mT.contiguous()
        identity = torch.eye(len(result), dtype=a.dtype)
        result = torch.kron(result, eye) + torch.kron(identity, derivative)
    return result


def _factor_rho(factor: Factor, g: Tensor) -> Tensor:
    if factor == "vector":
        return g
    if factor == "dual":
        return torch.linalg.inv(g).mT.contiguous()
    return torch.linalg.det(g).sign().reshape(1, 1)


def _apply_piece(run: Run, g: Tensor, inverse_transpose: Tensor, x: Tensor) -> Tensor:
    d, result, axis_size_left = g.shape[-1], x, run.multiplicity
    for factor in run.piece:
        if factor == "sign":
            result = result * torch.linalg.det(g).sign()[..., None]
            continue
        matrix = g if factor == "vector" else inverse_transpose
        folded = result.unflatten(-1, (axis_size_left, d, -1))
        result = torch.einsum("...ij,...ajb->...aib", matrix, folded).flatten(-3)
        axis_size_left *= d
    return result


def _simplify(piece: Piece, group: Group | None) -> Piece:
    signs = piece.count("sign") % 2
    if group is not None and group.preserves_orientation:
        signs = 0
    axes: Piece = tuple(factor for factor in piece if factor != "sign")
    if group is not None and group.is_orthogonal:
        axes = tuple("vector" for _ in axes)
    sign: Piece = ("sign",) if signs else ()
    return sign + axes


def _common_group(left: Rep, right: Rep) -> Group | None:
    if left.group is not None and right.group is not None and left.group != right.group:
        raise ValueError(f"cannot combine representations of {left.group} and of {right.group}.")
    return left.group or right.group


def _name(piece: Piece) -> str:
    """The text that parse_rep reads back into this piece."""
    names: list[str] = []
    for factors, same in groupby(piece):
        rank = len(list(same))
        names.append("PseudoScalar" if factors == "sign" else f"T({rank})" if factors == "vector" else f"T(0,{rank})")
    if piece == ("vector",):
        return "Vector"
    if len(names) == 2 and "sign" not in piece and piece[0] == "vector":
        return f"T({piece.count('vector')},{piece.count('dual')})"
    return "*".join(names) if names else "Scalar"


Scalar = T(0)
Vector = T(1)
PseudoScalar = Rep([(1, ("sign",))])
