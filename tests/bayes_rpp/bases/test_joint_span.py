"""Bases that overlap: their joint span, and PathwayNormal on it, against dense matrices."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from bayes_rpp import O, PathwayNormal, Vector, banded_maps, entry_maps, equivariant_maps, low_frequency_maps
from bayes_rpp.bases import joint_span as module
from bayes_rpp.bases.dense import DenseBasis
from bayes_rpp.bases.joint_span import JointSpan, are_orthogonal
from bayes_rpp.priors.woodbury import JointCovariance


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def at_an_angle(size, rank, angle):
    """Two bases, every principal angle between which is the same."""
    q = torch.linalg.qr(numbers(size, 2 * rank))[0]
    first, rest = q[:, :rank], q[:, rank:]
    return DenseBasis(first), DenseBasis(first * math.cos(angle) + rest * math.sin(angle))


TURNS = equivariant_maps((2 * Vector)(O(2)), (2 * Vector)(O(2)))
SETS = {
    "a group and a band": (TURNS, banded_maps(4, 4, 1)),
    "a group, a band and low frequencies": (TURNS, banded_maps(4, 4, 1), low_frequency_maps(4, 4, 2)),
    "one twice": (TURNS, TURNS),
    "one inside another": (banded_maps(4, 4, 0), banded_maps(4, 4, 1)),
    "nested three times": (banded_maps(4, 4, 0), banded_maps(4, 4, 1), banded_maps(4, 4, 3)),
    "an empty one": (entry_maps(torch.zeros(4, 4)), banded_maps(4, 4, 0), banded_maps(4, 4, 1)),
    "an angle": at_an_angle(16, 3, 0.5),
    "a small angle": at_an_angle(16, 3, 1e-2),
    "everything": (banded_maps(4, 4, 4), low_frequency_maps(4, 4, 2)),
}
sets = pytest.mark.parametrize("bases", SETS.values(), ids=SETS)
SIZE = 16


def covariance(bases, dense, pathways):
    result = dense[..., None, None] * torch.eye(SIZE).double()
    for basis, v in zip(bases, pathways, strict=True):
        result = result + v[..., None, None] * (basis.dense() @ basis.dense().mT)
    return result


def variances(bases, batch=(), seed=0):
    return numbers(*batch, seed=seed).exp(), [numbers(*batch, seed=seed + 1 + k).exp() for k in range(len(bases))]


def twin(bases, dense, pathways):
    return MultivariateNormal(torch.zeros(SIZE).double(), covariance(bases, dense, pathways))


def close(actual, expected, tolerance=1e-9):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@sets
def test_the_span_is_that_of_all_columns(bases):
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


@sets
def test_each_set_is_seen_to_overlap(bases):
    assert not are_orthogonal(bases)
    assert are_orthogonal(bases[:1])


@pytest.mark.parametrize("angle", [1e-1, 1e-3, 1e-6])
def test_a_small_overlap_is_seen(angle):
    first, second = at_an_angle(16, 3, math.pi / 2 - angle)
    assert not are_orthogonal([first, second])
    assert are_orthogonal(at_an_angle(16, 3, math.pi / 2))


def test_an_overlap_in_one_direction_only_is_seen():
    q = torch.linalg.qr(numbers(16, 6))[0]
    assert not are_orthogonal([DenseBasis(q[:, :4]), DenseBasis(q[:, 3:])])
    assert are_orthogonal([DenseBasis(q[:, :3]), DenseBasis(q[:, 3:])])


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
@sets
def test_the_covariance_is_the_dense_one(bases, batch):
    dense, pathways = variances(bases, batch)
    ours, expected = JointCovariance(JointSpan(bases), dense, pathways), twin(bases, dense, pathways)
    close(ours.log_determinant(SIZE), torch.logdet(covariance(bases, dense, pathways)))
    value = numbers(*batch, SIZE, seed=8)
    solved = torch.linalg.solve(covariance(bases, dense, pathways), value[..., None])[..., 0]
    close(ours.mahalanobis(value), (value * solved).sum(-1))
    whole = PathwayNormal((4, 4), dense, bases, pathways)
    close(whole.log_prob(value.reshape(*batch, 4, 4)), expected.log_prob(value))
    close(whole.variance.flatten(-2), expected.variance)
    close(whole.entropy(), expected.entropy())


@sets
def test_coloured_noise_has_the_covariance(bases):
    dense, pathways = variances(bases)
    root = JointCovariance(JointSpan(bases), dense, pathways).color(torch.eye(SIZE).double())
    close(root.mT @ root, covariance(bases, dense, pathways))


@sets
def test_divergence_is_the_dense_one(bases):
    settings = [variances(bases, (2,), seed) for seed in (0, 30)]
    ours = kl_divergence(*(PathwayNormal((4, 4), dense, bases, pathways) for dense, pathways in settings))
    close(ours, kl_divergence(*(twin(bases, *s) for s in settings)))


@sets
def test_a_pathway_of_variance_zero_is_no_pathway(bases):
    value = numbers(3, 4, 4)
    zeros = [1.5 if k == 0 else 0.0 for k in range(len(bases))]
    with_zero, without = PathwayNormal((4, 4), 0.3, bases, zeros), PathwayNormal((4, 4), 0.3, bases[:1], [1.5])
    close(with_zero.log_prob(value), without.log_prob(value))
    close(
        PathwayNormal((4, 4), 0.3, bases, [0.0] * len(bases)).log_prob(value),
        PathwayNormal((4, 4), 0.3).log_prob(value),
    )


@sets
def test_vmap_over_variances_and_values_is_a_loop(bases):
    dense, pathways = variances(bases, (4,))
    value = numbers(4, 4, 4, seed=5)

    def score(value, dense, *pathways):
        return PathwayNormal((4, 4), dense, bases, pathways, validate_args=False).log_prob(value)

    expected = twin(bases, dense, pathways).log_prob(value.flatten(1))
    close(torch.func.vmap(score)(value, dense, *pathways), expected)
    gradient = torch.func.vmap(torch.func.grad(score))(value, dense, *pathways).flatten(1)
    close(gradient, -torch.linalg.solve(covariance(bases, dense, pathways), value.flatten(1)), 1e-8)


@sets
def test_slopes_in_the_variances_are_the_dense_ones(bases):
    dense, pathways = variances(bases)
    value = numbers(4, 4, seed=5)

    def ours(*v):
        return PathwayNormal((4, 4), v[0], bases, v[1:], validate_args=False).log_prob(value)

    def theirs(*v):
        return twin(bases, v[0], v[1:]).log_prob(value.flatten())

    for derivative in (torch.autograd.functional.jacobian, torch.autograd.functional.hessian):
        for actual, expected in zip(
            derivative(ours, (dense, *pathways)), derivative(theirs, (dense, *pathways)), strict=True
        ):
            close(torch.as_tensor(torch.stack(actual) if isinstance(actual, tuple) else actual),
                  torch.stack(expected) if isinstance(expected, tuple) else expected, 1e-7)  # fmt: skip


@sets
def test_a_sum_of_orthogonal_parts_needs_no_gram_matrix_and_agrees(bases):
    """The same span, once through overlapping bases and once through orthogonal ones of the same covariance."""
    dense, pathways = variances(bases)
    structured = covariance(bases, dense, pathways) - dense * torch.eye(SIZE).double()
    values, vectors = torch.linalg.eigh(structured)
    kept = values > 1e-9
    lines = [DenseBasis(vectors[:, k : k + 1]) for k in range(SIZE) if kept[k]]
    orthogonal = PathwayNormal((4, 4), dense, lines, list(values[kept]))
    value = numbers(5, 4, 4)
    close(PathwayNormal((4, 4), dense, bases, pathways).log_prob(value), orthogonal.log_prob(value), 1e-8)


@pytest.mark.parametrize("narrow", [1e-3, 1e-7])
@sets
def test_single_precision_survives_a_narrow_dense_pathway(bases, narrow):
    """Against the dense density of the very numbers that single precision holds."""
    pathways = [1.0 / (k + 1) for k in range(len(bases))]
    sigma = covariance(bases, torch.tensor(narrow).double(), [torch.tensor(v).double() for v in pathways])
    exact = MultivariateNormal(torch.zeros(SIZE).double(), sigma)
    value = (numbers(50, SIZE) @ torch.linalg.cholesky(sigma).mT).float()
    ours = PathwayNormal((4, 4), narrow, bases, pathways).log_prob(value.reshape(50, 4, 4))
    assert ours.dtype == torch.float32
    assert (ours - exact.log_prob(value.double())).abs().max() < 0.05


@pytest.mark.parametrize("angle", [1e-1, 1e-3, 1e-4, 1e-5, 1e-6, 0.0])
def test_almost_parallel_bases(angle):
    bases, narrow = at_an_angle(SIZE, 3, angle), torch.tensor(1e-6).double()
    pathways = [torch.tensor(v).double() for v in (1.0, 0.5)]
    value = numbers(20, SIZE) @ torch.linalg.cholesky(covariance(bases, narrow, pathways)).mT
    ours = PathwayNormal((SIZE,), narrow, bases, pathways).log_prob(value)
    close(ours, twin(bases, narrow, pathways).log_prob(value), 1e-4)


@pytest.mark.parametrize("angle", [1.0, 1e-1, 1e-2, 1e-3, 1e-4])
def test_almost_parallel_bases_in_single_precision(angle):
    """The exact density of the very numbers that single precision holds, with v_b a ten-millionth of v_k."""
    bases, narrow = at_an_angle(SIZE, 3, angle), torch.tensor(1e-7).double()
    pathways = [torch.tensor(v).double() for v in (1.0, 0.5)]
    value = (numbers(50, SIZE) @ torch.linalg.cholesky(covariance(bases, narrow, pathways)).mT).float()
    ours = PathwayNormal((SIZE,), 1e-7, bases, [1.0, 0.5]).log_prob(value)
    assert (ours - twin(bases, narrow, pathways).log_prob(value.double())).abs().max() < 0.05


def test_too_large_a_gram_matrix_is_refused_with_its_bytes(monkeypatch):
    monkeypatch.setattr(module, "_LARGEST_TOTAL_RANK", 20)
    with pytest.raises(ValueError, match=r"total rank 26, need a Gram matrix of 5,408 bytes \(the limit is 3,200\)"):
        PathwayNormal((4, 4), 1.0, [banded_maps(4, 4, 1), banded_maps(4, 4, 4)], [1.0, 1.0])
    # Orthogonal ones need none.
    PathwayNormal((4, 4), 1.0, [entry_maps(torch.eye(4)), entry_maps(1 - torch.eye(4))], [1.0, 1.0])
