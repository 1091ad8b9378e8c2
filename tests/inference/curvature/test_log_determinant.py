"""The log determinant and its gradients against closed forms and finite differences."""

import pytest
import torch

from inference.curvature.log_determinant import log_determinant


@pytest.fixture
def matrix():
    root = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return root @ root.mT + torch.eye(6).double()


def test_it_is_that_of_the_eigenvalues(matrix):
    assert log_determinant(matrix).item() == pytest.approx(torch.linalg.eigvalsh(matrix).log().sum().item(), rel=1e-12)


def test_its_slope_is_the_inverse(matrix):
    (slope,) = torch.autograd.grad(log_determinant(matrix.requires_grad_()), matrix)
    assert torch.allclose(slope, torch.linalg.inv(matrix), rtol=1e-10)


def test_both_derivatives_agree_with_finite_differences(matrix):
    matrix.requires_grad_()
    assert torch.autograd.gradcheck(lambda a: log_determinant((a + a.mT) / 2), matrix)
    assert torch.autograd.gradgradcheck(lambda a: log_determinant((a + a.mT) / 2), matrix)


def test_a_diagonal_matrix_has_the_same_value_and_slopes_as_its_factor_gives(matrix):
    logs = torch.tensor([0.3, -1.0, 2.0, 0.0, 0.5, 4.0], dtype=torch.float64, requires_grad=True)
    short = log_determinant(logs.exp().diag())
    rotation = torch.linalg.qr(matrix).Q
    long = log_determinant(rotation @ logs.exp().diag() @ rotation.mT)
    assert short.item() == pytest.approx(logs.sum().item(), rel=1e-12)
    for value in (short, long):
        assert torch.allclose(torch.autograd.grad(value, logs)[0], torch.ones(6).double(), rtol=1e-10)


@pytest.mark.parametrize("smallest", [-0.1, float("nan")])
def test_what_is_not_positive_definite_is_refused(matrix, smallest):
    for wrong in (torch.tensor([smallest, 1.0, 2.0]).double().diag(), matrix + (smallest - 2) * matrix):
        with pytest.raises(torch.linalg.LinAlgError):
            log_determinant(wrong)
