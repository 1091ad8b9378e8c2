"""The algebra of tensor representations.

A representation is an ordered direct sum of runs, ``multiplicity * piece``, where a piece is a tensor product of
factors: vectors, their duals, the sign of the determinant, and others (see ``factors``). Its coordinates are laid out
run by run, copy by copy, each copy as a row-major tensor: ``5*Vector`` on R^3 is (x1, y1, z1, x2, y2, z2, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.groups.group import Group, ProductGroup
from bayes_rpp.representations.factors import DUAL, SIGN, VECTOR, Factor
from bayes_rpp.representations.tensor_products import (
    Piece,
    Run,
    arrange_runs,
    dual_piece,
    order_signs,
    piece_drho,
    piece_rho,
    simplify_piece,
    terms_text,
)

Element = Tensor | Sequence[Tensor]
"""Group elements: matrices, or for a direct product one stack of matrices for each of its factors."""


class Rep:
    """A direct sum of tensor representations, unbound or bound to a group by ``rep(group)``.

    Combine representations with ``+``, integer ``*``, tensor ``*``, ``**`` and ``.dual``. A tensor product of sums is
    the sum of the products of their pieces, in the order of the left operand's pieces. Representations of different
    groups combine into one of the direct product of these groups: ``Vector(SO(3)) * Vector(S(5))``.

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
        simplified = ((n, simplify_piece(p, group) if group else order_signs(p)) for n, p in self.given_terms)
        merged = groupby(simplified, key=lambda term: term[1])
        self.terms: tuple[tuple[int, Piece], ...] = tuple((sum(n for n, _ in same), p) for p, same in merged)

    def __call__(self, group: Group) -> Rep:
        """Bind to a group, or lift from some factors of a direct product to the product.

        A representation that is bound to an equal group already is returned as it is. Regular representations of a
        direct product are the products of those of its factors. Raises ValueError if it is bound to another group, or
        the group is a product and other pieces do not name their factors.
        """
        if self.group == group:
            return self
        if self.group is not None:
            return self._lifted(group)
        if len(group.factors) == 1:
            return Rep(self.given_terms, group)
        if any(not factor.action.is_multiplicative for _, piece in self.given_terms for factor in piece):
            parts = group.factors
            choices = [f"({self})({part})" for part in parts]
            if len(set(choices)) < len(choices):
                choices = [f"({self}).on(group, {slot})" for slot in range(len(parts))]
            raise ValueError(f"{self} does not say on which factor of {group} it lives: write {' or '.join(choices)}.")
        slots = range(len(group.factors))
        spread = [(n, tuple(replace(f, slot=slot) for f in piece for slot in slots)) for n, piece in self.given_terms]
        return Rep(spread, group)

    def on(self, group: Group, slot: int) -> Rep:
        """This representation of one factor of a direct product, given by its index, as one of the product.

        It is needed where a product has the same factor twice.

        Examples
        --------
        >>> pair = SO(3) * SO(3)
        >>> (Vector.on(pair, 0) * Vector.on(pair, 1)).size
        9
        """
        if not 0 <= slot < len(group.factors):
            raise ValueError(f"{group} has {len(group.factors)} factors, so there is no slot {slot}.")
        self(group.factors[slot])
        return Rep(_move_slots(self.given_terms, {0: slot}), group)

    def _lifted(self, group: Group) -> Rep:
        """Lift to a product with all factors that act on pieces; equal ones keep their order if they are as many."""
        own, target, slots = self.bound_group.factors, group.factors, {}
        for slot in sorted({factor.slot for _, piece in self.given_terms for factor in piece}):
            part = own[slot]
            candidates = [index for index, candidate in enumerate(target) if candidate == part]
            if not candidates:
                raise ValueError(f"{self} is bound to {self.group} already and cannot be bound to {group}.")
            if len(candidates) > 1 and len(candidates) != own.count(part):
                raise ValueError(f"{group} has the factor {part} more than once: choose one by rep.on(group, slot).")
            slots[slot] = candidates[own[:slot].count(part)] if len(candidates) > 1 else candidates[0]
        if not slots and not any(part in target for part in own):
            raise ValueError(f"{self} is bound to {self.group} already and cannot be bound to {group}.")
        return Rep(_move_slots(self.given_terms, slots), group)

    def __add__(self, other: Rep) -> Rep:
        if not isinstance(other, Rep):
            return NotImplemented
        left, right, group = _on_common_group(self, other)
        return Rep(left.given_terms + right.given_terms, group)

    def __radd__(self, other: int) -> Rep:
        """``sum`` starts at 0."""
        return self if other == 0 else NotImplemented

    def __mul__(self, other: Rep | int) -> Rep:
        if isinstance(other, int):
            if other < 0:
                raise ValueError(f"a multiplicity must not be negative, got {other} * ({self}).")
            if len(self.given_terms) == 1:
                return Rep([(other * self.given_terms[0][0], self.given_terms[0][1])], self.group)
            return Rep(self.given_terms * other, self.group)
        if not isinstance(other, Rep):
            return NotImplemented
        left, right, group = _on_common_group(self, other)
        return Rep(((n * m, p + q) for n, p in left.given_terms for m, q in right.given_terms), group)

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
        return terms_text(self.terms, self.group)

    @property
    def bound_group(self) -> Group:
        """The group; raises ValueError while unbound."""
        if self.group is None:
            raise ValueError(f"{self} is not bound to a group yet: call it with one, as in rep(O(3)).")
        return self.group

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """The runs of equal pieces with their coordinates."""
        return arrange_runs(self.terms, self.bound_group)

    @cached_property
    def size(self) -> int:
        """The dimension of the bound representation."""
        return sum(run.size for run in self.runs)

    def rho(self, g: Element) -> Float[Tensor, "*batch size size"]:
        """The dense matrices of group elements."""
        return self._block_diagonal(self.bound_group.join(g), piece_rho)

    def drho(self, a: Element) -> Float[Tensor, "size size"]:
        """The dense matrix of a Lie-algebra element: the derivative of ``rho(exp(t a))`` at t = 0."""
        return self._block_diagonal(self.bound_group.join(a), piece_drho)

    def _block_diagonal(self, matrix: Tensor, of_piece: Callable[[Piece, Group, Tensor], Tensor]) -> Tensor:
        found = {piece: of_piece(piece, self.bound_group, matrix) for _, piece in self.terms}
        result, start = matrix.new_zeros(*matrix.shape[:-2], self.size, self.size), 0
        for run in self.runs:
            block = found[run.piece]
            for _ in range(run.multiplicity):
                place = slice(start, start := start + block.shape[-1])
                result[..., place, place] = block
        return result

    def apply(self, g: Element, x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Act on vectors, rho(g) x, one tensor axis at a time and without building the matrix.

        Parameters
        ----------
        g : one matrix (d, d) for all vectors, or one for each: its leading dimensions broadcast against those of x.
            For a direct product: one such stack for each factor.
        x : vectors.

        Raises
        ------
        ValueError
            If x's last dimension is not ``size`` or g is not made of d x d matrices.
        """
        if x.shape[-1:] != (self.size,):
            raise ValueError(f"x has shape {tuple(x.shape)}, but {self} of {self.group} has size {self.size}.")
        matrices = self.bound_group.join(g)
        x = x if x.is_floating_point() else x.to(matrices.dtype)
        x = x.expand(*torch.broadcast_shapes(x.shape[:-1], matrices.shape[:-2]), self.size)
        if not self.terms:
            return x
        factors = {factor for _, piece in self.terms for factor in piece}
        movers = {factor: factor.mover(self.bound_group, matrices) for factor in factors}
        return torch.cat([_apply_piece(run, movers, x[..., run.start : run.stop]) for run in self.runs], dim=-1)

    def __iter__(self) -> Iterator[tuple[int, Piece]]:
        return iter(self.terms)


def T(p: int, q: int = 0) -> Rep:
    """The tensors with p vector axes followed by q dual axes; T(0) is Scalar and T(1) is Vector."""
    if not (isinstance(p, int) and isinstance(q, int) and p >= 0 and q >= 0):
        raise ValueError(f"T(p, q) needs non-negative integers, got T({p!r}, {q!r}).")
    return Rep([(1, (VECTOR,) * p + (DUAL,) * q)])


def _apply_piece(run: Run, movers: dict[Factor, Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
    result, before, after = x, run.multiplicity, run.piece_size
    for factor, size in zip(run.piece, run.sizes, strict=True):
        after //= size
        result = movers[factor](result.unflatten(-1, (before, size, after))).flatten(-3)
        before *= size
    return result


def _move_slots(terms: Iterable[tuple[int, Piece]], slots: dict[int, int]) -> list[tuple[int, Piece]]:
    return [(count, tuple(replace(f, slot=slots[f.slot]) for f in piece)) for count, piece in terms]


def _on_common_group(left: Rep, right: Rep) -> tuple[Rep, Rep, Group | None]:
    """Both bound to one group: to the direct product of their groups, where these differ."""
    if left.group is None or right.group is None or left.group == right.group:
        group = left.group or right.group
        return (left, right, None) if group is None else (left(group), right(group), group)
    first, second = left.group.factors, right.group.factors
    if all(part in first for part in second):
        group = left.group
    elif all(part in second for part in first):
        group = right.group
    else:
        group = ProductGroup([*first, *(part for part in second if part not in first)])
    return left(group), right(group), group


Scalar = T(0)
Vector = T(1)
PseudoScalar = Rep([(1, (SIGN,))])
