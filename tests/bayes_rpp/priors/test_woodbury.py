"""PathwayNormal on bases that overlap, where the Woodbury identity is needed, against dense matrices."""

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from bayes_rpp import PathwayNormal
from bayes_rpp.bases.dense import DenseBasis
from bayes_rpp.bases.joint_span import JointSpan
from bayes_rpp.priors.woodbury import JointCovariance
from tests.scenarios.bases import OVERLAPPING_BASES, bases_at_an_angle
from tests.scenarios.numbers import numbers

sets = pytest.mark.parametrize("bases", OVERLAPPING_BASES.values(), ids=OVERLAPPING_BASES)
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


def test_the_covariance_is_the_dense_one(subtests):
    for name, bases in OVERLAPPING_BASES.items():
        for batch in [(), (3,), (2, 3)]:
            with subtests.test(msg=f"{name}, batch {batch}"):
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


def test_coloured_noise_has_the_covariance(subtests):
    for name, bases in OVERLAPPING_BASES.items():
        with subtests.test(msg=name):
            dense, pathways = variances(bases)
            root = JointCovariance(JointSpan(bases), dense, pathways).color(torch.eye(SIZE).double())
            close(root.mT @ root, covariance(bases, dense, pathways))


def test_divergence_is_the_dense_one(subtests):
    for name, bases in OVERLAPPING_BASES.items():
        with subtests.test(msg=name):
            settings = [variances(bases, (2,), seed) for seed in (0, 30)]
            ours = kl_divergence(*(PathwayNormal((4, 4), dense, bases, pathways) for dense, pathways in settings))
            close(ours, kl_divergence(*(twin(bases, *s) for s in settings)))


def test_a_pathway_of_variance_zero_is_no_pathway(subtests):
    for name, bases in OVERLAPPING_BASES.items():
        with subtests.test(msg=name):
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


def test_a_sum_of_orthogonal_parts_needs_no_gram_matrix_and_agrees(subtests):
    """The same span, once through overlapping bases and once through orthogonal ones of the same covariance."""
    for name, bases in OVERLAPPING_BASES.items():
        with subtests.test(msg=name):
            dense, pathways = variances(bases)
            structured = covariance(bases, dense, pathways) - dense * torch.eye(SIZE).double()
            values, vectors = torch.linalg.eigh(structured)
            kept = values > 1e-9
            lines = [DenseBasis(vectors[:, k : k + 1]) for k in range(SIZE) if kept[k]]
            orthogonal = PathwayNormal((4, 4), dense, lines, list(values[kept]))
            value = numbers(5, 4, 4)
            close(PathwayNormal((4, 4), dense, bases, pathways).log_prob(value), orthogonal.log_prob(value), 1e-8)


def test_single_precision_survives_a_narrow_dense_pathway(subtests):
    """Against the dense density of the very numbers that single precision holds."""
    for name, bases in OVERLAPPING_BASES.items():
        for narrow in [1e-3, 1e-7]:
            with subtests.test(msg=f"{name}, dense variance {narrow}"):
                pathways = [1.0 / (k + 1) for k in range(len(bases))]
                sigma = covariance(bases, torch.tensor(narrow).double(), [torch.tensor(v).double() for v in pathways])
                exact = MultivariateNormal(torch.zeros(SIZE).double(), sigma)
                value = (numbers(50, SIZE) @ torch.linalg.cholesky(sigma).mT).float()
                ours = PathwayNormal((4, 4), narrow, bases, pathways).log_prob(value.reshape(50, 4, 4))
                assert ours.dtype == torch.float32
                assert (ours - exact.log_prob(value.double())).abs().max() < 0.05


def test_almost_parallel_bases(subtests):
    for angle in [1e-1, 1e-3, 1e-4, 1e-5, 1e-6, 0.0]:
        with subtests.test(msg=f"angle {angle}"):
            bases, narrow = bases_at_an_angle(SIZE, 3, angle), torch.tensor(1e-6).double()
            pathways = [torch.tensor(v).double() for v in (1.0, 0.5)]
            value = numbers(20, SIZE) @ torch.linalg.cholesky(covariance(bases, narrow, pathways)).mT
            ours = PathwayNormal((SIZE,), narrow, bases, pathways).log_prob(value)
            close(ours, twin(bases, narrow, pathways).log_prob(value), 1e-4)


def test_almost_parallel_bases_in_single_precision(subtests):
    """The exact density of the very numbers that single precision holds, with v_b a ten-millionth of v_k."""
    for angle in [1.0, 1e-1, 1e-2, 1e-3, 1e-4]:
        with subtests.test(msg=f"angle {angle}"):
            bases, narrow = bases_at_an_angle(SIZE, 3, angle), torch.tensor(1e-7).double()
            pathways = [torch.tensor(v).double() for v in (1.0, 0.5)]
            value = (numbers(50, SIZE) @ torch.linalg.cholesky(covariance(bases, narrow, pathways)).mT).float()
            ours = PathwayNormal((SIZE,), 1e-7, bases, [1.0, 0.5]).log_prob(value)
            assert (ours - twin(bases, narrow, pathways).log_prob(value.double())).abs().max() < 0.05
