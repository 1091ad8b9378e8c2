"""The joint span of bases that overlap, against dense matrices."""

import math

import pytest
import torch

from bayes_rpp import PathwayNormal, banded_maps, entry_maps
from bayes_rpp.bases import joint_span as module
from bayes_rpp.bases.dense import DenseBasis
from bayes_rpp.bases.joint_span import JointSpan, are_orthogonal
from tests.scenarios.bases import OVERLAPPING_BASES, bases_at_an_angle
from tests.scenarios.numbers import numbers

SIZE = 16


def close(actual, expected, tolerance=1e-9):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def test_the_span_is_that_of_all_columns(subtests):
    for name, bases in OVERLAPPING_BASES.items():
        with subtests.test(msg=name):
            span, columns = JointSpan(bases), torch.cat([basis.dense() for basis in bases], dim=1)
            left, singular, _ = torch.linalg.svd(columns, full_matrices=False)
            rank = int((singular > 1e-6).sum())
            assert span.rank == rank
            z = span.expand(torch.eye(rank).double()).mT
            close(z.mT @ z, torch.eye(rank).double())
            close(z @ z.mT, left[:, :rank] @ left[:, :rank].mT)
            for basis, block in zip(bases, span.blocks, strict=True):
                close(z @ block, basis.dense())
            vector = numbers(3, SIZE)
            close(span.coordinates(vector), vector @ z)
            close(span.expand(numbers(2, 3, rank)), numbers(2, 3, rank) @ z.mT)


def test_each_set_is_seen_to_overlap(subtests):
    for name, bases in OVERLAPPING_BASES.items():
        with subtests.test(msg=name):
            assert not are_orthogonal(bases)
            assert are_orthogonal(bases[:1])


@pytest.mark.parametrize("angle", [1e-1, 1e-3, 1e-6])
def test_a_small_overlap_is_seen(angle):
    first, second = bases_at_an_angle(16, 3, math.pi / 2 - angle)
    assert not are_orthogonal([first, second])
    assert are_orthogonal(bases_at_an_angle(16, 3, math.pi / 2))


def test_an_overlap_in_one_direction_only_is_seen():
    q = torch.linalg.qr(numbers(16, 6))[0]
    assert not are_orthogonal([DenseBasis(q[:, :4]), DenseBasis(q[:, 3:])])
    assert are_orthogonal([DenseBasis(q[:, :3]), DenseBasis(q[:, 3:])])


def test_too_large_a_gram_matrix_is_refused_with_its_bytes(monkeypatch):
    monkeypatch.setattr(module, "_LARGEST_TOTAL_RANK", 20)
    with pytest.raises(ValueError, match=r"total rank 26, need a Gram matrix of 5,408 bytes \(the limit is 3,200\)"):
        PathwayNormal((4, 4), 1.0, [banded_maps(4, 4, 1), banded_maps(4, 4, 4)], [1.0, 1.0])
    # Orthogonal ones need none.
    PathwayNormal((4, 4), 1.0, [entry_maps(torch.eye(4)), entry_maps(1 - torch.eye(4))], [1.0, 1.0])
