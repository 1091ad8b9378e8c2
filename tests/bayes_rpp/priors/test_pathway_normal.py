"""PathwayNormal against the dense multivariate normal."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from bayes_rpp import SO, O, PathwayNormal, S, Scalar, Trivial, Vector, equivariant_basis, equivariant_maps
from tests.error_rate import z_limit
from tests.seeds import shifted


class MatrixBasis:
    """The smallest thing that keeps the protocol of a basis."""

    def __init__(self, q):
        self.q, (self.size, self.rank) = q, q.shape

    def expand(self, beta):
        return beta @ self.q.to(beta).mT

    def coordinates(self, vector):
        return vector @ self.q.to(vector)

    def project(self, vector):
        return self.expand(self.coordinates(vector))

    def dense(self):
        return self.q


PLANE = Vector(SO(2))
ANGLES = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).cumsum(1)[:, [0, 3, 1, 2]]
STRETCH = MatrixBasis(torch.tensor([[1.0, 0, 0, -1], [0, 1, 1, 0]]).mT.double() / math.sqrt(2))
CASES = {
    "no basis": ((2, 3), []),
    "a number": ((), []),
    "one basis": ((4, 7), [equivariant_maps((2 * Vector + Scalar)(O(3)), (Vector + Scalar)(O(3)))]),
    "orbits": ((3, 3), [equivariant_maps(Vector(S(3)), Vector(S(3)))]),
    "a bias": ((5,), [equivariant_basis((2 * Scalar + Vector)(O(3)))]),
    "two bases": ((2, 2), [equivariant_maps(PLANE, PLANE), MatrixBasis(STRETCH.q[:, :1])]),
    "two bases that fill the space": ((2, 2), [equivariant_maps(PLANE, PLANE), STRETCH]),
    "one basis inside another": ((2, 2), [equivariant_maps(PLANE, PLANE), equivariant_maps(*[Vector(Trivial(2))] * 2)]),
    "bases at an angle": (
        (2, 3),
        [MatrixBasis(torch.linalg.qr(ANGLES[:, :3])[0]), MatrixBasis(torch.linalg.qr(ANGLES[:, 2:])[0])],
    ),
    "the same basis twice": ((2, 2), [STRETCH, STRETCH]),
    "everything": ((2, 2), [equivariant_maps(Vector(Trivial(2)), Vector(Trivial(2)))]),
    "an empty basis": ((1, 3), [equivariant_maps(Vector(O(3)), Scalar(O(3)))]),
}
BATCHES = [(), (3,), (2, 3)]


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relative_of(shape, bases):
    """Other variances for each coordinate, of all bases but the second."""
    sizes = [basis.rank for basis in bases] or [math.prod(shape)]
    return [None if index == 1 else numbers(size, seed=40 + index).exp() for index, size in enumerate(sizes)]


RELATIVE = {f"{case}, relative": relative_of(*CASES[case]) for case in CASES if case != "a number"}
CASES |= {case: CASES[case.removesuffix(", relative")] for case in RELATIVE}
cases = pytest.mark.parametrize("case", CASES)


def variances(case, batch, seed=0):
    dense = numbers(*batch, seed=seed).exp()
    return dense, [numbers(*batch, seed=seed + 1 + k).exp() for k in range(len(CASES[case][1]))]


def build(case, dense, pathways):
    shape, bases = CASES[case]
    return PathwayNormal(shape, dense, bases, pathways, RELATIVE.get(case))


def covariance(case, dense, pathways):
    shape, bases = CASES[case]
    first, *_ = relative = RELATIVE.get(case, [None] * max(1, len(bases)))
    whole = torch.ones(math.prod(shape)).double() if bases or first is None else first
    result = dense[..., None, None] * whole.diag()
    for basis, v, d in zip(bases, pathways, relative, strict=False):
        scaled = basis.dense() if d is None else basis.dense() * d
        result = result + v[..., None, None] * (scaled @ basis.dense().mT)
    return result


def twin(case, dense, pathways):
    sigma = covariance(case, dense, pathways)
    return MultivariateNormal(torch.zeros(sigma.shape[-1]).double(), sigma)


def flat(case, value):
    shape = CASES[case][0]
    return value.reshape(*value.shape[: value.ndim - len(shape)], math.prod(shape))


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def test_log_density_and_moments_are_those_of_the_dense_normal(subtests):
    for case in CASES:
        for batch in BATCHES:
            with subtests.test(msg=f"{case}, batch {batch}"):
                settings, shape = variances(case, batch), CASES[case][0]
                ours, dense = build(case, *settings), twin(case, *settings)
                assert ours.batch_shape == batch
                assert ours.event_shape == shape
                value = numbers(4, *batch, *shape, seed=9)
                close(ours.log_prob(value), dense.log_prob(flat(case, value)))
                close(ours.log_prob(value[0]), dense.log_prob(flat(case, value[0])))
                close(ours.entropy(), dense.entropy())
                close(ours.mean, torch.zeros((*batch, *shape)).double())
                close(flat(case, ours.variance), dense.variance)


def test_divergence_is_that_of_the_dense_normals(subtests):
    for case in CASES:
        for batch in BATCHES:
            with subtests.test(msg=f"{case}, batch {batch}"):
                first, second = variances(case, batch), variances(case, batch, seed=20)
                ours = kl_divergence(build(case, *first), build(case, *second))
                close(ours, kl_divergence(twin(case, *first), twin(case, *second)))


def test_divergence_between_relative_variances_and_equal_ones(subtests):
    for case in RELATIVE:
        if "angle" in case or "inside" in case or "twice" in case:
            continue  # other eigenvectors
        equal, settings = case.removesuffix(", relative"), variances(case, (3,))
        for first, second in ((case, equal), (equal, case)):
            with subtests.test(msg=f"{first} from {second}"):
                ours = kl_divergence(build(first, *settings), build(second, *settings))
                close(ours, kl_divergence(twin(first, *settings), twin(second, *settings)))


def test_divergence_between_other_bases_is_not_made_up():
    plain, planar = PathwayNormal((2, 2), 1.0), build("two bases", torch.ones(()), [torch.ones(())] * 2)
    for pair in ((plain, planar), (planar, plain), (plain, PathwayNormal((4,), 1.0))):
        with pytest.raises(NotImplementedError, match="same bases"):
            kl_divergence(*pair)


def test_expand_repeats_the_law(subtests):
    for case in CASES:
        with subtests.test(msg=case):
            settings, shape = variances(case, (3,)), CASES[case][0]
            narrow = build(case, *settings)
            wide = narrow.expand((2, 3))
            value = numbers(2, 3, *shape)
            assert wide.batch_shape == (2, 3)
            close(wide.log_prob(value), narrow.log_prob(value))
            assert wide.sample((5,)).shape == (5, 2, 3, *shape)
            assert wide.sample().dtype == torch.float64


@pytest.mark.statistical
@cases
def test_samples_have_the_covariance(case):
    settings, count = variances(case, ()), 40_000
    torch.manual_seed(shifted())
    draws, sigma = flat(case, build(case, *settings).rsample((count,))), covariance(case, *settings)
    variances_of_products = torch.outer(sigma.diagonal(), sigma.diagonal()) + sigma**2
    z_second = (draws.mT @ draws / count - sigma) / (variances_of_products / count).sqrt()
    z_first = draws.mean(0) / (sigma.diagonal() / count).sqrt()
    assert torch.cat([z_first, z_second.flatten()]).abs().max() < z_limit(z_first.numel() + z_second.numel())


@cases
def test_samples_differentiate_as_a_square_root(case):
    """With X = N S for noise N, S^T S = Sigma and S'^T S + S^T S' = Sigma' along every variance."""
    dense, pathways = variances(case, ())
    n = math.prod(CASES[case][0])

    def draw(*settings):
        torch.manual_seed(0)
        return flat(case, build(case, settings[0], list(settings[1:])).rsample((n,)))

    torch.manual_seed(0)
    noise = flat(case, PathwayNormal(CASES[case][0], torch.ones(()).double()).sample((n,)))
    root = torch.linalg.solve(noise, draw(dense, *pathways))
    torch.testing.assert_close(root.mT @ root, covariance(case, dense, pathways), rtol=1e-8, atol=1e-8)
    if "angle" not in case:
        torch.testing.assert_close(root, root.mT, rtol=1e-8, atol=1e-8)
    slopes = torch.autograd.functional.jacobian(lambda *v: draw(*v), (dense, *pathways))
    expected = torch.autograd.functional.jacobian(lambda *v: covariance(case, v[0], v[1:]), (dense, *pathways))
    for slope, sigma_slope in zip(slopes, expected, strict=True):
        root_slope = torch.linalg.solve(noise, slope)
        actual = root_slope.mT @ root + root.mT @ root_slope
        torch.testing.assert_close(actual, sigma_slope, rtol=1e-8, atol=1e-8)


