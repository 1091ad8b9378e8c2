"""The closed forms against dense and extended-precision twins."""

import mpmath
import pytest
import torch
from scipy.stats import multivariate_normal

from bayes_rpp import PathwayNormal
from bayes_rpp.bases.dense import DenseBasis
from inference.exact.linear_gaussian import LinearGaussian, PriorRoot

SPACES = ("weights", "functions")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthonormal(size, rank, seed):
    return DenseBasis(torch.linalg.qr(normal(size, rank, seed=seed))[0])


FIRST, SECOND = orthonormal(6, 4, 1).dense().split(2, dim=1)
BASES = {
    "plain": [],
    "one pathway": [orthonormal(6, 2, 1)],
    "orthogonal": [DenseBasis(FIRST), DenseBasis(SECOND)],
    "oblique": [orthonormal(6, 2, 2), orthonormal(6, 3, 3)],
}
each_prior = pytest.mark.parametrize("bases", BASES.values(), ids=list(BASES))
each_space = pytest.mark.parametrize("space", SPACES)


def prior_of(bases, dense=0.3, pathways=(2.0, 0.7)):
    laws = {
        "w": PathwayNormal((2, 3), torch.as_tensor(dense, dtype=torch.float64), bases, pathways[: len(bases)]),
        "b": PathwayNormal((2,), torch.tensor(0.5, dtype=torch.float64)),
    }
    return laws


def dense_covariance(prior):
    """From the definition, v_b I + sum_k v_k Q_k Q_k^T."""
    blocks = []
    for law in prior.values():
        block = law.dense_variance * torch.eye(law.numel).double()
        for basis, variance in zip(law.bases, law.pathway_variances, strict=True):
            block = block + variance * basis.dense() @ basis.dense().mT
        blocks.append(block)
    return torch.block_diag(*blocks)


def problem(examples, outputs=3, noise=(0.2, 0.5, 1.5), seed=0):
    features, residual = normal(examples, outputs, 8, seed=seed), normal(examples, outputs, seed=seed + 1)
    shapes = {"w": torch.Size([2, 3]), "b": torch.Size([2])}
    return LinearGaussian(features, residual, torch.tensor(noise, dtype=torch.float64), shapes)


def dense_law(line, prior):
    """f_0 - y has mean 0 and this covariance."""
    phi = line.features.flatten(0, 1)
    return phi @ dense_covariance(prior) @ phi.mT + line.noise.repeat(len(line.features)).diag()


