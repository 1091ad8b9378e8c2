"""Every operation against its dense twin, forward and backward."""

import math

import pytest
import torch

from inference import memory
from inference.curvature.block_gaussian import GaussianApproximation
from inference.curvature.covariance_root import NotPositiveDefiniteError
from tests.error_rate import z_limit
from tests.seeds import shifted

SIZE = 7


def positive(size, seed):
    root = torch.randn(size, 2 * size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.mT


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PRECISIONS = {
    "full": [(slice(0, 7), positive(7, 0))],
    "layer": [(slice(0, 3), positive(3, 1)), (slice(3, 7), positive(4, 2))],
    "diagonal": [(slice(0, 7), normal(7).exp())],
    "last_layer": [(slice(4, 7), positive(3, 3))],
}
each_structure = pytest.mark.parametrize("precision", PRECISIONS.values(), ids=list(PRECISIONS))


def dense_covariance(precision):
    result = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    for place, block in precision:
        result[place, place] = torch.linalg.inv(block if block.ndim == 2 else block.diag())
    return result


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@each_structure
def test_all_operations_are_those_of_the_dense_covariance(precision):
    gaussian, covariance = GaussianApproximation(normal(SIZE), precision), dense_covariance(precision)
    jacobian, vector = normal(2, 3, 4, SIZE, seed=1), normal(SIZE, seed=2)
    close(gaussian.covariance(), covariance)
    close(gaussian.variances(), covariance.diagonal())
    close(gaussian.project(jacobian), jacobian @ covariance @ jacobian.mT)
    close(gaussian.covariance_times(vector), covariance @ vector)
    log_determinant = sum(torch.logdet(block if block.ndim == 2 else block.diag()) for _, block in precision)
    close(gaussian.log_determinant, log_determinant)
    assert gaussian.dimension == int((covariance.diagonal() > 0).sum())
    assert f"{gaussian.dimension} coordinates in {len(precision)} block(s)" in repr(gaussian)


@pytest.mark.statistical
@each_structure
@pytest.mark.parametrize("wrong", [1.0, 1.3])
def test_draws_have_the_mean_and_the_covariance(precision, wrong):
    mean, count = normal(SIZE), 20_000
    gaussian, covariance = GaussianApproximation(mean, precision), dense_covariance(precision)
    draws = gaussian.sample(count, torch.Generator().manual_seed(shifted(5)))
    moving = covariance.diagonal() > 0
    assert torch.equal(draws[:, ~moving], mean[~moving].expand(count, -1))
    covariance, number = wrong * covariance[moving][:, moving], int(moving.sum())
    root = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(root, (draws - mean)[:, moving].mT, upper=False)
    of_mean = white.mean(1) * math.sqrt(count)
    identity = torch.eye(number, dtype=torch.float64)
    of_second = (white @ white.mT / count - identity) * math.sqrt(count) / (1 + identity).sqrt()
    threshold = z_limit(number + number * (number + 1) // 2)
    agrees = max(of_mean.abs().max(), of_second.abs().max()) < threshold
    assert bool(agrees) is (wrong == 1.0)


def test_draws_depend_on_the_generator_alone():
    gaussian = GaussianApproximation(normal(SIZE), PRECISIONS["full"])
    first, again = (gaussian.sample(3, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize(
    "operation",
    [
        lambda gaussian: gaussian.log_determinant,
        lambda gaussian: gaussian.covariance(),
        lambda gaussian: gaussian.variances(),
        lambda gaussian: gaussian.project(normal(2, SIZE, seed=4)),
        lambda gaussian: gaussian.sample(2, torch.Generator().manual_seed(0)),
        lambda gaussian: gaussian.covariance_times(normal(SIZE, seed=4)),
    ],
    ids=["log_determinant", "covariance", "variances", "project", "sample", "covariance_times"],
)
@each_structure
def test_gradients_in_the_precision_are_right(precision, operation):
    base = [block for _, block in precision]

    def of_scales(scales):
        scaled = [
            (place, scale * block + (torch.eye(len(block)).double() if block.ndim == 2 else 1.0) / scale)
            for (place, block), scale in zip(precision, scales, strict=True)
        ]
        return operation(GaussianApproximation(normal(SIZE), scaled))

    assert torch.autograd.gradcheck(of_scales, torch.ones(len(base), dtype=torch.float64, requires_grad=True))


def test_gradient_of_the_log_determinant_is_the_trace_of_the_covariance():
    matrix = PRECISIONS["full"][0][1].clone().requires_grad_()
    GaussianApproximation(normal(SIZE), [(slice(0, 7), matrix)]).log_determinant.backward()
    close(torch.tril(matrix.grad + matrix.grad.mT), torch.tril(2 * torch.linalg.inv(matrix.detach())))


def test_matrices_that_are_no_precision_are_refused():
    indefinite = torch.diag(torch.tensor([1.0, -2.0, 3.0]))
    for block, message in [
        (indefinite, "least eigenvalue is -2"),
        (indefinite.diagonal(), "least entry is -2"),
        (indefinite * math.nan, "NaN"),
    ]:
        with pytest.raises(NotPositiveDefiniteError, match=message):
            GaussianApproximation(torch.zeros(3), [(slice(0, 3), block)])


def test_dense_covariance_that_is_too_large_is_refused_with_its_bytes(monkeypatch):
    gaussian = GaussianApproximation(normal(SIZE), PRECISIONS["diagonal"])
    monkeypatch.setattr(memory, "LARGEST_MATRIX", 7 * 7 * 8 - 1)
    with pytest.raises(ValueError, match=r"7 coordinates needs a matrix of 392 bytes.*variances\(\) or project\(\)"):
        gaussian.covariance()
