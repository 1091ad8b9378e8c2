"""Metrics are their dense twins, and whiten what they claim to whiten."""

import pytest
import torch

from bayes_rpp import O, O2eR3, RPPLinear, Scalar, T, Vector
from inference.curvature.covariance_root import BlockRoot, formed_root, root_of
from inference.metrics.metric import CollapsedMetric, ResidualMetric

DENSE = torch.tensor(0.01, dtype=torch.float64)  # of what the pathways of a chain of two groups leave


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def eye(size):
    return torch.eye(size, dtype=torch.float64)


def matrix(metric, size):
    """S."""
    return metric.color(eye(size)).mT


def chain_bases():
    layer = RPPLinear(Vector + Scalar, T(2), group=[O(3), O2eR3()])
    assert len(layer.bases) == 2
    assert all(basis.rank for basis in layer.bases)
    return layer.bases


def variances(bases):
    """Of the first pathway one for each coordinate, of the second one for all."""
    return [3.0 * normal(bases[0].rank, seed=5).exp(), number(0.5)]


def collapsed(bases, temperature=1.0):
    pairs = zip(variances(bases), bases, strict=True)
    precisions = [(1 / (temperature * (variance + DENSE))).expand(basis.rank) for variance, basis in pairs]
    return CollapsedMetric(bases, precisions, 1 / (temperature * DENSE))


def made():
    bases = chain_bases()
    size, extra = bases[0].size, sum(basis.rank for basis in bases)
    uneven = CollapsedMetric(bases, [normal(b.rank, seed=k).exp() for k, b in enumerate(bases)], number(7.0))
    half = normal(9, 9)
    parts = [formed_root(normal(4).exp(), torch.float64), formed_root(half @ half.mT + eye(9), half.dtype), uneven]
    return {
        "diagonal": (parts[0], 4),
        "variances": (root_of(normal(4).exp()), 4),
        "dense": (parts[1], 9),
        "collapsed": (uneven, size),
        "residual": (ResidualMetric(bases, variances(bases), DENSE, uneven, 1.7), size + extra),
        "cholesky": (root_of(half @ half.mT + eye(9)), 9),
        "blocks": (BlockRoot([slice(0, 4), slice(4, 13), slice(13, 13 + size)], parts), 13 + size),
    }


@pytest.mark.parametrize("kind", ["diagonal", "variances", "dense", "cholesky", "collapsed", "residual", "blocks"])
def test_a_metric_is_its_dense_twin_its_transpose_and_its_inverse(kind):
    metric, size = made()[kind]
    dense, vectors = matrix(metric, size), normal(2, 3, size)
    torch.testing.assert_close(metric.color(vectors), vectors @ dense.mT, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(metric.pull(vectors), vectors @ dense, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(metric.whiten(vectors), vectors @ torch.linalg.inv(dense).mT, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(metric.whiten(metric.color(vectors[0, 0])), vectors[0, 0], rtol=1e-9, atol=1e-9)


def test_the_dense_metric_is_a_root_of_the_inverse_and_refuses_what_is_not_positive():
    half = normal(12, 5)
    precision = half @ half.mT + 1e-7 * eye(12)  # condition number 1e8 and more
    dense = matrix(formed_root(precision, precision.dtype), 12)
    torch.testing.assert_close(dense.mT @ precision @ dense, eye(12), rtol=0, atol=1e-6)
    torch.testing.assert_close(precision @ dense @ dense.mT, eye(12), rtol=0, atol=1e-5)
    with pytest.raises(torch.linalg.LinAlgError):
        formed_root(torch.diag(torch.tensor([1.0, -1.0])), torch.float32)


def test_the_collapsed_metric_has_its_closed_form():
    metric, size = made()["collapsed"]
    expected, left = torch.zeros(size, size).double(), eye(size)
    for basis, precision in zip(metric.bases, metric.precisions, strict=True):
        q = basis.dense()
        expected, left = expected + q @ torch.diag(1 / precision) @ q.mT, left - q @ q.mT
    dense = matrix(metric, size)
    torch.testing.assert_close(dense, dense.mT)
    torch.testing.assert_close(dense @ dense, expected + left / 7)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_residual_metric_makes_the_rests_white_and_independent_of_the_weight(temperature):
    bases = chain_bases()
    ranks, size = [basis.rank for basis in bases], bases[0].size
    of_pathways = [v.expand(rank) for v, rank in zip(variances(bases), ranks, strict=True)]
    covariance, rests = temperature * torch.cat([*of_pathways, DENSE.expand(size)]).diag(), sum(ranks)
    plain = CollapsedMetric([], [], number(1.0))  # W as it is
    for effective in (plain, collapsed(bases, temperature)):
        metric = ResidualMetric(bases, variances(bases), DENSE, effective, temperature)
        inverse = torch.linalg.inv(matrix(metric, size + rests))
        white = inverse @ covariance @ inverse.mT
        torch.testing.assert_close(white[:rests, :rests], eye(rests), rtol=0, atol=1e-10)
        assert white[:rests, rests:].abs().max() < 1e-10
        q = [basis.dense() for basis in bases]
        of_weight = sum((part * v @ part.mT for v, part in zip(variances(bases), q, strict=True)), DENSE * eye(size))
        whitened = of_weight if effective is plain else eye(size)
        expected = whitened * (temperature if effective is plain else 1)
        torch.testing.assert_close(white[rests:, rests:], expected, rtol=0, atol=1e-9)
