"""The generators of a group in words: what each does to the axes of the space on which the group is defined."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bayes_rpp import Group


def generator_names(group: Group) -> list[str]:
    """Names of the Lie-algebra elements, as "rotation in the plane of axes 0 and 1", then of discrete generators."""
    one = torch.eye(group.d, dtype=torch.float64)
    infinitesimal = (
        _name(group, a, 0 * one, _name_infinitesimal, f"Lie-algebra element {k}")
        for k, a in enumerate(group.lie_algebra)
    )
    discrete = (_name(group, g, one, _name_discrete, f"discrete generator {k}") for k, g in enumerate(group.generators))
    return [*infinitesimal, *discrete]


def _name(group: Group, matrix: Tensor, neutral: Tensor, words: Callable[[Tensor], str | None], otherwise: str) -> str:
    """A generator's name; in a direct product with the factor on which it acts, the first where it is not neutral."""
    slots = range(len(group.factors))
    slot = next((s for s in slots if not torch.equal(group.block(matrix, s), group.block(neutral, s))), 0)
    name, part = words(group.block(matrix, slot)) or otherwise, group.factors[slot]
    if len(group.factors) == 1:
        return name
    return f"{name} of {part}" + (f" (factor {slot})" if group.factors.count(part) > 1 else "")


def _name_infinitesimal(a: Tensor) -> str | None:
    entries = a.nonzero().tolist()
    if entries and all(i == j for i, j in entries):
        return f"stretch along {_axes([i for i, _ in entries])}"
    if len(entries) == 1:
        i, j = entries[0]
        return f"shear: axis {i} gains a multiple of axis {j}"
    if len(entries) == 2 and entries[0] == entries[1][::-1]:
        i, j = entries[0]
        if a[i, j] == -a[j, i]:
            return f"rotation in the plane of axes {i} and {j}"
        if a[i, j] == a[j, i]:
            return f"boost in the plane of axes {i} and {j}"
    return None


def _name_discrete(g: Tensor) -> str | None:
    one = torch.eye(len(g), dtype=g.dtype)
    if torch.equal(g.abs(), one):
        negative = (g.diagonal() < 0).nonzero().flatten().tolist()
        if len(negative) == len(g) > 1:
            return "inversion of all axes"
        return f"reflection of {_axes(negative)}" if negative else "the identity"
    is_orthogonal = torch.allclose(g.T @ g, one)
    if is_orthogonal and bool(((g == 0) | (g == 1)).all()):
        from sympy.combinatorics import Permutation  # 0.3 s that only permutations need

        cycles = Permutation(g.argmax(0).tolist()).cyclic_form
        return "axes " + ", ".join(" -> ".join(map(str, [*cycle, cycle[0]])) for cycle in cycles)
    moved = (g != one).any(0).nonzero().flatten().tolist()
    if len(moved) == 2 and is_orthogonal and torch.linalg.det(g) > 0:
        i, j = moved
        angle = math.degrees(math.atan2(float(g[j, i]), float(g[i, i])))
        return f"rotation by {angle:.4g} degrees in the plane of axes {i} and {j}"
    return None


def _axes(indices: list[int]) -> str:
    return f"{'axis' if len(indices) == 1 else 'axes'} {', '.join(map(str, indices))}"