@cases
def test_log_density_differentiates_as_the_dense_one(case):
    dense, pathways = variances(case, ())
    value = numbers(*CASES[case][0], seed=9)

    def ours(value, *v):
        return build(case, v[0], list(v[1:])).log_prob(value)

    def theirs(value, *v):
        return twin(case, v[0], v[1:]).log_prob(flat(case, value))

    inputs = (value, dense, *pathways)
    for derivative in (torch.autograd.functional.jacobian, torch.autograd.functional.hessian):
        for actual, expected in zip(derivative(ours, inputs), derivative(theirs, inputs), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def test_single_precision_survives_a_ratio_of_ten_million():
    shape, (basis,) = CASES["one basis"]
    narrow, wide, count = 1e-7, 1.0, 50
    value = (basis.expand(numbers(count, basis.rank)) + math.sqrt(narrow) * numbers(count, basis.size)).float()
    sigma = covariance("one basis", torch.tensor(narrow).double(), [torch.tensor(wide).double()])
    exact = MultivariateNormal(torch.zeros(basis.size).double(), sigma).log_prob(value.double())
    ours = PathwayNormal(shape, narrow, [basis], [wide]).log_prob(value.reshape(count, *shape))
    assert ours.dtype == torch.float32
    assert (ours - exact).abs().max() < 2e-2
    naive = (value.square().sum(1) - basis.coordinates(value).square().sum(1)) / narrow
    residual = (value.double() - basis.project(value.double())).square().sum(1) / narrow
    assert (naive - residual).abs().max() > 1


def test_numbers_stay_exact_and_samples_are_single():
    ours = PathwayNormal((3,), 0.1)
    assert ours.sample().dtype == torch.float32
    value = numbers(3)
    close(
        ours.log_prob(value),
        MultivariateNormal(torch.zeros(3).double(), 0.1 * torch.eye(3, dtype=torch.float64)).log_prob(value),
    )


def test_pyro_samples_from_it_and_scores_it():
    def program():
        with pyro.plate("copies", 3):
            return pyro.sample("w", build("two bases", torch.tensor(0.5), [torch.tensor(2.0), torch.tensor(0.1)]))

    torch.manual_seed(0)
    trace = pyro.poutine.trace(program).get_trace()
    value = trace.nodes["w"]["value"]
    assert value.shape == (3, 2, 2)
    expected = build("two bases", torch.tensor(0.5), [torch.tensor(2.0), torch.tensor(0.1)]).log_prob(value).sum()
    torch.testing.assert_close(trace.log_prob_sum(), expected)
    assert isinstance(trace.nodes["w"]["fn"], dist.TorchDistribution)


@cases
def test_vmap_over_values_and_variances_is_a_loop(case):
    (dense, pathways), (shape, bases) = variances(case, (3,)), CASES[case]
    value = numbers(3, *shape)

    def score(value, dense, *pathways):
        return PathwayNormal(shape, dense, bases, pathways, RELATIVE.get(case), validate_args=False).log_prob(value)

    expected = twin(case, dense, pathways).log_prob(flat(case, value))
    close(torch.func.vmap(score)(value, dense, *pathways), expected)
    gradient = torch.func.vmap(torch.func.grad(score))(value, dense, *pathways)
    close(flat(case, gradient), -torch.linalg.solve(covariance(case, dense, pathways), flat(case, value)))
