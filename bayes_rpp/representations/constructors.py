"""Representations beyond tensors: irreducible, regular, and given by matrices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.groups.checks import as_matrices
from bayes_rpp.groups.group import Group
from bayes_rpp.representations.elementary import IrreducibleAction, MatrixAction, RegularAction
from bayes_rpp.representations.factors import Factor
from bayes_rpp.representations.finite_irreps import FiniteIrreps, irreducible_family
from bayes_rpp.representations.homomorphism import Homomorphism
from bayes_rpp.representations.rep import Rep


def Irrep(degree: int) -> Rep:
    """An irreducible real representation, by its number; Irrep(0) is the trivial one.

    * SO(2), O(2): degree k acts on (Re z^k, Im z^k), z = x + iy.
    * SO(3), O(3): degree l acts on the real spherical harmonics Y_lm, m = -l, ..., l, so that Irrep(1) is (y, z, x);
      reflections act on them as on polynomials, and PseudoScalar * Irrep(l) is the other kind.
    * Finite groups of at most 2,000 elements: in the order of their dimensions; ``irreps(group)`` lists them.

    Examples
    --------
    >>> Irrep(2)(SO(3)).size
    5
    """
    if not isinstance(degree, int) or isinstance(degree, bool) or degree < 0:
        raise ValueError(f"Irrep(degree) needs a non-negative integer, got {degree!r}.")
    return Rep([(1, (Factor(IrreducibleAction(degree)),))])


Regular = Rep([(1, (Factor(RegularAction()),))])


def irreps(group: Group, up_to: int | None = None) -> tuple[Rep, ...]:
    """The irreducible real representations of a group, the trivial one first; of O(2) and O(3) those on harmonic
    polynomials, which PseudoScalar turns into the others.

    Parameters
    ----------
    group : finite with at most 2,000 elements, or SO(2), O(2), SO(3), O(3).
    up_to : the largest degree, for the infinite groups.

    Raises
    ------
    ValueError
        If they are not known, or infinitely many and ``up_to`` is missing.

    Examples
    --------
    >>> [rep.size for rep in irreps(S(4))]
    [1, 1, 2, 3, 3]
    """
    if len(group.factors) > 1:
        raise ValueError(f"{group} is a direct product: take the irreps of its factors and multiply them.")
    if up_to is not None and up_to < 0:
        raise ValueError(f"up_to must not be negative, got {up_to}.")
    family = irreducible_family(group)
    if isinstance(family, FiniteIrreps):
        count = len(family.tables)
    elif up_to is None:
        raise ValueError(f"{group} has infinitely many irreducible representations: say up_to which degree.")
    else:
        count = up_to + 1
    return tuple(Irrep(degree)(group) for degree in range(count))


def matrix_rep(
    group: Group,
    lie_algebra: Float[Tensor, "k s s"] | Sequence[object] | None = None,
    generators: Float[Tensor, "m s s"] | Sequence[object] | None = None,
    name: str = "MatrixRep",
) -> Rep:
    """The representation that takes given values on a group's generators.

    Parameters
    ----------
    group : of k Lie-algebra elements and m discrete generators.
    lie_algebra : the matrix of each element of ``group.lie_algebra``.
    generators : the matrix of each of ``group.generators``.
    name : what it is called in messages.

    Raises
    ------
    ValueError
        If counts or sizes do not fit, or the matrices are no representation: brackets, conjugations, orders of
        generators and, for a finite group, all products are checked.

    Examples
    --------
    >>> sign = matrix_rep(S(3), generators=[[[1.0]], [[-1.0]]])
    >>> equivariant_maps(sign, PseudoScalar(S(3))).rank
    1
    """
    if len(group.factors) > 1:
        raise ValueError(
            f"matrix_rep needs one group, not a direct product such as {group}: give matrices for one of its factors, "
            "and multiply or add the representations."
        )
    given = {"lie_algebra": (lie_algebra, len(group.lie_algebra)), "generators": (generators, len(group.generators))}
    images = {argument: as_matrices(value, argument) for argument, (value, _) in given.items()}
    sizes = {matrices.shape[-1] for matrices in images.values() if matrices is not None}
    if not sizes:
        raise ValueError(f"matrix_rep needs a matrix for each generator of {group}, got none.")
    if len(sizes) > 1:
        raise ValueError(f"matrix_rep needs matrices of one size for all generators of {group}, got {sorted(sizes)}.")
    size = sizes.pop()
    full = {name: torch.zeros(0, size, size).double() if m is None else m for name, m in images.items()}
    for argument, (_, count) in given.items():
        if len(full[argument]) != count:
            raise ValueError(f"{argument} must hold {count} matrices for {group}, got {len(full[argument])}.")
    action = MatrixAction(Homomorphism(group, full["lie_algebra"], full["generators"]), name)
    return Rep([(1, (Factor(action),))], group)
