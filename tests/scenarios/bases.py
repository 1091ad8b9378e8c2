"""Bases: the dense twin of the solver, and sets of bases that overlap."""

import math

import torch
from torch import Tensor

from bayes_rpp import O, Rep, Vector, banded_maps, entry_maps, equivariant_maps, low_frequency_maps
from bayes_rpp.bases.dense import DenseBasis
from tests.scenarios.numbers import numbers


def dense_null_space(rep_in: Rep, rep_out: Rep) -> Tensor:
    """An orthonormal basis of vec(W), row-major, for all equivariant W: by one SVD of all constraints."""
    group = rep_in.bound_group
    one_in, one_out = torch.eye(rep_in.size).double(), torch.eye(rep_out.size).double()
    rows = [torch.zeros(1, rep_in.size * rep_out.size).double()]
    for a in group.lie_algebra:
        rows.append(torch.kron(rep_out.drho(a), one_in) - torch.kron(one_out, rep_in.drho(a).mT.contiguous()))
    for g in group.generators:
        rows.append(torch.kron(rep_out.rho(g), one_in) - torch.kron(one_out, rep_in.rho(g).mT.contiguous()))
    _, singular, right = torch.linalg.svd(torch.linalg.qr(torch.cat(rows)).R)
    rank = int((singular > 1e-9 * singular.max().clamp(min=1.0)).sum())
    return right[rank:].mT


def bases_at_an_angle(size: int, rank: int, angle: float) -> tuple[DenseBasis, DenseBasis]:
    """Two bases, every principal angle between which is the same."""
    q = torch.linalg.qr(numbers(size, 2 * rank))[0]
    first, rest = q[:, :rank], q[:, rank:]
    return DenseBasis(first), DenseBasis(first * math.cos(angle) + rest * math.sin(angle))


PLANAR_MAPS = equivariant_maps((2 * Vector)(O(2)), (2 * Vector)(O(2)))
OVERLAPPING_BASES = {
    "a group and a band": (PLANAR_MAPS, banded_maps(4, 4, 1)),
    "a group, a band and low frequencies": (PLANAR_MAPS, banded_maps(4, 4, 1), low_frequency_maps(4, 4, 2)),
    "one twice": (PLANAR_MAPS, PLANAR_MAPS),
    "one inside another": (banded_maps(4, 4, 0), banded_maps(4, 4, 1)),
    "nested three times": (banded_maps(4, 4, 0), banded_maps(4, 4, 1), banded_maps(4, 4, 3)),
    "an empty one": (entry_maps(torch.zeros(4, 4)), banded_maps(4, 4, 0), banded_maps(4, 4, 1)),
    "an angle": bases_at_an_angle(16, 3, 0.5),
    "a small angle": bases_at_an_angle(16, 3, 1e-2),
    "everything": (banded_maps(4, 4, 4), low_frequency_maps(4, 4, 2)),
}
