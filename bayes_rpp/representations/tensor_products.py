"""Pieces: tensor products of factors, the unit in which constraints are solved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.groups.group import Group
from bayes_rpp.representations.factors import DUAL, SIGN, VECTOR, Factor

Piece = tuple[Factor, ...]
"""The factors of a tensor product, in the order of the tensor's axes; () is the scalar."""


@dataclass(frozen=True)
class Run:
    """Consecutive copies of one piece inside a bound representation, and the coordinates that they fill."""

    piece: Piece
    multiplicity: int
    sizes: tuple[int, ...]  # of the piece's axes
    start: int

    @property
    def piece_size(self) -> int:
        """The number of coordinates of one copy."""
        return math.prod(self.sizes)

    @property
    def size(self) -> int:
        """The number of coordinates of all copies together."""
        return self.multiplicity * self.piece_size

    @property
    def stop(self) -> int:
        """One past the last coordinate."""
        return self.start + self.size


def arrange_runs(terms: Sequence[tuple[int, Piece]], group: Group) -> tuple[Run, ...]:
    """Multiplicities and pieces as runs, one after the other in a vector."""
    start, runs = 0, []
    for count, piece in terms:
        runs.append(Run(piece, count, tuple(factor.size(group) for factor in piece), start))
        start = runs[-1].stop
    return tuple(runs)


def dual_piece(piece: Piece) -> Piece:
    """The same axes, each replaced by its dual."""
    return tuple(factor.dual for factor in piece)


def piece_size(piece: Piece, group: Group) -> int:
    """The dimension of a piece."""
    return math.prod(factor.size(group) for factor in piece)


def piece_rho(piece: Piece, group: Group, g: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch size size"]:
    """The Kronecker product of the factors' matrices."""
    result = g.new_ones(1, 1)
    for factor in piece:
        result = _kronecker(result, factor.rho(group, g))
    return result


def piece_drho(piece: Piece, group: Group, a: Float[Tensor, "d d"]) -> Float[Tensor, "size size"]:
    """The sum over factors of 1 x ... x drho x ... x 1."""
    result = a.new_zeros(1, 1)
    for factor in piece:
        derivative = factor.drho(group, a)
        here, before = (torch.eye(matrix.shape[-1]).to(a) for matrix in (derivative, result))
        result = _kronecker(result, here) + _kronecker(before, derivative)
    return result


def _kronecker(a: Float[Tensor, "*batch p q"], b: Float[Tensor, "*batch r s"]) -> Float[Tensor, "*batch pr qs"]:
    return (a[..., :, None, :, None] * b[..., None, :, None, :]).flatten(-4, -3).flatten(-2, -1)


def simplify_piece(piece: Piece, group: Group) -> Piece:
    """The same tensors without axes on which the group does nothing and needless duals, signs first and modulo two."""
    axes = [factor.simplified(group) for factor in piece if not factor.is_trivial(group)]
    signs = sorted({f for f in axes if f.is_sign and axes.count(f) % 2}, key=lambda factor: factor.slot)
    return (*signs, *(factor for factor in axes if not factor.is_sign))


def order_signs(piece: Piece) -> Piece:
    """What can be simplified before the group is known: signs come first, and two of them are none."""
    return ((SIGN,) if piece.count(SIGN) % 2 else ()) + tuple(factor for factor in piece if factor != SIGN)


def terms_text(terms: Sequence[tuple[int, Piece]], group: Group | None) -> str:
    """The text that parse_rep reads back into these terms."""
    named = [(count, _piece_text(piece, group)) for count, piece in terms]
    return " + ".join(f"{count}*{name}" if count > 1 else name for count, name in named) or "0*Scalar"


def _piece_text(piece: Piece, group: Group | None) -> str:
    if not piece:
        return "Scalar"
    names, rest = [], list(piece)
    while rest:
        slot = rest[0].slot
        p = len(list(takewhile(replace(VECTOR, slot=slot).__eq__, rest)))
        q = len(list(takewhile(replace(DUAL, slot=slot).__eq__, rest[p:])))
        if p + q:
            name = f"T({p},{q})" if q and p else f"T(0,{q})" if q else "Vector" if p == len(piece) == 1 else f"T({p})"
        else:
            name = rest[0].action.name + (".dual" if rest[0].is_dual else "")
        names.append(name + _slot_text(group, slot))
        rest = rest[max(p + q, 1) :]
    return "*".join(names)


def _slot_text(group: Group | None, slot: int) -> str:
    """The factor of a direct product, with its index where the product has it twice."""
    if group is None or len(group.factors) == 1:
        return ""
    part = group.factors[slot]
    return f"({part})" if group.factors.count(part) == 1 else f"({group}, {slot})"