@each_prior
def test_root_is_one_of_the_covariance_and_pull_is_the_transpose_of_color(bases):
    prior = prior_of(bases)
    root = PriorRoot(list(prior.values()))
    matrix = root.color(torch.eye(root.width).double()).mT
    torch.testing.assert_close(matrix @ matrix.mT, dense_covariance(prior), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(root.pull(torch.eye(8).double()), matrix, rtol=1e-12, atol=1e-14)
    assert root.width == 8 + sum(basis.rank for basis in bases)


@each_space
@each_prior
@pytest.mark.parametrize("examples", [1, 2, 30])
def test_evidence_is_the_density_of_the_marginal_law(bases, examples, space):
    line, prior = problem(examples), prior_of(bases)
    expected = multivariate_normal(cov=dense_law(line, prior).numpy()).logpdf(line.residual.flatten().numpy())
    assert float(line.log_evidence(prior, space)) == pytest.approx(expected, rel=1e-11)
    other = prior_of(bases, dense=0.3 * (1 + 1e-6))
    assert float(line.log_evidence(other, space)) != pytest.approx(expected, rel=1e-11)


def test_cheaper_space_is_taken_unless_another_is_wanted():
    prior = prior_of(BASES["one pathway"])
    assert problem(1).space(prior) == "functions"
    assert problem(30).space(prior) == "weights"
    assert problem(30).space(prior, "functions") == "functions"


def precise_evidence(line, prior):
    """With 60 digits."""
    with mpmath.workdps(60):
        phi = mpmath.matrix(line.features.flatten(0, 1).tolist())
        covariance = mpmath.matrix(phi.rows, phi.rows)
        start = 0
        for law in prior.values():
            part = phi[:, start : start + law.numel]
            covariance += mpmath.mpf(float(law.dense_variance)) * part * part.T
            for basis, variance in zip(law.bases, law.pathway_variances, strict=True):
                image = part * mpmath.matrix(basis.dense().tolist())
                covariance += mpmath.mpf(float(variance)) * image * image.T
            start += law.numel
        noise = line.noise.repeat(len(line.features)).tolist()
        covariance += mpmath.diag(noise)
        data = mpmath.matrix(line.residual.flatten().tolist())
        root = mpmath.cholesky(covariance)
        solved = mpmath.lu_solve(root, data)
        determinant = 2 * sum(mpmath.log(root[i, i]) for i in range(root.rows))
        misfit = (solved.T * solved)[0]
        return float(-(misfit + determinant + root.rows * mpmath.log(2 * mpmath.pi)) / 2)


@each_space
@each_prior
@pytest.mark.parametrize("examples", [2, 7])
@pytest.mark.parametrize(("dense", "pathway"), [(1e-7, 1e5), (1e5, 1e-7), (1e5, 1e5)])
def test_very_broad_beside_very_narrow_priors_keep_the_digits(bases, examples, dense, pathway, space):
    line, prior = problem(examples), prior_of(bases, dense, (pathway, 0.1 * pathway))
    assert float(line.log_evidence(prior, space)) == pytest.approx(precise_evidence(line, prior), rel=1e-9)


@each_space
@each_prior
@pytest.mark.parametrize("examples", [2, 9])
def test_gradient_in_the_variances_is_that_of_finite_differences(bases, examples, space):
    line = problem(examples)
    count = 1 + len(bases)

    def evidence(log_variances):
        dense, *pathways = log_variances.exp()
        return line.log_evidence(prior_of(bases, dense, pathways), space)

    at = torch.tensor([-1.0, 0.5, -0.3], dtype=torch.float64)[:count].requires_grad_()
    (gradient,) = torch.autograd.grad(evidence(at), at)
    step = 1e-5 * torch.eye(count).double()
    differences = torch.stack([(evidence(at + h) - evidence(at - h)) / 2e-5 for h in step]).detach()
    torch.testing.assert_close(gradient, differences, rtol=1e-5, atol=1e-8)
    assert torch.autograd.gradgradcheck(evidence, at)


@each_prior
@pytest.mark.parametrize("examples", [1, 20])
def test_posterior_is_the_conjugate_one(bases, examples):
    line, prior = problem(examples), prior_of(bases)
    phi, sigma = line.features.flatten(0, 1), dense_covariance(prior)
    gain = sigma @ phi.mT @ torch.linalg.inv(dense_law(line, prior))
    law = line.posterior(prior)
    torch.testing.assert_close(law.mean, gain @ line.residual.flatten(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(law.covariance(), sigma - gain @ phi @ sigma, rtol=1e-10, atol=1e-12)


@each_space
@each_prior
@pytest.mark.parametrize("examples", [2, 12])
def test_left_out_examples_have_the_density_given_the_others(bases, examples, space):
    """log p(y) - log p(y_-i), with the others' marginal law."""
    line, prior = problem(examples), prior_of(bases)
    covariance, data = dense_law(line, prior).numpy(), line.residual.flatten().numpy()
    whole = multivariate_normal(cov=covariance).logpdf(data)
    expected = []
    for i in range(examples):
        others = [row for row in range(len(data)) if row // 3 != i]
        part = multivariate_normal(cov=covariance[others][:, others]).logpdf(data[others])
        expected.append(float(whole - part))
    found = line.leave_one_out(prior, space)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-10)


def test_outputs_of_an_example_are_left_out_together():
    """Left out one by one, outputs that share weights would be predicted from each other."""
    line, prior = problem(12), prior_of(BASES["one pathway"])
    single = LinearGaussian(
        line.features.reshape(36, 1, 8), line.residual.reshape(36, 1), torch.ones(1).double(), line.shapes
    )
    same_noise = LinearGaussian(line.features, line.residual, torch.ones(3).double(), line.shapes)
    one_by_one, together = single.leave_one_out(prior).sum(), same_noise.leave_one_out(prior).sum()
    torch.testing.assert_close(single.log_evidence(prior), same_noise.log_evidence(prior), rtol=1e-12, atol=0)
    assert abs(one_by_one - together) > 0.1
